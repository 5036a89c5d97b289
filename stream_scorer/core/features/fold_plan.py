"""What the fold's compiled loop works on, as arrays.

Lives here: a feature declaration, a batch and a thread's working room in the form that the loop
takes. Must not live here: the loop (fold_kernel.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Float64, Int32, Int64, UInt8
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import Float32, UInt32, UInt64
from stream_scorer.jit import kernel

MOST_HALVINGS = 126  # of which a float32 that matters has anything left

PLACE_BITS = 14  # the table of places stays in the processor's own cache

DECAYED, STAMP_BY_COLUMN, STAMP_OF_BLOCK, NOT_FOLDED = range(4)
STAMPS = STAMP_BY_COLUMN, STAMP_OF_BLOCK


class Plan(NamedTuple):
    """A FeatureSpace as arrays: F features, S blocks of sums, D distinct half-lives.

    kind (F,); feature f has the blocks of sums first[f]..first[f + 1]. sum_start, sum_stop (S,) are
    their columns; decay (S,) says which half-life, D for one that never ends. half_life (D,) ms.
    stamp_start, stamp_stop (F,): the columns of recency and latest. Features of sums by the same
    fields are one of G groups, as an event has one key for all of them: group g is the features
    member[group_first[g]..group_first[g + 1]] and the blocks whose group (S,) is g; its first
    column is group_column (G,). stamped: the features with stamps.
    """

    kind: UInt8
    first: Int32
    sum_start: Int64
    sum_stop: Int64
    decay: Int32
    half_life: Int64
    stamp_start: Int64
    stamp_stop: Int64
    group_first: Int32
    member: Int32
    group: Int32
    group_column: Int64
    stamped: Int32


def plan_of(space: FeatureSpace) -> Plan:
    """The declaration's plan."""
    kinds = [_kind(feature) for feature in space.features]
    sums = [b for b in space.blocks if kinds[b.feature] == DECAYED]
    groups: dict[object, list[int]] = {}
    for number, feature in enumerate(space.features):
        if kinds[number] == DECAYED:
            groups.setdefault((feature.by, feature.buckets), []).append(number)
    group_of = {f: g for g, members in enumerate(groups.values()) for f in members}
    halves = sorted({b.half_life_ms for b in sums if b.half_life_ms is not None})
    blocks_of = [sum(b.feature == f for b in sums) for f in range(len(kinds))]
    first_block = {b.feature: b for b in reversed(space.blocks)}
    return Plan(
        np.array(kinds, np.uint8),
        np.concatenate([[0], np.cumsum(blocks_of)]).astype(np.int32),
        np.array([b.start for b in sums], np.int64),
        np.array([b.stop for b in sums], np.int64),
        np.array(
            [len(halves) if b.half_life_ms is None else halves.index(b.half_life_ms) for b in sums],
            np.int32,
        ),
        np.array(halves, np.int64),
        np.array([first_block[f].start for f in range(len(kinds))], np.int64),
        np.array([first_block[f].stop for f in range(len(kinds))], np.int64),
        np.concatenate([[0], np.cumsum([len(m) for m in groups.values()])]).astype(np.int32),
        np.array([f for members in groups.values() for f in members], np.int32),
        np.array([group_of[b.feature] for b in sums], np.int32),
        np.array([first_block[members[0]].start for members in groups.values()], np.int64),
        np.array([f for f, k in enumerate(kinds) if k in STAMPS], np.int32),
    )


def _kind(feature: Feature) -> int:
    if feature.kind == "latest":
        return STAMP_BY_COLUMN if isinstance(feature.value, str) else STAMP_OF_BLOCK
    kinds = {"decayed": DECAYED, "recency": STAMP_BY_COLUMN, "calendar": NOT_FOLDED}
    return kinds[feature.kind]


class Stream(NamedTuple):
    """n events, ordered by customer (n,) int32, each customer's in stream order.

    source (n,) int32 into topic and partition; offset, occurred_ms (n,) int64.
    key (n, K), slot (F,), constant (F,), numbers (n, W), number (F,): as in event_keys.Keys. ids
    (n,) of the events where `remember` is above zero.
    """

    customer: Int32
    source: Int32
    topic: UInt32
    partition: Int32
    offset: Int64
    occurred_ms: Int64
    key: Int32
    slot: Int32
    constant: Float64
    numbers: Float64
    number: Int32
    ids: UInt64
    remember: int

    def take(self, rows: Int64) -> Stream:
        """Only `rows` (k,), in the order given."""
        return self._replace(
            **dict(zip(BY_EVENT, _taken(rows, *(getattr(self, f) for f in BY_EVENT)), strict=True)),
            ids=self.ids[rows] if self.remember else self.ids,
        )


BY_EVENT = ("customer", "source", "offset", "occurred_ms", "key", "numbers")


@kernel
def _taken(rows, customer, source, offset, occurred_ms, key, numbers):  # type: ignore[no-untyped-def]
    """`rows` of all fields in one pass: a quarter less time than numpy's, field by field."""
    n = len(rows)
    customers, sources = np.empty(n, customer.dtype), np.empty(n, source.dtype)
    offsets, moments = np.empty(n, np.int64), np.empty(n, np.int64)
    keys, weights = np.empty((n, key.shape[1]), np.int32), np.empty((n, numbers.shape[1]))
    for i in range(n):
        e = rows[i]
        customers[i], sources[i] = customer[e], source[e]
        offsets[i], moments[i] = offset[e], occurred_ms[e]
        for k in range(key.shape[1]):
            keys[i, k] = key[e, k]
        for w in range(numbers.shape[1]):
            weights[i, w] = numbers[e, w]
    return customers, sources, offsets, moments, keys, weights


class Work(NamedTuple):
    """Room for what the loop keeps of the customer at hand; a thread's own. See `work_for`."""

    power: Float32
    landmark: Int64
    whole: Int64
    part: Float64
    scale: Float32
    moved: Int64
    entry_at: Int64
    lane_at: Int64
    key_at: Int64
    keys: Int64
    place: Int32


def work_for(plan: Plan) -> Work:
    """By number of halvings: power. By half-life, the last being what never fades: landmark and
    whole half-lives of the event, 2^remainder, how far behind the landmark, how far it moved. By
    block: where its entries begin in the old record (entry_at, one more than blocks), and its lane
    in the scratch area. By group: where its keys begin there, and how many it has. By the low bits
    of a column: the place of its key.
    """
    halves, blocks, groups = len(plan.half_life) + 1, len(plan.sum_start), len(plan.group_first) - 1
    return Work(
        (2.0 ** -np.arange(MOST_HALVINGS + 1)).astype(np.float32),
        np.zeros(halves, np.int64), np.zeros(halves, np.int64), np.ones(halves),
        np.ones(halves, np.float32), np.zeros(halves, np.int64),
        np.zeros(blocks + 1, np.int64), np.zeros(blocks, np.int64),
        np.zeros(groups, np.int64), np.zeros(groups, np.int64),
        np.zeros(1 << PLACE_BITS, np.int32),
    )  # fmt: skip
