"""Drift in a consumer that runs: what its member samples, and the namespace's drift as metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack

from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms, redis_client
from stream_scorer.live.drift_summary import SummaryThread, drift_summary
from stream_scorer.live.drift_watch import DriftWatch

log = logging.getLogger(__name__)

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
            consumer.sampler, clock_ms, consumer.erasures,
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
        self._quietly(lambda watch: watch.add(report))

    def check(self) -> None:
        """Between two micro-batches: save what is due."""
        self._quietly(lambda watch: watch.check())

    def serve(self) -> None:
        """The consumer serves another model from now on."""
        self._quietly(lambda watch: watch.serve(self._consumer.served))

    def close(self) -> None:
        """This member stops: save what there is."""
        self._quietly(lambda watch: watch.finish())
        self._closing.close()

    def _quietly(self, work: Callable[[DriftWatch], None]) -> None:
        if self._watch is None:
            return
        try:
            work(self._watch)
        except Exception:  # whatever is wrong with a sample, events must not wait for it
            log.exception("drift is not measured any more, until the next start")
            self._watch = None
