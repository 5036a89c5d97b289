"""The metrics of drift and live quality.

They are of the whole namespace, so every member shows the same, made anew every few minutes.
"""

from __future__ import annotations

from stream_scorer.core.drift.live_quality import DELAYS_MS, HORIZON
from stream_scorer.io.telemetry.metric import OPEN, gauge

DELAYS = (*DELAYS_MS, HORIZON)
MEASURES = ("predicted_over_seen", "recall_at_10", "auc", "log_loss")
DRIFT = (
    gauge(
        "stream_scorer_drift_rows",
        "Rows of sampled customers that were scored within drift.window, of all members",
    ),
    gauge(
        "stream_scorer_feature_psi",
        "Population stability index of a feature with one half-life against training: from 0.1 on "
        "worth watching, from 0.25 on to act on; only what can be judged, and is beyond chance",
        block=OPEN,
    ),
    gauge(
        "stream_scorer_feature_mean_shift",
        "How far the mean amount of a feature with one half-life is from that of training, in its "
        "standard deviations; only what can be judged",
        block=OPEN,
    ),
    gauge(
        "stream_scorer_score_psi",
        "Population stability index of the scores of all categories together against training, "
        "and of the category where it is largest; NaN where it can't be judged",
        of=("all", "worst_category"),
    ),
    gauge(
        "stream_scorer_mean_score",
        "Mean probability of acting over all categories, of the window and of training",
        "ratio", of=("live", "training"),
    ),
    gauge(
        "stream_scorer_event_psi",
        "Population stability index of the mix of event types against training; NaN where the "
        "training snapshots do not say theirs",
    ),
    gauge(
        "stream_scorer_event_share",
        "Share of events of each type within drift.window",
        "ratio", event_type=OPEN,
    ),
    gauge(
        "stream_scorer_unknown_word_share",
        "Share of events within drift.window with a word that the field's vocabulary lacks",
        "ratio", field=OPEN,
    ),
    gauge(
        "stream_scorer_live_scores",
        "Scores of followed customers that are judged by what they did within the delay",
        model_version=OPEN, delay=DELAYS,
    ),
    gauge(
        "stream_scorer_live_recall_at_10",
        "Share of the categories that customers acted on within the delay that were among the ten "
        "most probable",
        "ratio", model_version=OPEN, delay=DELAYS,
    ),
    gauge(
        "stream_scorer_live_auc",
        "The chance that a category that was acted on within the delay outranks one that was not",
        "ratio", model_version=OPEN, delay=DELAYS,
    ),
    gauge(
        "stream_scorer_live_predicted_over_seen",
        "Actions within the delay that were predicted over those that were seen; before the "
        "horizon by the part of actions that the delay has seen of horizons that are over",
        "ratio", model_version=OPEN, delay=DELAYS,
    ),
    gauge(
        "stream_scorer_live_interval",
        "Bounds of the 95 % intervals of live quality, of a bootstrap over customers; absent of "
        "fewer than 10 customers",
        model_version=OPEN, delay=DELAYS, measure=MEASURES, bound=("low", "high"),
    ),
    gauge(
        "stream_scorer_live_log_loss",
        "Log loss of published scores, of horizons that are over",
        model_version=OPEN,
    ),
    gauge(
        "stream_scorer_live_calibration_error",
        "Expected calibration error of published scores, of horizons that are over",
        "ratio", model_version=OPEN,
    ),
)  # fmt: skip
