"""Two records of one customer that should be the same: what differs.

The comparison is exact, bit for bit, for a customer whose events came from one partition. Events of
several partitions may have been folded in another order; the sums then agree to rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_scorer.core.features import csr
from stream_scorer.core.features.erasure import boundary_sources
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import pack
from stream_scorer.result import Result

ROUNDING = 1e-5  # relative, of float32 sums in another order


@dataclass(frozen=True)
class Difference(Result):
    """What of a customer's record differs: a column's name, or part of the record's head."""

    customer_id: str
    what: str
    stored: float | str
    recomputed: float | str


def differences(
    stored: CustomerStates,
    recomputed: CustomerStates,
    space: FeatureSpace,
    *,
    forgets: bool = False,
) -> list[Difference]:
    """All that differs; row i of both is the same customer.

    forgets: the store removes records of forgotten customers. Who comes back then has a new record
    without the offsets of sources from before, and those are not compared.
    """
    ours, theirs = pack(stored, 0), pack(recomputed, 0)
    found: list[Difference] = []
    for row in [i for i in range(len(ours)) if ours[i] != theirs[i]]:
        one = np.array([row])
        found += _of_one(take(stored, one), take(recomputed, one), space, forgets)
    return found


def _of_one(
    stored: CustomerStates, recomputed: CustomerStates, space: FeatureSpace, forgets: bool
) -> list[Difference]:
    customer, a, b = stored.customer_ids[0], stored.arrays, recomputed.arrays
    ours, theirs = _offsets(stored), _offsets(recomputed)
    if forgets:
        theirs = {source: offset for source, offset in theirs.items() if source in ours}
    heads = {
        "newest event time": (_moment(a.newest_ms), _moment(b.newest_ms)),
        "offsets": (_in_words(ours), _in_words(theirs)),
        "remembered event ids": (f"{a.recent_id.tolist()}", f"{b.recent_id.tolist()}"),
    }
    found = [
        Difference(customer, what, *pair) for what, pair in heads.items() if pair[0] != pair[1]
    ]
    # Both as of one moment, or decay alone would make them differ; NEVER is below 0.
    as_of = np.maximum(np.maximum(a.newest_ms, b.newest_ms), 0)
    mine, other = (csr.build(s, space, as_of).toarray()[0] for s in (stored, recomputed))
    # Of several partitions the order of reading is not known again, and float32 sums depend on it.
    in_order = int((~boundary_sources(b)).sum()) <= 1 or "offsets" in {d.what for d in found}
    same = mine == other if in_order else np.isclose(mine, other, rtol=ROUNDING, atol=ROUNDING)
    for column in np.flatnonzero(~same).tolist():
        name = space.column_name(column)
        found.append(Difference(customer, name, float(mine[column]), float(other[column])))
    # The records differ in bits, yet no column does: low parts, or entries between `FADED` and
    # `INVISIBLE`.
    same_sources = _offsets(stored) == _offsets(recomputed)
    if not found and in_order and same_sources:
        found.append(Difference(customer, "values too faint to be seen", "differ", "differ"))
    return found


def _moment(newest_ms: np.ndarray) -> str:  # type: ignore[type-arg]
    at = int(newest_ms[0])
    return "none" if at < 0 else f"{np.datetime64(at, 'ms')}Z"


def _offsets(states: CustomerStates) -> dict[tuple[int, int], int]:
    """By (topic, partition)."""
    a = states.arrays
    sources = zip(a.source_topic.tolist(), a.source_partition.tolist(), strict=True)
    return dict(sorted(zip(sources, a.source_offset.tolist(), strict=True)))


def _in_words(offsets: dict[tuple[int, int], int]) -> str:
    found = (f"{partition}:{offset}" for (_, partition), offset in offsets.items())
    return ", ".join(found) or "none"
