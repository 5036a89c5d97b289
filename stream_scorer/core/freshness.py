"""Which published scores are due to be computed anew.

A customer's score is published as of a moment: of its newest event, or of a refresh since then. A
refresh leaves a mark of 28 bytes, which says to which event it belongs: once a newer event is
published the mark says nothing any more. Which model an event's record was scored with follows from
its offset: each partition keeps from which offset on which model was served.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import xxhash

from stream_scorer.core.events.batch import Bool, Int32, Int64
from stream_scorer.core.features.state import NEVER, CustomerStates, UInt64, topic_hash

# As many models as a partition remembers; older records count as of an unknown one.
MOST_SERVED = 20
UNKNOWN_MODEL = "unknown"
_MARK = np.dtype([("as_of_ms", "<i8"), ("offset", "<i8"), ("model", "<u8"), ("partition", "<i4")])


def round_start_ms(now_ms: int, every_ms: int) -> int:
    """When the round of `now_ms` began: rounds begin at whole multiples of `every_ms` since 1970
    UTC, so that all members agree without a word."""
    return now_ms // every_ms * every_ms


def newest_source(states: CustomerStates, topic: str) -> tuple[Int32, Int64]:
    """Partition (B,) int32 and offset (B,) int64 of the newest event from `topic`, -1 where none.

    As in output records: of several partitions the one with the highest offset.
    """
    a = states.arrays
    row = np.repeat(np.arange(len(states)), np.diff(a.source_at))
    mine = np.flatnonzero(a.source_topic == topic_hash(topic))
    order = mine[np.lexsort((a.source_offset[mine], row[mine]))]
    partition, offset = np.full(len(states), -1, np.int32), np.full(len(states), -1, np.int64)
    partition[row[order]], offset[row[order]] = a.source_partition[order], a.source_offset[order]
    return partition, offset


def newest_rows(
    customer_ids: Sequence[str], partition: Int32, offset: Int64, as_of_ms: Int64
) -> dict[str, int]:
    """By customer the row of its newest output record, of R records in the order of the topic;
    customers in the order of these rows.

    The newer one has the higher source offset, of equal offsets the later as-of time. Offsets of
    two partitions do not compare: where the input topic was given more, the later row is newer. A
    record without a source (-1), of a customer known from event files alone, is older than any
    event's.
    """
    newest: dict[str, int] = {}
    ranks = list(zip(offset.tolist(), as_of_ms.tolist(), strict=True))
    sources = partition.tolist()
    for row, customer in enumerate(customer_ids):
        known = newest.get(customer, row)
        elsewhere = sources[known] != sources[row] and min(sources[known], sources[row]) >= 0
        if elsewhere or ranks[row] >= ranks[known]:
            newest.pop(customer, None)
            newest[customer] = row
    return newest


def model_number(version: str) -> int:
    """The 64-bit name of a model version in marks."""
    return xxhash.xxh64_intdigest(version.encode())


class Published(NamedTuple):
    """What is known of B customers' newest output records: as_of_ms (B,) int64, `NEVER` where there
    is none; model (B,) uint64, `model_number` of its version."""

    as_of_ms: Int64
    model: UInt64


def published(
    states: CustomerStates,
    source: tuple[Int32, Int64],
    marks: Sequence[bytes | None],
    served: Sequence[str],
) -> Published:
    """Of B customers, from their marks and, where these say nothing, from their newest events.

    source: as `newest_source` gives it. served: the model version that each newest event's record
    was scored with.
    """
    partition, offset = source
    as_of = np.where(partition >= 0, states.arrays.newest_ms, NEVER)
    model = np.array([model_number(version) for version in served], np.uint64)
    held = [i for i, mark in enumerate(marks) if mark is not None and len(mark) == _MARK.itemsize]
    if held:
        rows = np.array(held, np.int64)
        found = np.frombuffer(b"".join(marks[i] or b"" for i in held), _MARK)
        same = (found["offset"] == offset[rows]) & (found["partition"] == partition[rows])
        rows, found = rows[same], found[same]
        as_of[rows], model[rows] = found["as_of_ms"], found["model"]
    return Published(as_of, model)


def packed_marks(as_of_ms: Int64, source: tuple[Int32, Int64], model: int) -> list[bytes]:
    """A mark for each of B customers whose refreshed record was confirmed."""
    found = np.empty(len(as_of_ms), _MARK)
    found["as_of_ms"], found["model"] = as_of_ms, model
    found["partition"], found["offset"] = source
    data, size = found.tobytes(), _MARK.itemsize
    return [data[i : i + size] for i in range(0, len(data), size)]


def is_due(known: Published, model: int, before_ms: int, as_of_ms: Int64) -> Bool:
    """(B,), whether a score is to be computed anew as of as_of_ms (B,): it was published as of a
    moment before `before_ms`, or by another model than `model`. Never back: where it was published
    as of a later moment, readers would take the new record for the older one.
    """
    old = (known.as_of_ms < before_ms) & (known.as_of_ms < as_of_ms)
    other = (known.model != np.uint64(model)) & (known.as_of_ms <= as_of_ms)
    return np.asarray(old | other)


@dataclass(frozen=True)
class PartitionFreshness:
    """What is kept of one partition of the input topic.

    until_ms: no customer's score is older than this, or was looked at since, 0: not known. model:
    the version that all were of then. answered: the last request that was done, and answer: how
    many customers it looked at, refreshed, and found unmoved. served: (offset, version), from which
    offset on which model scored the events. The rest is of the round that runs
    or ran last: began_ms, finished, and how many customers it has looked at and refreshed.
    """

    until_ms: int = 0
    model: str = ""
    answered: str = ""
    answer: tuple[int, int, int] = (0, 0, 0)
    served: tuple[tuple[int, str], ...] = ()
    began_ms: int = 0
    finished: bool = True
    share: float = 0.0
    read: int = 0
    refreshed: int = 0
    unmoved: int = 0

    @classmethod
    def of(cls, text: bytes | None) -> PartitionFreshness:
        """From `text`; what is damaged is as if it were not there, so that all is due."""
        try:
            found = json.loads(text or b"{}")
            known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
            served = tuple((int(o), str(v)) for o, v in known.pop("served", ()))
            read, refreshed, unmoved = map(int, known.pop("answer", (0, 0, 0)))
            return cls(**known, served=served, answer=(read, refreshed, unmoved))
        except (ValueError, TypeError):
            return cls()

    def text(self) -> str:
        """As it is stored."""
        return json.dumps(self.__dict__)

    def serving(self, version: str, offset: int) -> PartitionFreshness:
        """With events from `offset` on scored by `version`."""
        if self.served and self.served[-1][1] == version:
            return self
        earlier = tuple((o, v) for o, v in self.served if o < offset)
        return replace(self, served=(*earlier, (offset, version))[-MOST_SERVED:])

    def served_at(self, offset: int) -> str:
        """The model version that scored the event at `offset`."""
        for start, version in reversed(self.served):
            if offset >= start:
                return version
        return UNKNOWN_MODEL
