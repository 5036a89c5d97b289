"""What a supervisor of several processes shows of them, beside the metrics of each."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from stream_scorer.io.telemetry.metric_list import PROCESS_RESTARTS, PROCESS_UP


class SupervisorMetrics:
    """All metrics of one supervisor, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._up = Gauge(
            PROCESS_UP.name, PROCESS_UP.meaning, tuple(PROCESS_UP.labels), registry=self.registry
        )
        self._restarts = Counter(
            PROCESS_RESTARTS.name, PROCESS_RESTARTS.meaning, tuple(PROCESS_RESTARTS.labels),
            registry=self.registry,
        )  # fmt: skip

    def up(self, process: int, *, is_up: bool) -> None:
        """Whether the process of this number runs."""
        self._up.labels(str(process)).set(is_up)
        self._restarts.labels(str(process))  # shown with 0: increase() needs what was before

    def restarted(self, process: int) -> None:
        """The process of this number was started again."""
        self._restarts.labels(str(process)).inc()
