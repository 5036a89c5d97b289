"""Where a record keeps the first and the last event of a key, and how many events it had.

Features of kind recency, first, gap and overdue that look at the same events by the same keys show
one stored state: it stands at the columns of the first of their blocks, and the others are shown
from there. It holds only what one of them needs. Of each key, at its column:

    first      a stamp of the earliest event      first, gap, overdue
    last       a stamp of the newest event        recency, gap, overdue
    count      a sum of ones                      gap, overdue

Where both stamps are kept they stand side by side, the first before the last. Features of recency
alone keep a stamp for each feature, as they always did: their records stay what they were.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from stream_scorer.core.features.space import Feature, FeatureSpace

KEEP_FIRST = frozenset({"first", "gap", "overdue"})
KEEP_LAST = frozenset({"recency", "gap", "overdue"})
COUNT = frozenset({"gap", "overdue"})
KINDS_OF_MOMENTS = KEEP_FIRST | KEEP_LAST


@dataclass(frozen=True)
class StoredMoments:
    """What is kept of each key at the columns of the first of `blocks`, ascending numbers of the
    blocks that show it."""

    blocks: tuple[int, ...]
    first: bool
    last: bool
    count: bool


def stored_moments(space: FeatureSpace) -> tuple[StoredMoments, ...]:
    """All that records of this declaration keep, in the order of their columns."""
    found: dict[Hashable, list[int]] = {}
    sharing = {_events_of(f) for f in space.features if f.kind in KEEP_FIRST}
    for number, block in enumerate(space.blocks):
        feature = space.features[block.feature]
        if feature.kind in KINDS_OF_MOMENTS:
            events = _events_of(feature)
            found.setdefault(events if events in sharing else block.feature, []).append(number)
    moments = []
    for blocks in found.values():
        kinds = {space.blocks[b].kind for b in blocks}
        moments.append(
            StoredMoments(
                tuple(blocks),
                bool(kinds & KEEP_FIRST),
                bool(kinds & KEEP_LAST),
                bool(kinds & COUNT),
            )
        )
    return tuple(moments)


def _events_of(feature: Feature) -> Hashable:
    """The events that a feature looks at, and their keys. A recency with a `value` sees only events
    that have one."""
    return feature.by, feature.buckets, frozenset(feature.on), feature.value
