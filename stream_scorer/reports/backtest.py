"""The page of `backtest`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stream_scorer.core.events.batch import Bool
from stream_scorer.core.features.state import Float32
from stream_scorer.reports import page
from stream_scorer.reports.evaluation import COLOURS, calibration_plot, gain_plot, histogram

METRIC_NAMES = {"log_loss": "log loss", "macro_auc": "macro AUC", "recall_at_10": "recall@10"}


def write(
    path: Path, report: Mapping[str, Any], scores: Mapping[str, Float32], acted: Bool
) -> None:
    """The page. report: what `backtest` returns; scores: (R, N) by model; acted (R, N)."""
    curves = {name: histogram(p, acted) for name, p in scores.items()}
    plots = [_over_time(report, metric) for metric in METRIC_NAMES]
    plots += [_freshness(report), calibration_plot(curves), gain_plot(curves), _by_age(report)]
    page.write(
        path,
        f"Backtest, {report['from'][:10]} to {report['to'][:10]}",
        [
            page.paragraph(
                f"{report['events']:,} events; {report['rows']:,} scores ({report['every']}), of "
                f"which {report['judged']:,} are judged; for {report['pending']:,} the horizon is "
                f"not over. {report['categories']:,} categories, {report['categories_scored']:,} "
                "with both outcomes. A score uses only what was known before it."
            ),
            *(page.paragraph(text) for text in _notes(report)),
            "<h2>Metrics</h2>",
            _metrics(report),
            *_intervals(report),
            f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>',
            "<h2>Freshness: log loss of older scores of the same rows</h2>",
            _freshness_table(report),
            *_otherwise(report),
            f'<h2>Categories</h2><div class="wide">{_categories(report)}</div>',
        ],
    )


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = [f"{name}: {m['path']}, version {m['model_version']}." for name, m in
             report["models"].items()]  # fmt: skip
    notes += [
        f"{name} is not held back: its training's labels reach into the scored time, so its "
        "figures flatter."
        for name, m in report["models"].items()
        if m["not_held_back"]
    ]
    if report["dead_letters"]:
        counts = ", ".join(f"{n:,} {reason}" for reason, n in report["dead_letters"].items())
        notes.append(f"Records left out: {counts}.")
    return notes


def _metrics(report: Mapping[str, Any]) -> str:
    columns = {**report["metrics"], **report["baselines"]}
    names = list(next(iter(columns.values())))
    rows = [[page.metric_name(m), *(c[m] for c in columns.values())] for m in names]
    return page.table(["metric", *columns], rows)


def _intervals(report: Mapping[str, Any]) -> list[str]:
    rows = [[page.metric_name(m), *_five(found)] for m, found in report["intervals"].items()]
    if not rows:
        return []
    title = "<h2>Model minus model 2, 95 % intervals (paired bootstrap over customers)</h2>"
    return [title, page.table(["", "difference", "low", "high"], rows)]


def _freshness_table(report: Mapping[str, Any]) -> str:
    rows = [
        [f"{name}, {age} older", found["rows"], found["fresh"], found["stale"], *_five(found)]
        for name, ages in report["freshness"].items()
        for age, found in ages.items()
    ]
    return page.table(["", "rows", "fresh", "older", "difference", "low", "high"], rows)


def _otherwise(report: Mapping[str, Any]) -> list[str]:
    other = report["known_otherwise"]
    if other is None:
        return []
    rows = [
        [f"{name}, {METRIC_NAMES.get(metric, metric)}", report["metrics"][name][metric],
         other["metrics"][name][metric], *_five(found)]
        for name, intervals in other["intervals"].items()
        for metric, found in intervals.items()
    ]  # fmt: skip
    late = ", ".join(f"{n:,} by more than {age}" for age, n in report["late_events"].items())
    return [
        f"<h2>Late events, known by {other['known_by']} instead</h2>",
        page.paragraph(
            f"Arrived late: {late}. Of {report['judged']:,} judged rows "
            f"{other['rows_that_differ']:,} have other scores so."
        ),
        page.table(["", report["known_by"], other["known_by"], "difference", "low", "high"], rows),
    ]


def _categories(report: Mapping[str, Any]) -> str:
    models = list(report["models"])
    head = ["category", "positives"]
    head += [f"{what}, {name}" for name in models for what in ("log loss", "AUC", "ECE")]
    rows = []
    for one in sorted(report["per_category"], key=lambda c: -c["positives"]):
        cells = [one["category_id"], one["positives"]]
        for name in models:
            cells += [one["models"][name][metric] for metric in ("log_loss", "auc", "ece")]
        rows.append(cells)
    return page.table(head, rows)


def _five(found: Mapping[str, float | None]) -> list[str]:
    """Differences are small: five digits."""
    return [_signed(found[name]) for name in ("difference", "low", "high")]


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.5f}"


def _over_time(report: Mapping[str, Any], metric: str) -> str:
    figure, axes = page.new_figure()
    periods = report["over_time"]
    at = [datetime.fromtimestamp(p["from_ms"] / 1000, timezone.utc) for p in periods]
    for name in periods[0]["models"]:
        values = [p["models"][name][metric] for p in periods]
        if name == "prior" and metric != "log_loss":
            continue
        shown = [float("nan") if v is None else v for v in values]
        axes.plot(at, shown, marker="o", markersize=3, label=name, color=COLOURS[name])
    axes.set(ylabel=METRIC_NAMES[metric])
    axes.tick_params(axis="x", rotation=30)
    axes.legend(frameon=False)
    caption = "Lower is better." if metric == "log_loss" else "Higher is better."
    return page.plot(figure, f"{METRIC_NAMES[metric]} over time", caption)


def _freshness(report: Mapping[str, Any]) -> str:
    figure, axes = page.new_figure()
    for shift, (name, ages) in enumerate(report["freshness"].items()):
        known = {age: f for age, f in ages.items() if f["difference"] is not None}
        x = [i + 0.15 * shift for i in range(len(known))]
        y = [f["difference"] for f in known.values()]
        low = [f["difference"] - f["low"] for f in known.values()]
        high = [f["high"] - f["difference"] for f in known.values()]
        axes.errorbar(x, y, [low, high], fmt="o", capsize=3, label=name, color=COLOURS[name])
        axes.set_xticks(range(len(known)), list(known))
    axes.axhline(0, color="#aaaaaa", linewidth=1, linestyle="--")
    axes.set(xlabel="how much older the score is", ylabel="log loss, older minus fresh")
    if report["freshness"]["model"]:
        axes.legend(frameon=False)
    return page.plot(figure, "What staleness costs", "With 95 % intervals over customers.")


def _by_age(report: Mapping[str, Any]) -> str:
    figure, axes = page.new_figure()
    ages = report["by_customer_age"]
    names = list(ages[0]["models"])
    for shift, name in enumerate(names):
        x = [i + 0.25 * shift for i in range(len(ages))]
        y = [a["models"][name]["log_loss"] for a in ages]
        axes.bar(x, y, width=0.22, label=name, color=COLOURS[name])
    words = [
        f"{a['from_days']} to {a['to_days']}" if a["to_days"] else f"{a['from_days']} on"
        for a in ages
    ]
    axes.set_xticks(range(len(ages)), words)
    axes.set(xlabel="days since the customer's first event", ylabel="log loss")
    axes.legend(frameon=False)
    return page.plot(figure, "By customer age", "How well customers are known by then.")
