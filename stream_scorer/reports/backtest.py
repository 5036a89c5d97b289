"""The page of `backtest`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream_scorer.core.evaluation.backtest import Backtest, JudgedScores
from stream_scorer.core.evaluation.backtest_metrics import Staleness
from stream_scorer.core.evaluation.intervals import ModelComparison
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.core.evaluation.scoring_times import EVENT, GIVEN_CUTOFFS
from stream_scorer.core.events.refused import ignored_events_in_words, refused_in_words
from stream_scorer.core.features.ignored_values import ignored_in_words
from stream_scorer.reports import differences, page, plots, task
from stream_scorer.reports import verdict as verdict_words
from stream_scorer.reports.curves import calibration_plot, gain_plot, histogram
from stream_scorer.reports.evaluation import metrics_table
from stream_scorer.reports.plots import AXIS, SERIES
from stream_scorer.reports.verdict import (
    BASELINES,
    LOWER_IS_BETTER,
    against,
    shown_names,
)

PLOTTED_METRICS = ("log_loss", "macro_auc", "recall_at_10")


def write(path: Path, found: Backtest, judged: JudgedScores) -> None:
    """The page, written whole or not at all. Raises InputError where that fails."""
    names = names_of(found)
    curves = {key: histogram(p, judged.acted) for key, p in judged.models.items()}
    figures = [_over_time(found, metric, names) for metric in PLOTTED_METRICS]
    figures += [
        _freshness(found, names), calibration_plot(curves, names), gain_plot(curves, names),
        _by_age(found, names),
    ]  # fmt: skip
    models = [
        task.NamedModel(names[key], of.path, of.model_version, of.trained, of.not_held_back)
        for key, of in found.models.items()
    ]
    page.write(
        path,
        f"Backtest of {' and '.join(names.values())}, {found.from_time[:10]} to "
        f"{found.to_time[:10]}",
        [
            page.verdict(verdict(found)),
            page.warnings(warnings(found)),
            page.heading("What was judged, and what was trained"),
            task.judged(found.task, found.judged, found.categories, found.categories_scored),
            page.paragraph(
                f"{found.events:,} events; {found.rows:,} scores ({_how_often(found.every)}), "
                f"{_of_which_judged(found)}. A score uses only what was known before it."
            ),
            task.trained(models),
            *(page.paragraph(text) for text in _notes(found, names)),
            page.heading("Metrics"),
            metrics_table([(names.get(n, n), m) for n, m in metrics_of(found).items()]),
            page.heading("Differences"),
            differences.table(_compared(found, names), 5),
            page.heading("Plots"),
            page.plots(figures),
            page.heading("Freshness: what older scores of the same rows would have cost"),
            page.wide(_freshness_table(found, names), "Freshness", "differences"),
            *_late_events(found, names),
            page.heading("Categories"),
            page.wide(_categories(found, names), "Categories"),
        ],
    )


def names_of(found: Backtest) -> dict[str, str]:
    """The shown names of the models, by their keys in the result."""
    return shown_names({key: of.path for key, of in found.models.items()})


def metrics_of(found: Backtest) -> dict[str, QualityMetrics]:
    """Those of the models first, then those of the baselines."""
    return {**found.metrics, **found.baselines}


def verdict(found: Backtest) -> list[str]:
    """The two models against each other, then each against the baselines."""
    names, loss = names_of(found), {key: of.log_loss for key, of in metrics_of(found).items()}
    sentences = []
    if found.intervals is not None:
        first, second = names.values()
        of_both = found.intervals.log_loss
        leading = "model" if (of_both.difference or 0) < 0 else "model 2"
        sentences.append(
            against(first, second, of_both, loss["model"], loss["model 2"],
                    flattered=found.models[leading].not_held_back)
        )  # fmt: skip
    sentences += [
        against(names[key], BASELINES[other], intervals.log_loss, loss[key], loss[other],
                flattered=found.models[key].not_held_back)
        for key, by_baseline in found.baseline_intervals.items()
        for other, intervals in by_baseline.items()
    ]  # fmt: skip
    return sentences or [
        f"{names['model']} has a log loss of {loss['model'] or float('nan'):.4f}; its manifest "
        "records no prior to compare it with."
    ]


def warnings(found: Backtest) -> list[str]:
    """What makes the figures doubtful, in sentences that fit after "warning:"."""
    return verdict_words.warnings(names_of(found), found.models, found.task)


def _how_often(every: str) -> str:
    if every == EVENT:
        return "one just after each event"
    if every == GIVEN_CUTOFFS:
        return "one of each customer at each given cut-off"
    return f"one of each customer every {every}"


def _of_which_judged(found: Backtest) -> str:
    if not found.pending:
        return "all judged"
    return (
        f"of which {found.judged:,} are judged; for the other {found.pending:,} the horizon was "
        "not over when the events ended"
    )


def _notes(found: Backtest, names: Mapping[str, str]) -> list[str]:
    notes = refused_in_words(found.refusals, ())
    notes += ignored_events_in_words(found.ignored_events)
    by_model = {names[k]: ignored_in_words(v) for k, v in found.ignored_values.items()}
    for line in dict.fromkeys(line for lines in by_model.values() for line in lines):
        of = [name for name, lines in by_model.items() if line in lines]
        notes.append(f"{line}." if len(of) == len(by_model) else f"{', '.join(of)}: {line}.")
    return notes


def _compared(found: Backtest, names: Mapping[str, str]) -> list[tuple[str, ModelComparison]]:
    compared = []
    if found.intervals is not None:
        compared.append((" minus ".join(names.values()), found.intervals))
    compared += [
        (f"{names[key]} minus {other}", intervals)
        for key, by_baseline in found.baseline_intervals.items()
        for other, intervals in by_baseline.items()
    ]
    return compared


def _freshness_table(found: Backtest, names: Mapping[str, str]) -> str:
    rows = [
        [f"{names[key]}, {age} older", cost.rows, cost.fresh, cost.stale,
         *differences.cells("log_loss", cost, 5)]
        for key, ages in found.freshness.items()
        for age, cost in ages.items()
    ]  # fmt: skip
    head = ["log loss", "rows", "fresh", "older", *differences.HEAD]
    return page.table(head, rows, "Older minus fresh, on the rows whose customers were known then.")


def _late_events(found: Backtest, names: Mapping[str, str]) -> list[str]:
    other = found.known_otherwise
    if other is None:
        return []
    rows = [
        [f"{names[key]}, {page.metric_name(metric)}",
         found.metrics[key].by_metric()[metric], other.metrics[key].by_metric()[metric],
         *differences.cells(metric, one, 5)]
        for key, intervals in other.intervals.items()
        for metric, one in intervals.by_metric().items()
    ]  # fmt: skip
    late = ", ".join(f"{n:,} by more than {age}" for age, n in found.late_events.items())
    head = ["metric", found.known_by, other.known_by, *differences.HEAD]
    return [
        page.heading(f"Late events, known by {other.known_by} instead"),
        page.paragraph(
            f"Arrived late: {late}. Of {found.judged:,} judged rows "
            f"{other.rows_that_differ:,} would then have other scores."
        ),
        page.wide(page.table(head, rows), "Late events", "differences"),
    ]


def _categories(found: Backtest, names: Mapping[str, str]) -> str:
    head = ["category", "positives"]
    head += [f"{what}, {names[key]}" for key in found.models for what in ("log loss", "AUC", "ECE")]
    rows = []
    for one in sorted(found.per_category, key=lambda c: -c.positives):
        cells: list[object] = [one.category_id, one.positives]
        for model in one.models.values():
            cells += [model.log_loss, model.auc, model.ece]
        rows.append(cells)
    return page.table(head, rows)


def _over_time(found: Backtest, metric: str, names: Mapping[str, str]) -> str:
    figure, axes = plots.new_figure()
    times = plots.tick_moments(axes, [p.from_ms for p in found.over_time])
    # The prior ranks nobody, so that only its log loss says something.
    keys = [k for k in found.over_time[0].models if k != "prior" or metric == "log_loss"]
    columns = {}
    for key in keys:
        values = [p.models[key].by_metric()[metric] for p in found.over_time]
        columns[key] = values
        shown = [float("nan") if v is None else v for v in values]
        axes.plot(times, shown, markersize=4, label=names.get(key, key), **SERIES[key]._asdict())
    axes.set(ylabel=page.metric_name(metric))
    rows = [
        [f"{time:%Y-%m-%d %H:%M} UTC", period.rows, *(columns[key][i] for key in keys)]
        for i, (time, period) in enumerate(zip(times, found.over_time, strict=True))
    ]
    points = page.table(["scored from", "rows", *(names.get(k, k) for k in keys)], rows)
    better = "Lower" if metric in LOWER_IS_BETTER else "Higher"
    caption = f"{better} is better. Ticks are at moments that were measured."
    return plots.plot(figure, f"{_capital(page.metric_name(metric))} over time", caption, points)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _freshness(found: Backtest, names: Mapping[str, str]) -> str:
    figure, axes = plots.new_figure()
    every_age = list(dict.fromkeys(age for ages in found.freshness.values() for age in ages))
    for shift, (key, ages) in enumerate(found.freshness.items()):
        costs = {age: bar for age, cost in ages.items() if (bar := _error_bar(cost)) is not None}
        if not costs:
            continue
        x = [every_age.index(age) + 0.15 * shift for age in costs]  # beside each other
        y, low, high = zip(*costs.values(), strict=True)
        color, marker, _ = SERIES[key]
        axes.errorbar(
            x, y, [low, high], fmt=marker, markersize=5, capsize=4, label=names[key], color=color
        )
    axes.set_xticks(range(len(every_age)), every_age)
    axes.set_xlim(-0.5, max(len(every_age), 1) - 0.5)
    axes.axhline(0, color=AXIS, linewidth=1, linestyle=":")
    axes.set(xlabel="how much older the score is", ylabel="log loss, older minus fresh")
    caption = "With 95 % intervals over customers. Above 0 an older score is worse."
    return plots.plot(figure, "What staleness costs", caption, _freshness_table(found, names))


def _error_bar(cost: Staleness) -> tuple[float, float, float] | None:
    """The difference, and how far its interval reaches below and above; None if not defined."""
    if cost.difference is None or cost.low is None or cost.high is None:
        return None
    return cost.difference, cost.difference - cost.low, cost.high - cost.difference


def _by_age(found: Backtest, names: Mapping[str, str]) -> str:
    figure, axes = plots.new_figure()
    ages = found.by_customer_age
    keys = list(ages[0].models)
    for shift, key in enumerate(keys):
        x = [i + 0.15 * (shift - (len(keys) - 1) / 2) for i in range(len(ages))]
        y = [age.models[key].log_loss for age in ages]
        color, marker, _ = SERIES[key]
        axes.plot(x, y, marker, markersize=6, label=names.get(key, key), color=color)
    words = [f"{a.from_days} to {a.to_days}" if a.to_days else f"{a.from_days} on" for a in ages]
    axes.set_xticks(range(len(ages)), words)
    axes.set_xlim(-0.5, len(ages) - 0.5)
    axes.set(xlabel="days since the customer's first event", ylabel="log loss")
    rows = [
        [word, age.rows, *(age.models[key].log_loss for key in keys)]
        for word, age in zip(words, ages, strict=True)
    ]
    points = page.table(["days", "rows", *(names.get(k, k) for k in keys)], rows)
    caption = "By how long customers had been known when they were scored. Lower is better."
    return plots.plot(figure, "By customer age", caption, points)
