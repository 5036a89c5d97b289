"""`demo --web`: the status page over the demo's consumer, and its customers.

The events are of 2017. As of now all vectors would have faded, so customers are looked up as of the
end of the stream.
"""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from importlib.metadata import version

from stream_scorer.demo.scenario import Scenario
from stream_scorer.errors import ConfigError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.exposition import exposition
from stream_scorer.io.readings import Readings
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms
from stream_scorer.live.health import Health
from stream_scorer.live.loop import LAG_SECONDS
from stream_scorer.live.member import LiveMember
from stream_scorer.live.member_status import StatusOfMember
from stream_scorer.live.stop import Stop
from stream_scorer.web.server import listen
from stream_scorer.web.service import WebService

PORT = 9110  # where it is free


class LivePage:
    """Call `observe` with each report, and `check` between two micro-batches.

    with_browser: open the page in a browser, where this machine has one that someone looks at.
    """

    def __init__(self, scene: Scenario, consumer: Consumer, *, with_browser: bool) -> None:
        self._consumer, self._metrics = consumer, Metrics()
        self._health = Health(float("inf"))
        build, registry = version("stream-scorer"), self._metrics.registry
        self._member = LiveMember(
            consumer, self._metrics, build,
            StatusOfMember(
                lambda: Readings.of(registry), self._health, clock_ms, time.monotonic
            ),
        )  # fmt: skip
        try:
            listening = listen("127.0.0.1", PORT, "--web")
        except ConfigError:
            listening = listen("127.0.0.1", 0, "--web")
        end_ms = int(scene.stream.occurred_at_ms[-1])
        self._web = WebService(
            scene.settings, listening, build, self._health,
            lambda accept, names: exposition(registry, accept, names),
            customers_as_of=lambda: end_ms,
        )  # fmt: skip
        self.url = self._web.url
        self._next_lag = 0.0
        if with_browser and _has_a_browser():
            webbrowser.open(self.url)

    def joined(self) -> None:
        """The consumer is warm and reads its partitions."""
        self._health.warmed_up()
        self._health.joined(time.monotonic())

    def observe(self, report: BatchReport) -> None:
        """Count a micro-batch."""
        if report.records:
            self._metrics.observe(report)

    def check(self) -> None:
        """Say in Redis how it goes, where that is due."""
        now = time.monotonic()
        source = self._consumer.source
        self._health.assigned(*source.assignment())
        self._health.worked(now)
        if now >= self._next_lag:
            self._next_lag = now + LAG_SECONDS
            behind = source.lag()
            seconds = source.lag_seconds(behind, clock_ms())
            self._metrics.observe_lag(behind, seconds, len(source.handed_out()))
        if self._consumer.pipeline.idle:
            self._member.check()

    def keep_open(self, stop: Stop) -> None:
        """Go on consuming what comes, until Ctrl-C or SIGTERM."""
        with stop.on_signals():
            while not stop.asked:
                self.observe(self._consumer.pipeline.step())
                self.check()

    def close(self) -> None:
        """The member leaves, and the server ends."""
        self._member.leave()
        self._web.close()


def _has_a_browser() -> bool:
    """Whether someone sits before this machine's screen, rather than a log or another machine."""
    shown = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return shown and sys.stderr.isatty() and "SSH_CONNECTION" not in os.environ
