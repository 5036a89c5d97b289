"""The dashboard for those who answer for the model: which serves, and whether it fits."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models
from panels import BAD, GOOD, RATE, WATCH, Element, board, course, number, row, rows_of

UID = "stream-scorer-model-quality"

# Of population stability indices: bounds that are usual in scoring.
STABILITY = ((None, GOOD), (0.1, WATCH), (0.25, BAD))
# Within a day, a week and so on after the score, until the horizon.
BY_DELAY = "{{model_version}}, after {{delay}}"

SERVED: tuple[Element, ...] = (
    row("Which model serves"),
    rows_of(
        "Models by member",
        "sum by (model_version, fingerprint, build) (stream_scorer_build_info)",
        "How many members serve each. More than one row for longer than a switch takes: a member "
        "did not take the announced model.",
        ("model_version", "fingerprint", "build", "Value"),
    ),
    number(
        "Models served",
        "count(count by (model_version) (stream_scorer_build_info))",
        "1, except while members switch.", steps=((None, GOOD), (2, WATCH)), height=8,
    ),
    number(
        "Switches in a day",
        "max(increase(stream_scorer_model_switches_total[1d]))",
        "Announced models that were taken while running.", height=8,
    ),
    number(
        "Models refused in a day",
        "sum(increase(stream_scorer_refused_models_total[1d]))",
        "Announced models that could not be served; the one before goes on.",
        steps=((None, GOOD), (1, BAD)), height=8,
    ),
    course(
        "Scores by model version",
        {"{{model_version}}": "sum by (model_version) (stream_scorer_scores)"},
        "Customers by the version of their newest score, as of the last round of refreshing.",
        width=12, stacked=True,
    ),
    course(
        "Last switch took", {"{{instance}}": "stream_scorer_last_model_switch_seconds"},
        "From seeing an announced model to serving it.", "s", width=12,
    ),
)  # fmt: skip

CHALLENGER: tuple[Element, ...] = (
    row("The challenger"),
    course(
        "Challenger at work",
        {"{{model_version}} {{mode}}": "sum by (model_version, mode) "
                                       "(stream_scorer_challenger_on)"},
        "Members on which it works.", width=6,
    ),
    course(
        "Customers by what it did",
        {"{{outcome}}": "sum by (outcome) "
                        f"(rate(stream_scorer_challenger_customers_total[{RATE}]))"},
        "A second.", "ops", width=6, stacked=True,
    ),
    course(
        "Agreement with the active model",
        {"{{measure}}": "avg by (measure) (stream_scorer_challenger_agreement)"},
        "Of the top k: the mean share that both chose, and the share of customers with the same.",
        "percentunit", width=6, most=1,
    ),
    course(
        "Difference of probabilities",
        {"{{measure}}": "avg by (measure) (stream_scorer_challenger_difference)"},
        "The challenger's minus the active model's; all but mean are absolute.", width=6,
        least=None,
    ),
    course(
        "Time for one customer",
        {"{{model}}": "avg by (model) (stream_scorer_challenger_seconds_per_customer)"},
        "Of the engine alone, in the last report.", "s", width=12,
    ),
    course(
        "Failures",
        {"failures": f"sum(increase(stream_scorer_challenger_failures_total[{RATE}]))"},
        "Each switches the challenger off until the next start.", width=12, counts=True,
    ),
)  # fmt: skip

DRIFT: tuple[Element, ...] = (
    row("Drift against training"),
    number(
        "Worst feature", "max(stream_scorer_feature_psi)",
        "Population stability index of the feature that differs most from training: from 0.1 on "
        "worth watching, from 0.25 on to act on.", steps=STABILITY, decimals=2,
    ),
    number(
        "Scores", 'max(stream_scorer_score_psi{of="all"})',
        "The same index of all scores together.", steps=STABILITY, decimals=2,
    ),
    number(
        "Worst category", 'max(stream_scorer_score_psi{of="worst_category"})',
        "The same index of the category whose scores differ most.", steps=STABILITY, decimals=2,
    ),
    number(
        "Event mix", "max(stream_scorer_event_psi)",
        "The same index of the types of events.", steps=STABILITY, decimals=2,
    ),
    number(
        "Mean score against training",
        'max(stream_scorer_mean_score{of="live"}) / max(stream_scorer_mean_score{of="training"})',
        "1 where customers act as probably as in training.", decimals=2,
    ),
    number(
        "Rows sampled", "max(stream_scorer_drift_rows)",
        "All of this is said of so many rows. Few rows say little.",
    ),
    course(
        "Features that differ most",
        {"{{block}}": "topk(8, max by (block) (stream_scorer_feature_psi))"},
        "Population stability index against training.",
    ),
    course(
        "Features whose mean has moved",
        {"{{block}}": "topk(8, max by (block) (abs(stream_scorer_feature_mean_shift)))"},
        "In standard deviations of training, up or down.",
    ),
    course(
        "Share of events by type",
        {"{{event_type}}": "max by (event_type) (stream_scorer_event_share)"},
        "Within drift.window.", "percentunit", stacked=True, most=1,
    ),
)  # fmt: skip

QUALITY: tuple[Element, ...] = (
    row("How good published scores were"),
    course(
        "Recall at 10",
        {BY_DELAY: "max by (model_version, delay) (stream_scorer_live_recall_at_10)"},
        "Of the categories that customers acted on within the delay, the share that was among the "
        "ten most probable.", "percentunit", width=12, most=1,
    ),
    course(
        "Predicted over seen",
        {BY_DELAY: "max by (model_version, delay) (stream_scorer_live_predicted_over_seen)"},
        "1 where as many actions were predicted as were seen; above, scores promise too much.",
        width=12,
    ),
    course(
        "Ranking (AUC)",
        {BY_DELAY: "max by (model_version, delay) (stream_scorer_live_auc)"},
        "The chance that a category that was acted on outranks one that was not; 0.5 is chance.",
        width=12, least=0.5, most=1,
    ),
    course(
        "Log loss",
        {"{{model_version}}": "max by (model_version) (stream_scorer_live_log_loss)"},
        "Of scores whose horizon is over; less is better.", width=6,
    ),
    course(
        "Calibration error",
        {"{{model_version}}": "max by (model_version) (stream_scorer_live_calibration_error)"},
        "How far probabilities are from what was seen, on average.", "percentunit", width=6,
    ),
    course(
        "Scores that are judged",
        {BY_DELAY: "max by (model_version, delay) (stream_scorer_live_scores)"},
        "All of this is said of so many.", width=12,
    ),
    course(
        "Predicted over seen, 95 % interval",
        {"{{model_version}}, {{delay}}, {{bound}}": (
            "max by (model_version, delay, bound) "
            '(stream_scorer_live_interval{measure="predicted_over_seen"})'
        )},
        "Where both bounds are on one side of 1, it is more than chance.", width=12,
    ),
)  # fmt: skip

INPUTS: tuple[Element, ...] = (
    row("What the model is given"),
    course(
        "Words that a vocabulary lacks",
        {"{{field}}": "max by (field) (stream_scorer_unknown_word_share)"},
        "Share of events within drift.window. The shop sells what the model has never seen.",
        "percentunit",
    ),
    course(
        "Age of the shop's trend", {"{{instance}}": "stream_scorer_trend_age_seconds"},
        "Of the newest event that counts in it, of the partition where that is longest.", "s",
    ),
    course(
        "What the trend misses",
        {"offsets": "max(stream_scorer_trend_missed_offsets)",
         "rows scored too early": f"sum(increase(stream_scorer_trend_early_rows_total[{RATE}]))"},
        "Offsets that it could not count, and customers scored as of a day before its oldest.",
    ),
)  # fmt: skip


def model_quality(link: str) -> models.Dashboard:
    """The dashboard; link: the uid of the other one."""
    elements = (*SERVED, *DRIFT, *QUALITY, *INPUTS, *CHALLENGER)
    meaning = "Which model serves, whether it still fits, and how a challenger compares."
    return board(UID, "Stream scorer: model quality", meaning, elements, past="7d", link=link)
