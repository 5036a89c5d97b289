"""Customers' records in this process: the store of replays and backtests.

It behaves as redis.py does, checked by the same contract tests, but is gone with its process.

All records lie one after another in one array, in the form of words that Redis held before records
were packed (core/features/state_codec.py), so that one compiled call reads or writes many. A
changed record goes to the end, and what it replaces is outdated. When the array is full, the
records in use move to a new one of twice their size. So memory is at most about four times the
records (both arrays while they move), and grows with customers, not with events.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stream_scorer.core.events.batch import Bool, Int64, TopicPartition
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import (
    in_words,
    joined_spans,
    put_words,
    rows_behind,
    unpack_words,
)
from stream_scorer.errors import StoreRewound
from stream_scorer.io.stores.store import Epochs

FIRST_WORDS = 1 << 16
FIRST_CUSTOMERS = 1024


class MemoryStore:
    """Records by customer id."""

    def __init__(self, fingerprint: int) -> None:
        self._fingerprint = fingerprint
        self._number: dict[str, int] = {}
        self._words = np.empty(FIRST_WORDS, np.uint32)
        self._used = self._live = 0  # words written, and those of them that are not outdated
        self._start = np.zeros(FIRST_CUSTOMERS, np.int64)  # by customer number
        self._length = np.zeros(FIRST_CUSTOMERS, np.int64)
        self._watermarks: dict[TopicPartition, int] = {}
        self._epochs: dict[TopicPartition, tuple[int, int]] = {}  # with their watermarks

    def __len__(self) -> int:
        return len(self._number)

    @property
    def record_bytes(self) -> int:
        """The size of all customers' records together."""
        return 4 * self._live

    @property
    def resident_bytes(self) -> int:
        """The size of the arrays that hold the records, without customer ids."""
        return self._words.nbytes + self._start.nbytes + self._length.nbytes

    def load(self, customer_ids: list[str]) -> CustomerStates:
        """States of these customers, row i is customer_ids[i]."""
        where = self._where(self._numbers(customer_ids))
        return unpack_words(customer_ids, self._words, *where, self._fingerprint)

    def save(
        self, states: CustomerStates, rows: Int64, made_from: CustomerStates | None = None
    ) -> Int64:
        """Write `rows` (k,) int64 of states. Returns those refused: the store has newer ones.

        made_from: the same customers as they were loaded; None: as `states`.
        """
        numbers = self._numbers([states.customer_ids[i] for i in rows.tolist()])
        loaded = states if made_from is None else made_from
        refused: Bool = rows_behind(loaded.arrays, rows, self._words, *self._where(numbers))
        self._write(take(states, rows[~refused]), numbers[~refused])
        return rows[refused]

    def watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The next offset that the store needs of each partition that it knows."""
        return {tp: self._watermarks[tp] for tp in partitions if tp in self._watermarks}

    def watermark_epochs(
        self, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """The watermark that last moved with a leader epoch, and that epoch; of no meaning where
        the watermark is another one by now."""
        return {tp: self._epochs[tp] for tp in partitions if tp in self._epochs}

    def begin(self, offsets: dict[TopicPartition, int]) -> None:
        """A partition new to the store starts at its offset. Raises StoreRewound where the store
        holds less: what lies between would never be read."""
        behind = {tp: m for tp, m in self.watermarks(list(offsets)).items() if m < offsets[tp]}
        if behind:
            raise StoreRewound(behind)
        for tp, offset in offsets.items():
            self._watermarks.setdefault(tp, offset)

    def release(self, partitions: list[TopicPartition]) -> None:
        """This owner no longer reads these partitions."""

    def advance(
        self, next_offsets: dict[TopicPartition, int], epochs: Epochs | None = None
    ) -> None:
        """Move watermarks: every event below `next_offsets` is saved."""
        for tp, offset in next_offsets.items():
            if offset > self._watermarks.get(tp, -1):
                self._watermarks[tp] = offset
                if epochs and tp in epochs:
                    self._epochs[tp] = offset, epochs[tp]

    def scan(self, batch_customers: int = 1000) -> Iterator[CustomerStates]:
        """All customers in the order of their ids, a batch at a time."""
        ids = sorted(self._number)
        for i in range(0, len(ids), batch_customers):
            yield self.load(ids[i : i + batch_customers])

    def _numbers(self, customer_ids: list[str]) -> Int64:
        """(B,) numbers of customers, -1 for those without a record."""
        get = self._number.get
        return np.fromiter((get(i, -1) for i in customer_ids), np.int64, len(customer_ids))

    def _where(self, numbers: Int64) -> tuple[Int64, Int64]:
        """Where their records start, and how many words they have: 0 for customers without one."""
        # Number -1 picks some other customer's start, which 0 words make harmless.
        return self._start[numbers], np.where(numbers >= 0, self._length[numbers], 0)

    def _write(self, states: CustomerStates, numbers: Int64) -> None:
        """Store `states` as the records of customers `numbers`; -1 (new) is filled in."""
        for i in np.flatnonzero(numbers < 0).tolist():
            numbers[i] = self._number.setdefault(states.customer_ids[i], len(self._number))
        while len(self._number) > len(self._start):
            self._start = np.concatenate([self._start, np.zeros_like(self._start)])
            self._length = np.concatenate([self._length, np.zeros_like(self._length)])
        needed = in_words(states)
        self._live += needed - int(self._length[numbers].sum())
        if self._used + needed > len(self._words):
            self._make_room(numbers, needed)
        at = put_words(self._words[self._used : self._used + needed], states, self._fingerprint)
        self._start[numbers], self._length[numbers] = self._used + at[:-1], np.diff(at)
        self._used += needed

    def _make_room(self, outdated: Int64, needed: int) -> None:
        """Move the records in use to a new array with room for as much again."""
        self._length[outdated] = 0
        words, at = joined_spans(self._words, self._start, self._length)
        self._words = np.empty(max(FIRST_WORDS, 2 * (len(words) + needed)), np.uint32)
        self._words[: len(words)] = words
        self._start, self._used = at[:-1].copy(), len(words)
