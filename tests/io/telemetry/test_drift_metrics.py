"""The metrics of drift and live quality: each shows what the summary says."""

from __future__ import annotations

import math

from stream_scorer.core.drift.live_quality import (
    HORIZON,
    LiveIntervals,
    LiveQuality,
    QualityAtDelay,
)
from stream_scorer.core.drift.summary import BlockDrift, DriftSummary, EventDrift, ScoreDrift
from stream_scorer.core.evaluation.quality_by_part import Estimate
from stream_scorer.io.telemetry.drift_list import DRIFT
from stream_scorer.io.telemetry.metrics import Metrics

DELAY = QualityAtDelay(
    HORIZON, 500, 60, 100, 150.0, 1.0, 1.5, 0.3, 0.8, 0.2, 0.05,
    LiveIntervals(
        Estimate(1.5, 1.2, 1.9), Estimate(0.3, 0.2, 0.4), Estimate(0.8, 0.7, 0.9),
        Estimate(0.2, 0.1, None),
    ),
    0.01,
)  # fmt: skip


def summary(state: str, quality: tuple[LiveQuality, ...]) -> DriftSummary:
    block = BlockDrift(
        "total", "decayed", 0.3, 0.3, None, 0.4, state, "", (), (1.0,), (1.0,), (), 0.01, 0.03, 0.05
    )
    scores = tuple(ScoreDrift(name, 0.2, 0.1, 0.11, state, 0.01, 0.03) for name in ("", "tea"))
    events = EventDrift(
        900, {"view": 0.9, "cart": 0.1}, {"view": 1.0}, 0.4, state, {"category_id": 0.05}, None,
        0.01, 0.03,
    )  # fmt: skip
    return DriftSummary(
        "m1", "watch", (), 0, 1, 1, 2_000, 0, 20_000, "event", (block,), scores, events, quality,
        (), 900,
    )  # fmt: skip


def test_every_metric_of_drift_moves() -> None:
    metrics = Metrics()
    metrics.drift.show(summary("watch", (LiveQuality("m1", 500, (DELAY,)),)))
    for family in DRIFT:
        samples = [
            sample.value
            for shown in metrics.registry.collect()
            if shown.name == family.name
            for sample in shown.samples
        ]
        assert samples, family.name
        assert all(value and math.isfinite(value) for value in samples), family.name
    value = metrics.registry.get_sample_value
    labels = {"model_version": "m1", "delay": HORIZON}
    bound = {**labels, "measure": "predicted_over_seen", "bound": "low"}
    assert value("stream_scorer_live_interval", bound) == 1.2
    unknown = {**labels, "measure": "log_loss", "bound": "low"}
    assert value("stream_scorer_live_interval", unknown) is None, "half an interval is none"


def test_what_chance_explains_has_no_series_that_an_alert_could_see() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    metrics.drift.show(summary("drifted", (LiveQuality("m1", 500, (DELAY,)),)))
    assert value("stream_scorer_feature_psi", {"block": "total"}) == 0.3
    metrics.drift.show(summary("too_few_rows", ()))
    assert value("stream_scorer_feature_psi", {"block": "total"}) is None
    for of in ("all", "worst_category"):
        found = value("stream_scorer_score_psi", {"of": of})
        assert found is not None
        assert math.isnan(found)
    psi = value("stream_scorer_event_psi")
    assert psi is not None
    assert math.isnan(psi)
    assert value("stream_scorer_live_scores", {"model_version": "m1", "delay": HORIZON}) is None
