"""The page of `backtest`."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from stream_scorer.core.evaluation.backtest import Backtest, JudgedScores
from stream_scorer.core.evaluation.backtest_metrics import Staleness
from stream_scorer.core.evaluation.intervals import MetricDifference, ModelComparison
from stream_scorer.core.events.refused import ignored_events_in_words, refused_in_words
from stream_scorer.core.features.ignored_values import ignored_in_words
from stream_scorer.reports import page
from stream_scorer.reports.evaluation import (
    COLOURS,
    calibration_plot,
    gain_plot,
    histogram,
    metrics_table,
)

PLOTTED_METRICS = ("log_loss", "macro_auc", "recall_at_10")


def write(path: Path, found: Backtest, judged: JudgedScores) -> None:
    """The page, written whole or not at all. Raises InputError where that fails."""
    curves = {name: histogram(p, judged.acted) for name, p in judged.models.items()}
    plots = [_over_time(found, metric) for metric in PLOTTED_METRICS]
    plots += [_freshness(found), calibration_plot(curves), gain_plot(curves), _by_age(found)]
    page.write(
        path,
        f"Backtest, {found.from_time[:10]} to {found.to_time[:10]}",
        [
            page.paragraph(
                f"{found.events:,} events; {found.rows:,} scores ({found.every}), of "
                f"which {found.judged:,} are judged; for {found.pending:,} the horizon is "
                f"not over. {found.categories:,} categories, {found.categories_scored:,} "
                "with both outcomes. A score uses only what was known before it."
            ),
            *(page.paragraph(text) for text in _notes(found)),
            "<h2>Metrics</h2>",
            metrics_table({**found.metrics, **found.baselines}),
            *_intervals(found.intervals),
            f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>',
            "<h2>Freshness: log loss of older scores of the same rows</h2>",
            _freshness_table(found),
            *_late_events(found),
            f'<h2>Categories</h2><div class="wide">{_categories(found)}</div>',
        ],
    )


def _notes(found: Backtest) -> list[str]:
    notes = [f"{name}: {m.path}, version {m.model_version}." for name, m in found.models.items()]
    notes += [
        f"{name} is not held back: its training's labels reach into the scored time, so its "
        "figures flatter."
        for name, model in found.models.items()
        if model.not_held_back
    ]
    notes += refused_in_words(found.refusals, ())
    notes += ignored_events_in_words(found.ignored_events)
    for name, values in found.ignored_values.items():
        notes += [f"{name}: {line}." for line in ignored_in_words(values)]
    return notes


def _intervals(differences: ModelComparison | None) -> list[str]:
    if differences is None:
        return []
    rows = [[page.metric_name(m), *_signed(one)] for m, one in differences.by_metric().items()]
    title = "<h2>Model minus model 2, 95 % intervals (paired bootstrap over customers)</h2>"
    return [title, page.table(["", "difference", "low", "high"], rows)]


def _freshness_table(found: Backtest) -> str:
    rows = [
        [f"{name}, {age} older", cost.rows, cost.fresh, cost.stale, *_signed(cost)]
        for name, ages in found.freshness.items()
        for age, cost in ages.items()
    ]
    return page.table(["", "rows", "fresh", "older", "difference", "low", "high"], rows)


def _late_events(found: Backtest) -> list[str]:
    other = found.known_otherwise
    if other is None:
        return []
    rows = [
        [f"{name}, {page.metric_name(metric)}",
         found.metrics[name].by_metric()[metric], other.metrics[name].by_metric()[metric],
         *_signed(one)]
        for name, differences in other.intervals.items()
        for metric, one in differences.by_metric().items()
    ]  # fmt: skip
    late = ", ".join(f"{n:,} by more than {age}" for age, n in found.late_events.items())
    return [
        f"<h2>Late events, known by {other.known_by} instead</h2>",
        page.paragraph(
            f"Arrived late: {late}. Of {found.judged:,} judged rows "
            f"{other.rows_that_differ:,} would then have other scores."
        ),
        page.table(["", found.known_by, other.known_by, "difference", "low", "high"], rows),
    ]


def _categories(found: Backtest) -> str:
    head = ["category", "positives"]
    head += [f"{what}, {name}" for name in found.models for what in ("log loss", "AUC", "ECE")]
    rows = []
    for one in sorted(found.per_category, key=lambda c: -c.positives):
        cells: list[object] = [one.category_id, one.positives]
        for model in one.models.values():
            cells += [model.log_loss, model.auc, model.ece]
        rows.append(cells)
    return page.table(head, rows)


def _signed(found: MetricDifference | Staleness) -> list[str]:
    """Differences of models that are alike are small: five digits."""
    return [page.signed(value, 5) for value in (found.difference, found.low, found.high)]


def _over_time(found: Backtest, metric: str) -> str:
    figure, axes = page.new_figure()
    times = [datetime.fromtimestamp(p.from_ms / 1000, timezone.utc) for p in found.over_time]
    for name in found.over_time[0].models:
        # The prior ranks nobody, so that only its log loss says something.
        if name == "prior" and metric != "log_loss":
            continue
        values = [p.models[name].by_metric()[metric] for p in found.over_time]
        shown = [float("nan") if v is None else v for v in values]
        axes.plot(times, shown, marker="o", markersize=3, label=name, color=COLOURS[name])
    axes.set(ylabel=page.metric_name(metric))
    axes.tick_params(axis="x", rotation=30)
    axes.legend(frameon=False)
    caption = "Lower is better." if metric == "log_loss" else "Higher is better."
    return page.plot(figure, f"{page.metric_name(metric)} over time", caption)


def _freshness(found: Backtest) -> str:
    figure, axes = page.new_figure()
    for shift, (name, ages) in enumerate(found.freshness.items()):
        costs = {age: bar for age, cost in ages.items() if (bar := _error_bar(cost)) is not None}
        x = [i + 0.15 * shift for i in range(len(costs))]  # beside each other, not on top
        y, low, high = zip(*costs.values(), strict=True) if costs else ((), (), ())
        axes.errorbar(x, y, [low, high], fmt="o", capsize=3, label=name, color=COLOURS[name])
        axes.set_xticks(range(len(costs)), list(costs))
    axes.axhline(0, color="#aaaaaa", linewidth=1, linestyle="--")
    axes.set(xlabel="how much older the score is", ylabel="log loss, older minus fresh")
    if found.freshness["model"]:
        axes.legend(frameon=False)
    return page.plot(figure, "What staleness costs", "With 95 % intervals over customers.")


def _error_bar(cost: Staleness) -> tuple[float, float, float] | None:
    """The difference, and how far its interval reaches below and above; None if not defined."""
    if cost.difference is None or cost.low is None or cost.high is None:
        return None
    return cost.difference, cost.difference - cost.low, cost.high - cost.difference


def _by_age(found: Backtest) -> str:
    figure, axes = page.new_figure()
    ages = found.by_customer_age
    for shift, name in enumerate(ages[0].models):
        x = [i + 0.25 * shift for i in range(len(ages))]
        y = [age.models[name].log_loss for age in ages]
        axes.bar(x, y, width=0.22, label=name, color=COLOURS[name])
    words = [f"{a.from_days} to {a.to_days}" if a.to_days else f"{a.from_days} on" for a in ages]
    axes.set_xticks(range(len(ages)), words)
    axes.set(xlabel="days since the customer's first event", ylabel="log loss")
    axes.legend(frameon=False)
    return page.plot(figure, "By customer age", "How well customers are known by then.")
