"""The dashboard for those who answer for the model: which one serves, and how it compares."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models
from panels import BAD, GOOD, RATE, WATCH, Element, board, course, number, row, rows_of

UID = "stream-scorer-model-quality"

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
        "Each switches the challenger off until the next start.", width=12,
    ),
)  # fmt: skip

INPUTS: tuple[Element, ...] = (
    row("What the model is given"),
    course(
        "Words that a vocabulary lacks",
        {"{{field}}": 'sum by (field) (rate(stream_scorer_ignored_values_total'
                      f'{{problem="unknown_word"}}[{RATE}])) / ignoring (field) group_left '
                      f'sum(rate(stream_scorer_events_total{{outcome="applied"}}[{RATE}]))'},
        "As a share of the events applied. The shop sells what the model has never seen.",
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
    elements = (*SERVED, *CHALLENGER, *INPUTS)
    meaning = "Which model serves, how a challenger compares, and what models are given."
    return board(UID, "Stream scorer: model quality", meaning, elements, past="7d", link=link)
