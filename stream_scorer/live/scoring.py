"""From customers' states to output records: CSR matrix, engine, selection, Avro.

A micro-batch and a refresh share this code, so a customer's propensities do not depend on what led
to their being computed. The engine can be replaced between two micro-batches. A challenger, where
there is one, scores beside it (challenger.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.core.drift.sampler import SampledRows, Sampler
from stream_scorer.core.events.batch import Bool, Int32, Int64, TopicPartition
from stream_scorer.core.features import csr
from stream_scorer.core.features.space import DAY_MS, FeatureSpace
from stream_scorer.core.features.state import CustomerStates, Float32, source_positions
from stream_scorer.core.propensities import Entries, PublishPolicy, published_in_full, select
from stream_scorer.core.trend import TrendTable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.live.challenger import Challenger
from stream_scorer.live.shop_trend import ShopTrend, clip_days
from stream_scorer.model.engines.engine import Engine, score_chosen


class _Heads(NamedTuple):
    """What records hold beside propensities, as the encoder takes it."""

    keys: list[bytes]
    as_of_ms: Int64
    scored_at_ms: int
    partitions: list[TopicPartition]
    partition_index: Int32
    offsets: Int64

    def take(self, rows: Int64) -> _Heads:
        """Only those of `rows` (k,)."""
        return self._replace(
            keys=[self.keys[row] for row in rows.tolist()],
            as_of_ms=self.as_of_ms[rows],
            partition_index=self.partition_index[rows],
            offsets=self.offsets[rows],
        )


class Scoring:
    """Scores states with one engine at a time. Not thread-safe.

    publish: what of a customer's propensities becomes part of the record. clock_ms: now, in ms
    since 1970 UTC, the moment of scoring that records carry. challenger: a second model of the same
    declaration. trend: of the shop, None where the declaration has none. sampler: of customers by
    whom drift is measured, None for nobody.
    """

    def __init__(
        self,
        engine: Engine,
        space: FeatureSpace,
        publish: PublishPolicy,
        clock_ms: Callable[[], int],
        challenger: Challenger | None = None,
        trend: ShopTrend | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        self._sampler = sampler
        self._space, self.publish, self._clock_ms = space, publish, clock_ms
        self._trend = trend
        self._day_columns = np.array([b.start for b in space.blocks if b.kind == "trend"], np.int64)
        self.challenger = challenger
        if challenger is not None:
            self._challengers_encoder = self._encoder_of(challenger.engine)
        self.serve(engine)

    def serve(self, engine: Engine) -> None:
        """Score with `engine`, which is of the same declaration, from now on."""
        self.engine = engine
        self._table: TrendTable | None = None  # that the engines have
        self._encoder = self._encoder_of(engine)
        if self.challenger is not None:
            self.challenger.beside(engine)

    def publish_as(self, publish: PublishPolicy) -> None:
        """Publish other propensities of the same scores from now on."""
        self.publish = publish

    def use(self, table: TrendTable) -> None:
        """Score with this trend of the shop from now on."""
        if table is not self._table:
            self._table = table
            self.engine.use_trend(table)
            if self.challenger is not None:
                self.challenger.use_trend(table)

    def trend_table(self, as_of_ms: Int64) -> TrendTable | None:
        """The shop's trend for customers that are scored as of these moments (B,); None where the
        declaration has none. On the thread that asks Redis."""
        return None if self._trend is None else self._trend.table(as_of_ms)

    def records(
        self,
        states: CustomerStates,
        as_of_ms: Int64,
        partitions: list[TopicPartition],
        report: BatchReport,
        table: TrendTable | None = None,
        *,
        sample: bool = False,
    ) -> tuple[list[bytes], list[bytes]]:
        """Keys and values of the output records, one for each of the B customers, in their order.

        as_of_ms: (B,) int64, the moment that customer i is scored as of. partitions: those that a
        record's source may be of. Adds to report's seconds. table: as of `trend_table`, which is
        called here where it is None. sample: whether the report is given rows by which drift is
        measured.
        """
        with report.stage("csr"):
            matrix = self._matrix(states, as_of_ms, table)
        canary, theirs = self._canary(states.customer_ids, matrix, report)
        with report.stage("score"):
            others = np.delete(np.arange(len(states)), canary)
            ours = matrix[others] if len(canary) else matrix
            started = time.perf_counter()
            found: Float32 | Entries
            # A challenger is compared by all scores.
            if self.challenger is None and self.publish.mode != "all":
                found = score_chosen(self.engine, ours, self.publish)
            else:
                found = scores = self.engine.score(ours)
                if self.challenger is not None:
                    self.challenger.keep(ours, scores, time.perf_counter() - started)
        keys = [customer_id.encode() for customer_id in states.customer_ids]
        now_ms = self._clock_ms()
        if sample and self._sampler is not None:
            with report.stage("sample"):
                known = None if isinstance(found, Entries) else found
                report.sampled = self._sampled(
                    [keys[r] for r in others.tolist()], as_of_ms[others], now_ms, ours, known
                )
        with report.stage("encode"):
            index, offsets = source_positions(states, partitions)
            heads = _Heads(keys, as_of_ms, now_ms, partitions, index, offsets)
            if theirs is None:
                return keys, self._values(self._encoder, heads, found)
            values = [b""] * len(keys)
            for rows, encoder, of_model in (
                (others, self._encoder, found), (canary, self._challengers_encoder, theirs),
            ):  # fmt: skip
                some = self._values(encoder, heads.take(rows), of_model)
                for row, value in zip(rows.tolist(), some, strict=True):
                    values[row] = value
            return keys, values

    @property
    def serving(self) -> str:
        """Which model serves, and which canary beside it: another text where a customer's record
        could be of another model now."""
        canary = "" if self.challenger is None else self.challenger.serves
        return self.engine.model_version + (canary and f" with {canary}")

    def scores(self, states: CustomerStates, as_of_ms: Int64) -> Float32:
        """(B, N, C) of the active model, of B customers, each as of its moment (B,) int64; to be
        compared, not to be published."""
        table = None if self._trend is None else self._trend.table(as_of_ms, published=False)
        return self.engine.score(self._matrix(states, as_of_ms, table))

    def can_score_again(self, as_of_ms: Int64) -> Bool:
        """(B,), whether what was scored as of these moments (B,) can be computed again: of days
        before a week ago the shop's trend is not known any more."""
        if self._trend is None:
            return np.ones(len(as_of_ms), np.bool_)
        table = self._trend.table(as_of_ms, published=False)
        return np.asarray(as_of_ms // DAY_MS >= table.first_day)

    def canary_rows(self, customer_ids: list[str]) -> Int64:
        """(k,) positions of the customers whom the challenger serves in place of it."""
        if self.challenger is None:
            return np.zeros(0, np.int64)
        return self.challenger.canary_rows(customer_ids)

    def compare(self, report: BatchReport) -> None:
        """Let a challenger in the shadow score the customers of the last call of `records`.

        For after they are published and committed, so that no event waits for it.
        """
        if self.challenger is not None and self.challenger.mode == "shadow":
            with report.stage("challenger"):
                self.challenger.compare()

    def _matrix(
        self, states: CustomerStates, as_of_ms: Int64, table: TrendTable | None
    ) -> csr_matrix:
        """(B, F), with the engines given the shop's trend of these moments."""
        matrix = csr.build(states, self._space, as_of_ms)
        table = table or self.trend_table(as_of_ms)
        if table is None:
            return matrix
        self.use(table)
        clip_days(matrix, self._day_columns, as_of_ms, table)
        return matrix

    def _sampled(
        self, keys: list[bytes], as_of_ms: Int64, now_ms: int, matrix: csr_matrix,
        scores: Float32 | None,
    ) -> SampledRows:  # fmt: skip
        """Of B customers whom the active model serves; scores (B, N, C), None where only what is
        published of them is known."""
        assert self._sampler is not None
        rows, hashes = self._sampler.choose(keys, now_ms)
        passed_over = len(keys) if self._sampler.full and not len(rows) else 0
        some = matrix[rows]
        if scores is not None:
            of_rows = scores[rows]
        elif len(rows):
            of_rows = self.engine.score(some)
        else:  # most micro-batches, where they are small or the minute has its rows
            of_rows = np.zeros((0, len(self.engine.categories), self.engine.classes), np.float32)
        p = 1 - of_rows[:, :, 0]  # class 0 is nothing, so this is acting at all
        return SampledRows(hashes, as_of_ms[rows], now_ms, some, p, passed_over)

    def _canary(
        self, customer_ids: list[str], matrix: csr_matrix, report: BatchReport
    ) -> tuple[Int64, Float32 | None]:
        """The rows (k,) that the challenger serves and its scores (k, N, C); none and None where
        there is no canary, or it failed."""
        nobody = np.zeros(0, np.int64)
        if self.challenger is None or self.challenger.mode != "canary":
            return nobody, None
        with report.stage("challenger"):
            rows = self.challenger.canary_rows(customer_ids)
            scores = self.challenger.serve(matrix[rows]) if len(rows) else None
        return (nobody, None) if scores is None else (rows, scores)

    def _values(
        self, encoder: PropensityEncoder, heads: _Heads, found: Float32 | Entries
    ) -> list[bytes]:
        """Of scores, or of what was chosen of them already."""
        if isinstance(found, Entries):
            return encoder.encode_entries(*heads, *found)
        if self.publish.mode == "all":
            return encoder.encode_all(*heads, published_in_full(found), self.publish.precision)
        return encoder.encode_entries(*heads, *select(found, self.publish))

    def _encoder_of(self, engine: Engine) -> PropensityEncoder:
        return PropensityEncoder(
            engine.categories, engine.classes, engine.model_version, self._space.fingerprint_hex
        )
