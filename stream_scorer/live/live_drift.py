"""Drift in a consumer that runs: what its member samples, and the namespace's drift as metrics."""

from __future__ import annotations

from contextlib import ExitStack

from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms, redis_client
from stream_scorer.live.drift_summary import SummaryThread, drift_summary
from stream_scorer.live.drift_watch import DriftWatch

FIRST_SECONDS = 30.0  # after what was noted first is saved
EVERY_SECONDS = 300.0


class LiveDrift:
    """For one consumer, whose loop calls `done` and `check`; does nothing where drift.one_in is
    0."""

    def __init__(
        self, consumer: Consumer, metrics: Metrics, *, first_seconds: float = FIRST_SECONDS,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:  # fmt: skip
        self._consumer, self._closing = consumer, ExitStack()
        self._watch: DriftWatch | None = None
        if consumer.sampler is None:
            return
        settings = consumer.settings
        namespace = settings.store.namespace
        self._watch = DriftWatch(
            settings, consumer.served, DriftStore(consumer.announcements.server, namespace),
            consumer.sampler, clock_ms,
        )  # fmt: skip
        # On connections of its own, as it asks on another thread.
        server = RedisServer(redis_client(settings))
        self._closing.callback(server.close)
        store = DriftStore(server, namespace)
        thread = SummaryThread(
            lambda: drift_summary(store, settings, consumer.served.model, clock_ms()),
            metrics.drift.show,
            first_seconds, every_seconds,
        )  # fmt: skip
        self._closing.callback(thread.close)

    def done(self, report: BatchReport) -> None:
        """Note a micro-batch that is published and committed."""
        if self._watch is not None:
            self._watch.add(report)

    def check(self) -> None:
        """Between two micro-batches: save what is due."""
        if self._watch is not None:
            self._watch.check()

    def serve(self) -> None:
        """The consumer serves another model from now on."""
        if self._watch is not None:
            self._watch.serve(self._consumer.served)

    def close(self) -> None:
        """This member stops: save what there is."""
        if self._watch is not None:
            self._watch.finish()
        self._closing.close()
