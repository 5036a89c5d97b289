"""What the fold's compiled loop works on, as named tuples of arrays: a feature declaration, a batch
of events, and the memory that a thread works in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Float64, Int32, Int64, UInt8
from stream_scorer.core.features.moments import StoredMoments, stored_moments
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import Float32, UInt32, UInt64
from stream_scorer.jit import kernel

MOST_HALVINGS = 126  # after more of them nothing that matters is left of a float32

HINT_BITS = 14  # the hints stay in the processor's own cache

# What became of an event.
APPLIED, REDELIVERED, DUPLICATE_ID, FORGOTTEN, ERASED = range(5)

# What an event changes of a feature: sums alone, or stamps: the newest of each key, the newest of
# all keys, the earliest of each key, or both the earliest and the newest of each, side by side.
DECAYED, STAMP_BY_COLUMN, STAMP_OF_BLOCK, FIRST_STAMP, TWO_STAMPS, NOT_FOLDED = range(6)
STAMPS = STAMP_BY_COLUMN, STAMP_OF_BLOCK, FIRST_STAMP, TWO_STAMPS


class Memory(NamedTuple):
    """What customers' records remember.

    event_ids: of so many of its last events a record keeps the ids, to drop what producers sent
    twice; 0: of none. time_to_live_ms: after this time without an event a customer is forgotten,
    see fold.py; 0: never.
    """

    event_ids: int = 0
    time_to_live_ms: int = 0


class SumBlocks(NamedTuple):
    """S blocks of sums: columns start to stop (S,); which half-life decays them (S,), D for one
    that never ends; the group (S,) whose keys they have."""

    start: Int64
    stop: Int64
    decay: Int32
    group: Int32


class Plan(NamedTuple):
    """A FeatureSpace as arrays: F features, S blocks of sums, D distinct half-lives, G groups.

    kind (F,); feature f has the blocks of sums first_block[f]..first_block[f + 1]. half_life_ms
    (D,). stamp_start, stamp_stop (F,): the columns of a feature's stamps. Features of sums by the
    same fields are one group, as an event has one key for all of them: group g is the features
    member[group_first[g]..group_first[g + 1]], and its first column is group_column (G,). stamped:
    the features with stamps. A feature that shows what another one stores is NOT_FOLDED; the count
    of events of moments.py is a block of sums of the feature that stores it.
    """

    kind: UInt8
    first_block: Int32
    blocks: SumBlocks
    half_life_ms: Int64
    stamp_start: Int64
    stamp_stop: Int64
    group_first: Int32
    member: Int32
    group_column: Int64
    stamped: Int32


def plan_of(space: FeatureSpace) -> Plan:
    """The declaration's plan; `space.derived(plan_of)` makes it only once."""
    kinds = [_kind(feature) for feature in space.features]
    counted = []
    for stored in stored_moments(space):
        owner = space.blocks[stored.blocks[0]]
        kinds[owner.feature] = _stamps(stored)
        if stored.count:
            counted.append(owner)
    sums = [b for b in space.blocks if kinds[b.feature] == DECAYED or b in counted]
    groups: dict[object, list[int]] = {}
    for number, feature in enumerate(space.features):
        if any(b.feature == number for b in sums):
            groups.setdefault((feature.by, feature.buckets), []).append(number)
    group_of = {f: g for g, members in enumerate(groups.values()) for f in members}
    # A count does not fade, whatever the half-life of the block at whose columns it stands.
    fading = [None if b in counted else b.half_life_ms for b in sums]
    halves = sorted({h for h in fading if h is not None})
    decays = [len(halves) if h is None else halves.index(h) for h in fading]
    blocks_of = [sum(b.feature == f for b in sums) for f in range(len(kinds))]
    first_block = {b.feature: b for b in reversed(space.blocks)}
    return Plan(
        kind=np.array(kinds, np.uint8),
        first_block=np.concatenate([[0], np.cumsum(blocks_of)]).astype(np.int32),
        blocks=SumBlocks(
            start=np.array([b.start for b in sums], np.int64),
            stop=np.array([b.stop for b in sums], np.int64),
            decay=np.array(decays, np.int32),
            group=np.array([group_of[b.feature] for b in sums], np.int32),
        ),
        half_life_ms=np.array(halves, np.int64),
        stamp_start=np.array([first_block[f].start for f in range(len(kinds))], np.int64),
        stamp_stop=np.array([first_block[f].stop for f in range(len(kinds))], np.int64),
        group_first=np.concatenate([[0], np.cumsum([len(m) for m in groups.values()])]).astype(
            np.int32
        ),
        member=np.array([f for members in groups.values() for f in members], np.int32),
        group_column=np.array([first_block[m[0]].start for m in groups.values()], np.int64),
        stamped=np.array([f for f, k in enumerate(kinds) if k in STAMPS], np.int32),
    )


