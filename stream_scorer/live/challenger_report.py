"""What a challenger did since the last report: metrics, and a log line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stream_scorer.core.evaluation.agreement import AgreementFigures
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.challenger import Challenger, Measures
from stream_scorer.live.loop import REPORT_SECONDS

log = logging.getLogger(__name__)

DIFFERENCES = ("mean", "mean_absolute", "p50", "p90", "p99", "max")


class ChallengerReport:
    """Called between two micro-batches; it reports every `REPORT_SECONDS`, and at the end.

    monotonic_seconds: a clock that only durations are read from.
    """

    def __init__(
        self,
        challenger: Challenger,
        metrics: Metrics,
        monotonic_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._challenger, self._metrics, self._clock = challenger, metrics, monotonic_seconds
        self._failures = 0
        self._next = monotonic_seconds() + REPORT_SECONDS
        self._note_whether_it_works()
        log.info("challenger %s, %s", challenger.engine.model_version, challenger.in_words())

    def __call__(self) -> None:
        """Report where a report is due."""
        # At once, and not with the next report: an alert may wait for it.
        self._note_whether_it_works()
        if self._clock() >= self._next:
            self._next = self._clock() + REPORT_SECONDS
            self._report()

    def finish(self) -> None:
        """Report what came since the last report."""
        self._note_whether_it_works()
        self._report()

    def _note_whether_it_works(self) -> None:
        challenger, metrics = self._challenger, self._metrics
        labels = (challenger.engine.model_version, challenger.mode)
        metrics.challenger_on.labels(*labels).set(not challenger.off)
        metrics.challenger_failures.inc(challenger.failures - self._failures)
        self._failures = challenger.failures

    def _report(self) -> None:
        challenger, metrics = self._challenger, self._metrics
        taken = challenger.take_measures()
        figures = None if taken.agreement is None else taken.agreement.figures()
        if challenger.mode == "shadow":
            metrics.challenger_customers.labels("compared").inc(figures.rows if figures else 0)
            metrics.challenger_customers.labels("skipped").inc(taken.skipped)
        else:
            metrics.challenger_customers.labels("served").inc(taken.challenger.customers)
        for name, scored in (("active", taken.active), ("challenger", taken.challenger)):
            metrics.challenger_seconds.labels(name).set(scored.seconds_per_customer)
        self._set_agreement(figures)
        if taken.challenger.customers or taken.skipped:
            version = challenger.engine.model_version
            log.info("challenger %s, %s: %s", version, challenger.mode, _in_words(taken, figures))

    def _set_agreement(self, figures: AgreementFigures | None) -> None:
        """NaN where nothing was compared, as the last figures would look like those of now."""
        for gauge, measures in (
            (self._metrics.challenger_agreement, ("overlap", "same_order")),
            (self._metrics.challenger_difference, DIFFERENCES),
        ):
            for measure in measures:
                value = None if figures is None else getattr(figures, measure)
                gauge.labels(measure).set(float("nan") if value is None else value)


def challenger_reports(challenger: Challenger | None, metrics: Metrics) -> list[ChallengerReport]:
    """What the loop is to call between micro-batches: nothing where there is no challenger."""
    return [] if challenger is None else [ChallengerReport(challenger, metrics)]


def _in_words(taken: Measures, figures: AgreementFigures | None) -> str:
    """One line on what was measured since the last report."""
    active, challenger = taken.active.seconds_per_customer, taken.challenger.seconds_per_customer
    speed = (
        f"scoring took {challenger * 1e6:.0f} us a customer, the active model's "
        f"{active * 1e6:.0f} us"
    )
    skipped = f", {taken.skipped:,} skipped while it rested" if taken.skipped else ""
    if figures is None:
        return f"{taken.challenger.customers:,} customers served; {speed}"
    if figures.rows == 0:
        return f"no customer compared{skipped}"
    alone = ""
    if figures.only_active or figures.only_challenger:
        alone = (
            f" ({figures.only_active} of the active model and {figures.only_challenger} of its own "
            "are not compared)"
        )
    return (
        f"{figures.rows:,} customers compared{skipped}; {figures.overlap:.1%} of the top "
        f"{figures.k} are the same, in the same order for {figures.same_order:.1%} of customers; "
        f"difference of probabilities in {figures.categories:,} categories{alone}: "
        f"mean {figures.mean:+.5f}, absolute mean {figures.mean_absolute:.5f}, "
        f"p50 {figures.p50:.5f}, p90 {figures.p90:.5f}, p99 {figures.p99:.5f}, "
        f"max {figures.max:.5f}; {speed}"
    )
