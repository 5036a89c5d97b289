"""The same job as a good engineer would write it in an afternoon, for comparison only.

A consumer in plain Python: fastavro one record at a time, a customer's vector as a dictionary,
pickled in Redis, many customers per MGET and MSET, numpy for the matrix, and MXNet for the scores,
which are published as raw floats. It computes the same vectors from the same declaration. It has no
dead letters, skips no events by offset and keeps no watermarks, so it does not pay for them.

It is faster than one HINCRBYFLOAT for each feature of each event (`count_in_redis`), which is what
people write first. The same fold on Quix Streams and on Bytewax: peers/.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.bench.peers.declared_counts import DeclaredCounts, Vector
from stream_scorer.core.avro.schemas import schema_json
from stream_scorer.core.features.space import FeatureSpace

TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "none": lambda values: values,
    "log1p": np.log1p,
    "binary": np.sign,
}


# Of features, those that a peer's program computes.
KINDS = ("decayed", "recency")


def declaration(space: FeatureSpace) -> dict[str, Any]:
    """What `DeclaredCounts` is made of, as JSON has it. Raises ValueError for what it can't do."""
    blocks = []
    for block in space.blocks:
        feature = space.features[block.feature]
        if block.kind not in KINDS or len(block.fields) > 1:
            raise ValueError(
                f"feature {block.name}: the peers know decayed and recency, by a field"
            )
        field = block.fields[0] if block.fields else ""
        words = space.vocabularies[field] if field and not block.buckets else ()
        blocks.append(
            {
                "start": block.start, "half_life_ms": block.half_life_ms, "kind": block.kind,
                "on": feature.on, "value": feature.value, "by": field, "buckets": block.buckets,
                "words": words,
            }
        )  # fmt: skip
    return {"blocks": blocks, "schema": json.loads(schema_json("customer_event"))}


def matrix_of(vectors: dict[str, Vector], space: FeatureSpace) -> sparse.csr_matrix:
    """(B, F) float32, their rows as of each customer's newest event."""
    half_life_ms = np.full(space.width, np.inf)
    for block in space.blocks:
        half_life_ms[block.start : block.stop] = block.half_life_ms or np.inf
    columns, values, lengths = [], [], []
    for vector in vectors.values():
        column = np.fromiter(vector, np.int64, len(vector))
        order = np.argsort(column)
        pairs = np.array(list(vector.values()))
        age = pairs[:, 1].max() - pairs[:, 1]
        columns.append(column[order])
        values.append((pairs[:, 0] * np.exp2(-age / half_life_ms[column]))[order])
        lengths.append(len(vector))
    all_columns, all_values = np.concatenate(columns), np.concatenate(values)
    for block in space.blocks:
        mine = (all_columns >= block.start) & (all_columns < block.stop)
        all_values[mine] = TRANSFORMS[block.transform](all_values[mine]) * block.scale
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix(
        (all_values.astype(np.float32), all_columns.astype(np.int32), ends.astype(np.int32)),
        shape=(len(vectors), space.width),
    )


class Vectors:
    """Customers' vectors in Redis."""

    def __init__(self, client: Any, space: FeatureSpace) -> None:
        self._client, self._space = client, space
        self._counts = DeclaredCounts(**declaration(space))

    def update(self, values: Sequence[bytes]) -> dict[str, Vector]:
        """Fold a batch of records; the vectors of every customer in it."""
        events = [self._counts.event(value) for value in values]
        ids = list(dict.fromkeys(event["customer_id"] for event in events))
        vectors = self.stored(ids)
        for event in events:
            self._counts.fold(vectors[event["customer_id"]], event)
        self._client.mset({i: pickle.dumps(v, 5) for i, v in vectors.items()})
        return vectors

    def stored(self, ids: Sequence[str]) -> dict[str, Vector]:
        """These customers' vectors, an empty one for who is not known."""
        found = self._client.mget(ids)
        return {i: {} if s is None else pickle.loads(s) for i, s in zip(ids, found, strict=True)}

    def matrix(self, vectors: dict[str, Vector]) -> sparse.csr_matrix:
        """`matrix_of`."""
        return matrix_of(vectors, self._space)

    def count_in_redis(self, values: Sequence[bytes], landmark_ms: int) -> None:
        """The same sums by HINCRBYFLOAT, relative to a landmark, in one pipeline for the batch."""
        pipe = self._client.pipeline(transaction=False)
        for value in values:
            event = self._counts.event(value)
            for column, half_life_ms, _, weight in self._counts.touched(event):
                amount = weight
                if half_life_ms:
                    amount *= 2.0 ** ((event["ms"] - landmark_ms) / half_life_ms)
                pipe.hincrbyfloat(event["customer_id"], str(column), amount)
        pipe.execute()