def _kind(feature: Feature) -> int:
    if feature.kind == "latest":
        return STAMP_BY_COLUMN if isinstance(feature.value, str) else STAMP_OF_BLOCK
    return DECAYED if feature.kind == "decayed" else NOT_FOLDED


def _stamps(stored: StoredMoments) -> int:
    if stored.first and stored.last:
        return TWO_STAMPS
    return FIRST_STAMP if stored.first else STAMP_BY_COLUMN


class Stream(NamedTuple):
    """n events, ordered by customer (n,) int32, each customer's in stream order.

    source (n,) int32 into topic and partition; offset, occurred_ms (n,) int64.
    key (n, K), slot (F,), constant (F,), numbers (n, W), number (F,): as in keys.Keys. ids (n,) of
    the events where memory.event_ids is above zero.
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
    memory: Memory

    def take(self, rows: Int64) -> Stream:
        """Only `rows` (k,), in the order given."""
        return self._replace(
            **_rows_of(self, rows)._asdict(),
            ids=self.ids[rows] if self.memory.event_ids else self.ids,
        )


class _EventColumns(NamedTuple):
    """The fields of a Stream that have one row for each event."""

    customer: Int32
    source: Int32
    offset: Int64
    occurred_ms: Int64
    key: Int32
    numbers: Float64


@kernel
def _rows_of(stream, rows):  # type: ignore[no-untyped-def]
    """All columns in one pass: a quarter less time than numpy's, column by column."""
    n, slots, weights = len(rows), stream.key.shape[1], stream.numbers.shape[1]
    taken = _EventColumns(
        np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int64),
        np.empty((n, slots), np.int32), np.empty((n, weights), np.float64),
    )  # fmt: skip
    for i in range(n):
        e = rows[i]
        taken.customer[i], taken.source[i] = stream.customer[e], stream.source[e]
        taken.offset[i], taken.occurred_ms[i] = stream.offset[e], stream.occurred_ms[e]
        for k in range(slots):
            taken.key[i, k] = stream.key[e, k]
        for w in range(weights):
            taken.numbers[i, w] = stream.numbers[e, w]
    return taken


class DecayTables(NamedTuple):
    """power: 2^-n by number of halvings n. The others (D + 1,) by half-life, the last being the one
    that never ends: the customer's landmark and the event's time in whole half-lives; 2^remainder
    of that time; 2^-(how far the event lies behind the landmark); how far the landmark moved."""

    power: Float32
    landmark: Int64
    whole: Int64
    part: Float64
    scale: Float32
    moved: Int64


class SumTables(NamedTuple):
    """One customer's sums as fold_sums.py lays them out.

    By block: entry_at (S + 1,), where its entries begin in the old record; lane_at (S + 1,), where
    its lane begins in values and in low, and where the last one ends. low: the low part of each
    value, NaN where it has none; written only for a customer who has any. By group (G,): key_at,
    where its part of arrived, ascending and position_of begins; keys, how many there are. hint: by
    the low bits of a column, the position at which its key, or in the record its stamp, was last
    seen.
    """

    entry_at: Int64
    lane_at: Int64
    key_at: Int64
    keys: Int64
    arrived: Int32
    ascending: Int32
    position_of: Int32
    values: Float32
    low: Float32
    hint: Int32


class Work(NamedTuple):
    """Memory for what the loop keeps of the customer at hand; a thread has its own."""

    decay: DecayTables
    sums: SumTables


def work_for(plan: Plan) -> Work:
    """Memory for one thread."""
    halves, groups = len(plan.half_life_ms) + 1, len(plan.group_column)
    blocks = len(plan.blocks.start)
    decay = DecayTables(
        power=(2.0 ** -np.arange(MOST_HALVINGS + 1)).astype(np.float32),
        landmark=np.zeros(halves, np.int64),
        whole=np.zeros(halves, np.int64),
        part=np.ones(halves),
        scale=np.ones(halves, np.float32),
        moved=np.zeros(halves, np.int64),
    )
    sums = SumTables(
        entry_at=np.zeros(blocks + 1, np.int64),
        lane_at=np.zeros(blocks + 1, np.int64),
        key_at=np.zeros(groups, np.int64),
        keys=np.zeros(groups, np.int64),
        arrived=np.empty(1024, np.int32),
        ascending=np.empty(1024, np.int32),
        position_of=np.empty(1024, np.int32),
        values=np.empty(8192, np.float32),
        low=np.empty(8192, np.float32),
        hint=np.zeros(1 << HINT_BITS, np.int32),
    )
    return Work(decay, sums)
