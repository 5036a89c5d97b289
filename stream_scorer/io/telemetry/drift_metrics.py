"""The drift of the namespace as metrics."""

from __future__ import annotations

import math
from collections.abc import Callable

from prometheus_client import Gauge

from stream_scorer.core.drift.live_quality import HORIZON
from stream_scorer.core.drift.stability import JUDGED
from stream_scorer.core.drift.summary import DriftSummary
from stream_scorer.io.telemetry.drift_list import MEASURES
from stream_scorer.io.telemetry.gauge_series import show_only

Labels = tuple[str, ...]
Values = dict[Labels, float | None]


class DriftMetrics:
    """Shows one summary after the other. For one thread, which may be another than the loop's."""

    def __init__(self, gauge: Callable[[str], Gauge]) -> None:
        """gauge: makes the declared gauge of a name."""
        self._rows = gauge("stream_scorer_drift_rows")
        self._feature_psi = gauge("stream_scorer_feature_psi")
        self._mean_shift = gauge("stream_scorer_feature_mean_shift")
        self._score_psi = gauge("stream_scorer_score_psi")
        self._mean_score = gauge("stream_scorer_mean_score")
        self._event_psi = gauge("stream_scorer_event_psi")
        self._event_psi.set(math.nan)
        self._event_share = gauge("stream_scorer_event_share")
        self._unknown_words = gauge("stream_scorer_unknown_word_share")
        self._of_quality = {
            "scores": gauge("stream_scorer_live_scores"),
            "recall_at_10": gauge("stream_scorer_live_recall_at_10"),
            "micro_auc": gauge("stream_scorer_live_auc"),
            "predicted_over_seen": gauge("stream_scorer_live_predicted_over_seen"),
        }
        self._interval = gauge("stream_scorer_live_interval")
        self._log_loss = gauge("stream_scorer_live_log_loss")
        self._calibration_error = gauge("stream_scorer_live_calibration_error")

    def show(self, summary: DriftSummary) -> None:
        """From now on."""
        self._rows.set(summary.rows)
        judged = [b for b in summary.blocks if b.state in JUDGED]
        self._set(self._feature_psi, {(b.block,): b.psi for b in judged})
        self._set(self._mean_shift, {(b.block,): b.mean_shift for b in judged})
        scores: Values = {}
        means: Values = {}
        if summary.scores:
            of_all, worst = summary.score_psi()
            scores = {("all",): of_all, ("worst_category",): worst}
            everything = summary.scores[0]
            means = {("live",): everything.mean, ("training",): everything.training_mean}
        self._set(self._score_psi, scores)
        self._set(self._mean_score, means)
        events = summary.events
        of_mix = events.psi if events is not None and events.state in JUDGED else None
        self._event_psi.set(math.nan if of_mix is None else of_mix)
        shares = {} if events is None else events.shares
        self._set(self._event_share, {(name,): share for name, share in shares.items()})
        unknown = {} if events is None else events.unknown_words
        self._set(self._unknown_words, {(name,): share for name, share in unknown.items()})
        self._show_quality(summary)

    def _show_quality(self, summary: DriftSummary) -> None:
        found = {
            (of.model_version, delay.delay): delay for of in summary.quality for delay in of.delays
        }
        for name, gauge in self._of_quality.items():
            self._set(gauge, {labels: getattr(delay, name) for labels, delay in found.items()})
        bounds: Values = {}
        for labels, delay in found.items():
            reach = delay.intervals
            for name, of in zip(
                MEASURES,
                (reach.predicted_over_seen, reach.recall_at_10, reach.micro_auc, reach.log_loss),
                strict=True,
            ):
                if of.low is not None and of.high is not None:
                    bounds[(*labels, name, "low")] = of.low
                    bounds[(*labels, name, "high")] = of.high
        self._set(self._interval, bounds)
        over = {version: delay for (version, name), delay in found.items() if name == HORIZON}
        self._set(self._log_loss, {(v,): delay.log_loss for v, delay in over.items()})
        self._set(self._calibration_error, {(v,): delay.ece for v, delay in over.items()})

    def _set(self, gauge: Gauge, values: Values) -> None:
        """These values, and no other labels; NaN where one is not defined."""
        show_only(gauge, {of: math.nan if value is None else value for of, value in values.items()})
