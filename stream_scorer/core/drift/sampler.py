"""Which customers of a micro-batch are sampled: always the same ones, and few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.drift.followed import UInt64, customer_hashes, has_rank, rank_of_share
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.state import Float32

# Of one member. They cost it as much as 600 customers more, whatever else it does in the minute.
MOST_ROWS_A_MINUTE = 600
MINUTE_MS = 60_000


class SampledRows(NamedTuple):
    """What was scored of S sampled customers: hashes (S,) uint64; as_of_ms (S,) int64; matrix (S,
    F) float32 CSR; p (S, N) float32, the probability of acting. counted (S,): whether a row is one
    of those that are counted; all are followed where their rank says so. dropped: rows that are not
    counted as the minute has its rows."""

    hashes: UInt64
    as_of_ms: Int64
    scored_at_ms: int
    matrix: sparse.csr_matrix
    p: Float32
    counted: Bool
    dropped: int


class Sampler:
    """one_in: one of so many customers is sampled, rounded up to a power of two.

    follow_rank: customers of at least this rank are sampled whatever the minute has already; it is
    set by whoever follows them.
    """

    def __init__(self, one_in: int, most_a_minute: int = MOST_ROWS_A_MINUTE) -> None:
        self.rank = self.follow_rank = rank_of_share(one_in)
        self._most, self._minute, self._taken = most_a_minute, -1, 0

    def choose(self, keys: Sequence[bytes], now_ms: int) -> tuple[Int64, UInt64, Bool, int]:
        """Of B customers, by their ids in UTF-8: the positions (S,) of the sampled ones, their
        hashes (S,), which of them are counted (S,), and how many were dropped."""
        if now_ms // MINUTE_MS != self._minute:
            self._minute, self._taken = now_ms // MINUTE_MS, 0
        hashes = customer_hashes(keys)
        rows = np.flatnonzero(has_rank(hashes, self.rank))
        room = self._most - self._taken
        counted = np.arange(len(rows)) < room
        self._taken += int(counted.sum())
        taken = counted | has_rank(hashes[rows], self.follow_rank)
        dropped = len(rows) - int(counted.sum())
        return rows[taken], hashes[rows[taken]], counted[taken], dropped
