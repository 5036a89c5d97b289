"""`stream-scorer run`: the long-running consumer. The loop itself is live/loop.py."""

from __future__ import annotations

import logging

from stream_scorer.core.events.dead_letter_window import DeadLetterWindow
from stream_scorer.io.telemetry import Metrics, MetricsEndpoint
from stream_scorer.live.consumer import Consumer
from stream_scorer.live.loop import Loop, Stop, Totals
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)


def run(settings: Settings, stop: Stop | None = None) -> Totals:
    """Consume until SIGTERM, SIGINT or `stop`; what was done. Raises Halt, Unavailable, InputError.

    Servers that are away when it starts are waited for by whoever starts it; later, by itself.
    """
    stop = stop or Stop()
    # Before the consumer is built and warmed up, so that a probe gets an answer meanwhile.
    metrics = Metrics()
    telemetry = settings.telemetry
    endpoint = MetricsEndpoint(metrics, telemetry.host, telemetry.port) if telemetry.port else None
    try:
        with Consumer(settings, lambda name: metrics.kafka_errors.labels(name).inc()) as consumer:
            consumer.warm_up()
            # After the warm-up: whatever MXNet did to signals, ours are the last.
            with stop.on_signals():
                log.info(
                    "model %s, %d categories, %s columns; joining group %s",
                    consumer.engine.model_version, len(consumer.engine.categories),
                    f"{consumer.space.width:,}", settings.kafka.group_id,
                )  # fmt: skip
                consumer.join()
                limits = settings.dead_letters
                window = DeadLetterWindow(limits.max_share, limits.window_records)
                loop = Loop(consumer, window, metrics, stop)
                loop.run()
        totals = loop.totals
        log.info("stopped: %s", totals.as_json())
        return totals
    finally:
        if endpoint is not None:
            endpoint.close()
