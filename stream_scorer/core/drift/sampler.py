"""Which customers of a micro-batch are sampled: always the same ones, and few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.drift.followed import UInt64, customer_hashes, has_rank, rank_of_share
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32

# Of one member. Scoring and counting them costs about 30 ms, whatever else it does in the minute.
MOST_ROWS_A_MINUTE = 600
MINUTE_MS = 60_000


class SampledRows(NamedTuple):
    """What was scored of S sampled customers: hashes (S,) uint64; as_of_ms (S,) int64; matrix (S,
    F) float32 CSR; p (S, N) float32, the probability of acting. passed_over: customers who were not
    looked at, as the minute has its rows."""

    hashes: UInt64
    as_of_ms: Int64
    scored_at_ms: int
    matrix: sparse.csr_matrix
    p: Float32
    passed_over: int


class Sampler:
    """one_in: one of so many customers is sampled, rounded up to a power of two.

    Of a minute the first rows are taken. Then nobody is looked at until the next one: to hash all
    customers of a busy member would cost some hundredths of its time.
    """

    def __init__(self, one_in: int, most_a_minute: int = MOST_ROWS_A_MINUTE) -> None:
        self.rank = rank_of_share(one_in)
        self._most, self._minute, self._taken = most_a_minute, -1, 0

    def choose(self, keys: Sequence[bytes], now_ms: int) -> tuple[Int64, UInt64]:
        """Of B customers, by their ids in UTF-8: the positions (S,) of the sampled ones, and their
        hashes (S,)."""
        if now_ms // MINUTE_MS != self._minute:
            self._minute, self._taken = now_ms // MINUTE_MS, 0
        room = self._most - self._taken
        if room <= 0:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        hashes = customer_hashes(keys)
        rows = np.flatnonzero(has_rank(hashes, self.rank))[:room]
        self._taken += len(rows)
        return rows, hashes[rows]

    @property
    def full(self) -> bool:
        """Whether the minute has its rows."""
        return self._taken >= self._most
