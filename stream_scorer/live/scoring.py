"""From customers' states to output records: CSR matrix, engine, selection, Avro.

A micro-batch and a refresh share this code, so a customer's propensities do not depend on what led
to their being computed. The engine can be replaced between two micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.core.events.batch import Int64, TopicPartition
from stream_scorer.core.features import csr
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates, source_positions
from stream_scorer.core.propensities import PublishPolicy, published_in_full, select
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.model.engines.engine import Engine


class Scoring:
    """Scores states with one engine at a time. Not thread-safe.

    publish: what of a customer's propensities becomes part of the record. clock_ms: now, in ms
    since 1970 UTC, the moment of scoring that records carry.
    """

    def __init__(
        self,
        engine: Engine,
        space: FeatureSpace,
        publish: PublishPolicy,
        clock_ms: Callable[[], int],
    ) -> None:
        self._space, self._publish, self._clock_ms = space, publish, clock_ms
        self.serve(engine)

    def serve(self, engine: Engine) -> None:
        """Score with `engine`, which is of the same declaration, from now on."""
        self.engine = engine
        self._encoder = PropensityEncoder(
            engine.categories, engine.classes, engine.model_version, self._space.fingerprint_hex
        )

    def records(
        self,
        states: CustomerStates,
        as_of_ms: Int64,
        partitions: list[TopicPartition],
        report: BatchReport,
    ) -> tuple[list[bytes], list[bytes]]:
        """Keys and values of the output records, one for each of the B customers.

        as_of_ms: (B,) int64, the moment that customer i is scored as of. partitions: those that a
        record's source may be of. Adds to report's seconds.
        """
        with report.stage("csr"):
            matrix = csr.build(states, self._space, as_of_ms)
        with report.stage("score"):
            scores = self.engine.score(matrix)
        with report.stage("encode"):
            index, offsets = source_positions(states, partitions)
            keys = [customer_id.encode() for customer_id in states.customer_ids]
            head = (keys, as_of_ms, self._clock_ms(), partitions, index, offsets)
            if self._publish.mode == "all":
                return keys, self._encoder.encode_all(*head, published_in_full(scores))
            return keys, self._encoder.encode_entries(*head, *select(scores, self._publish))
