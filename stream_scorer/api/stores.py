"""The live store: today's feature vectors of some customers."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.api.moments import Moment, moment_ms
from stream_scorer.core.features import csr
from stream_scorer.core.features.forgetting import is_forgotten
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import NEVER, take
from stream_scorer.errors import InputError
from stream_scorer.live import consumer
from stream_scorer.settings.tree import Settings


class Vectors(NamedTuple):
    """matrix: (B, F) float32 CSR. as_of: (B,) datetime64[ms] in UTC, NaT for unknown customers."""

    matrix: sparse.csr_matrix
    as_of: npt.NDArray[np.datetime64]


class VectorStore:
    """Reads the vectors that the consumer keeps; it changes nothing. Open one with `open_store`.

    A context manager, which closes its connections.
    """

    def __init__(self, settings: Settings) -> None:
        self._space = settings.feature_space()
        self._memory = settings.memory()
        self._store = consumer.open_store(settings, self._space)

    @property
    def feature_space(self) -> FeatureSpace:
        """The features of the settings, whose columns the vectors have."""
        return self._space

    def vectors(self, ids: Sequence[str], as_of: Moment | None = None) -> Vectors:
        """The vectors of these customers, row i is ids[i]; one round trip to Redis.

        as_of: the moment of all rows, not before any customer's newest event; without it each
        customer's own newest event, as the consumer scores them. A customer that the store does not
        know, or who is forgotten as of as_of, has an empty row, and NaT as its moment.

        Raises StoreUnavailable where Redis does not answer, and once where it was restarted since
        the call before, as it may hold older vectors; FingerprintMismatch where the namespace
        holds vectors of other features, and InputError for an as_of that is too early.
        """
        states = self._store.load(list(ids))
        newest = states.arrays.newest_ms
        known = np.flatnonzero(newest != NEVER)
        moments = newest[known]
        if as_of is not None:
            at_ms = moment_ms(as_of, "as_of")
            known = known[~is_forgotten(moments, at_ms, self._memory)]
            moments = newest[known]
            if (moments > at_ms).any():
                latest = np.datetime64(int(moments.max()), "ms")
                raise InputError("as_of", as_of, f"give {latest}Z, the newest event, or later")
            moments = np.full(len(known), at_ms, np.int64)
        rows = csr.build(take(states, known), self._space, moments)
        counts = np.zeros(len(states), np.int64)
        counts[known] = np.diff(rows.indptr)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        matrix = sparse.csr_matrix(
            (rows.data, rows.indices, indptr), shape=(len(states), self._space.width)
        )
        times = np.full(len(states), np.datetime64("NaT", "ms"), "datetime64[ms]")
        times[known] = moments.astype("datetime64[ms]")
        return Vectors(matrix, times)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._store.close()

    def __enter__(self) -> VectorStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_store(settings: Settings) -> VectorStore:
    """The live store that the settings name. Connects when it is first asked."""
    return VectorStore(settings)
