"""`stream-scorer run`: the long-running consumer. The loop itself is live/loop.py."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

from stream_scorer.io.exposition import exposition
from stream_scorer.io.kafka.rebalances import Rebalances
from stream_scorer.io.readings import Readings
from stream_scorer.io.telemetry.log_lines import log_to_stderr
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.challenger_report import challenger_reports
from stream_scorer.live.consumer import Consumer, clock_ms
from stream_scorer.live.health import Health, most_quiet_seconds
from stream_scorer.live.live_drift import LiveDrift
from stream_scorer.live.loop import Loop, Totals
from stream_scorer.live.member import LiveMember
from stream_scorer.live.member_status import StatusOfMember
from stream_scorer.live.refresh import Refresher
from stream_scorer.live.reread import Apply, Reread
from stream_scorer.live.stop import Stop
from stream_scorer.live.tracing import Traces
from stream_scorer.live.warming import compile_where_missing
from stream_scorer.log_events import event
from stream_scorer.missing_kernels import when_missing
from stream_scorer.processes.channel import MemberEnd
from stream_scorer.settings.tree import RefreshSettings, Settings
from stream_scorer.web.service import WebService, listening_service

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    stop: Stop | None = None,
    reread: Callable[[], Settings] | None = None,
    supervisor: MemberEnd | None = None,
) -> Totals:
    """Consume until SIGTERM, SIGINT or `stop`; what was done.

    reread: reads the config again, which SIGHUP asks for; without it SIGHUP asks to stop.
    supervisor: who started this process as one of several, and shows its metrics.

    Raises Halt, Unavailable, InputError. A stop that takes longer than `STOP_SECONDS`, because a
    server does not answer, ends the process.

    Servers that are away when it starts are waited for by whoever starts it; later, by itself.
    """
    stop = stop or Stop()
    totals = Totals()
    with stop.on_signals(starting=True), when_missing(lambda: compile_where_missing(log.info)):
        totals = _run(settings, stop, reread or (lambda: settings), supervisor)
    return totals


def _run(
    settings: Settings, stop: Stop, reread: Callable[[], Settings], supervisor: MemberEnd | None
) -> Totals:
    # Before the consumer is built and warmed up, so that a probe gets an answer meanwhile.
    metrics = Metrics()
    health = Health(
        most_quiet_seconds(
            settings.kafka.max_poll_interval_ms, settings.kafka.delivery_timeout_ms,
            settings.redis.timeout_seconds,
        )
    )  # fmt: skip
    metrics.alive.set_function(lambda: health.alive(time.monotonic())[0])
    metrics.ready.set_function(lambda: health.ready(time.monotonic())[0])
    web = _shown(settings, metrics, health, supervisor)
    try:
        rebalances = Rebalances(
            clock_ms, lambda kind: metrics.rebalances.labels(kind).inc(), metrics.silence.observe
        )
        with (
            _traces(settings) as traces,
            Consumer(
                settings, lambda name: metrics.kafka_errors.labels(name).inc(), rebalances, traces
            ) as consumer,
        ):
            consumer.store.hot.on_lookup = metrics.observe_hot_records
            # In this thread, which a signal interrupts; the engine calls its kernels in others.
            compile_where_missing(log.info)
            consumer.warm_up()
            health.warmed_up()
            # What is here now stays: 154,000 objects of imported packages, which the garbage
            # collector would otherwise look through in each full collection, with events waiting.
            gc.collect()
            gc.freeze()
            loop: Loop | None = None

            def give_up() -> None:
                if loop is not None:
                    _log_the_end(loop.totals)

            stop.started(give_up)
            log.info(
                "model %s, %d categories, %s columns; joining group %s",
                consumer.scoring.engine.model_version, len(consumer.scoring.engine.categories),
                f"{consumer.space.width:,}", settings.kafka.group_id,
                extra=event(
                    "consumer_started", model_version=consumer.scoring.engine.model_version,
                    categories=len(consumer.scoring.engine.categories),
                    columns=consumer.space.width, group=settings.kafka.group_id,
                ),
            )  # fmt: skip
            try:
                consumer.join()
                health.joined(time.monotonic())
                reports = challenger_reports(consumer.scoring.challenger, metrics)
                refresher = Refresher(consumer, metrics, clock_ms)
                drift = LiveDrift(consumer, metrics)
                member = LiveMember(
                    consumer, metrics, version("stream-scorer"),
                    StatusOfMember(
                        lambda: Readings.of(metrics.registry), health, clock_ms, time.monotonic
                    ),
                    on_switch=partial(_switched, drift, refresher),
                )  # fmt: skip
                # The refresher last, so that it notes another model before an event is scored with
                # it.
                between: list[Callable[[], None]] = [
                    member.check, drift.check, *reports, refresher.slice,
                ]  # fmt: skip
                if consumer.trend is not None:
                    between.insert(0, partial(consumer.trend.check, metrics))
                loop = Loop(
                    consumer,
                    settings.dead_letter_window(live=True),
                    metrics,
                    stop,
                    between,
                    health,
                    drift.done,
                )
                appliers = _appliers(consumer, loop, refresher, supervisor)
                changed = Reread(settings, stop, reread, appliers)
                between.append(changed.check)
                try:
                    loop.run()
                finally:
                    member.leave()
                    drift.close()
                    for report in reports:
                        report.finish()
            finally:
                consumer.leave()  # here, as it may take long
        totals = loop.totals
        _log_the_end(totals)
        return totals
    finally:
        if web is not None:
            web.close()


def _log_the_end(totals: Totals) -> None:
    log.info(
        "stopped: %s", totals.as_json(),
        extra=event(
            "consumer_stopped", records=totals.records, applied=totals.applied,
            dead_letters=totals.dead_letters, propensities=totals.propensities,
            batches=totals.batches, seconds=totals.seconds,
        ),
    )  # fmt: skip


def _switched(drift: LiveDrift, refresher: Refresher) -> None:
    drift.serve()
    refresher.all_due("another model is served from now on")


@contextmanager
def _traces(settings: Settings) -> Iterator[Traces | None]:
    """None where the settings ask for none. Raises ConfigError without the extra for them."""
    if not settings.telemetry.traces:
        yield None
        return
    from stream_scorer.io.telemetry.traces import OpenTelemetryTraces  # noqa: PLC0415 - an extra

    kafka = settings.kafka
    traces = OpenTelemetryTraces(
        topic=kafka.input_topic, output_topic=kafka.output_topic, group=kafka.group_id,
        client=kafka.client_name, build=version("stream-scorer"),
        endpoint=settings.telemetry.traces_endpoint,
    )  # fmt: skip
    try:
        yield traces
    finally:
        traces.close()


def _shown(
    settings: Settings, metrics: Metrics, health: Health, supervisor: MemberEnd | None
) -> WebService | None:
    """Metrics and health go to the supervisor, where one has started this process, and to whoever
    asks at telemetry.port."""
    shown = partial(exposition, metrics.registry)
    if supervisor is not None:
        supervisor.show(health, shown, time.monotonic)
    return listening_service(settings, version("stream-scorer"), health, shown)


def _appliers(
    consumer: Consumer, loop: Loop, refresher: Refresher, supervisor: MemberEnd | None
) -> dict[str, Apply]:
    """By field what a running consumer does where it has changed."""
    process = None if supervisor is None else supervisor.number

    def telemetry(now: Settings) -> None:
        log_to_stderr(now.telemetry.log_level, now.telemetry.log_format, process)

    def publish(now: Settings) -> None:
        consumer.scoring.publish_as(now.publish_policy())

    def dead_letters(now: Settings) -> None:
        loop.judge_dead_letters(now.dead_letter_window(live=True))

    def refresh(now: Settings) -> None:
        refresher.limit(now.refresh)

    return {
        "dead_letters.max_share": dead_letters, "dead_letters.window_records": dead_letters,
        "publish.mode": publish, "publish.top_k": publish, "publish.threshold": publish,
        "publish.precision": publish,
        **{f"refresh.{name}": refresh for name in RefreshSettings.model_fields},
        "telemetry.log_level": telemetry, "telemetry.log_format": telemetry,
    }  # fmt: skip
