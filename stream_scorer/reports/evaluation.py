"""The page of `evaluate --report`.

The curves come from one histogram over log odds for each model, `BINS` bins wide, so that their
cost does not depend on how many pairs of row and category there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stream_scorer.core.evaluation.evaluation import MODEL, Evaluation, ScoredRows
from stream_scorer.core.evaluation.log_odds_bins import (
    MOST_LOG_ODDS,
    LogOddsBins,
    log_odds_bins,
)
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.core.events.batch import Bool
from stream_scorer.core.features.state import Float32
from stream_scorer.reports import page

BINS = 600
PLOTTED_BINS = 20  # of the calibration curve, with about as many pairs each
# The prior ranks nobody: its AUC is always a half, so that there is none in the tables.
RANKING = ("logistic",)
COLOURS = {
    "model": "#1f6feb", "model 2": "#d9730d", "logistic": "#d9730d", "prior": "#888888",
    "active": "#1f6feb", "challenger": "#d9730d",
}  # fmt: skip


def write(path: Path, found: Evaluation, scored: ScoredRows) -> None:
    """The page, written whole or not at all. Raises InputError where that fails."""
    histograms = {
        name: histogram(p, scored.acted, scored.weight) for name, p in scored.by_model.items()
    }
    plots = [calibration_plot(histograms), gain_plot(histograms), _auc(found), _spread(histograms)]
    page.write(
        path,
        f"Model {found.model_version}",
        [
            page.paragraph(
                f"{found.rows:,} rows, {found.categories:,} categories, "
                f"{found.categories_scored:,} of them with both outcomes."
            ),
            *(page.paragraph(note) for note in found.notes),
            "<h2>Metrics</h2>",
            metrics_table({MODEL: found.metrics, **found.baselines}),
            *_intervals(found),
            f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>',
            f'<h2>Categories</h2><div class="wide">{_categories(found)}</div>',
        ],
    )


def metrics_table(columns: Mapping[str, QualityMetrics]) -> str:
    """A row for each metric, a column for each model or baseline."""
    values = {name: found.by_metric() for name, found in columns.items()}
    rows = [
        [page.metric_name(metric), *(of[metric] for of in values.values())]
        for metric in next(iter(values.values()))
    ]
    return page.table(["metric", *columns], rows)


def _intervals(found: Evaluation) -> list[str]:
    rows = [
        [
            f"{page.metric_name(metric)}, model minus {name}",
            *(page.signed(v, 4) for v in (one.difference, one.low, one.high)),
        ]
        for name, differences in found.intervals.items()
        for metric, one in differences.by_metric().items()
    ]
    if not rows:
        return []
    title = "<h2>Differences, with 95 % intervals (paired bootstrap over customers)</h2>"
    return [title, page.table(["", "difference", "low", "high"], rows)]


def _categories(found: Evaluation) -> str:
    head = ["category", "positives", "log loss", "AUC", "AP", "recall@10", "ECE"]
    for name in found.baselines:
        head += [f"log loss, {name}", *([f"AUC, {name}"] if name in RANKING else [])]
    rows = []
    for one in sorted(found.per_category, key=lambda c: -c.positives):
        cells = [one.category_id, one.positives, one.log_loss, one.auc, one.average_precision,
                 one.recall_at_10, one.ece]  # fmt: skip
        for name, baseline in one.baselines.items():
            cells += [baseline.log_loss, *([baseline.auc] if name in RANKING else [])]
        rows.append(cells)
    return page.table(head, rows)


def histogram(p: Float32, acted: Bool, weight: Float32 | None = None) -> LogOddsBins:
    """As `log_odds_bins`, as finely as a plot needs it."""
    return log_odds_bins(p, acted, BINS, weight)


def calibration_plot(histograms: Mapping[str, LogOddsBins]) -> str:
    figure, axes = page.new_figure()
    axes.plot([1e-4, 1], [1e-4, 1], color="#aaaaaa", linewidth=1, linestyle="--")
    for name, h in histograms.items():
        shares = np.cumsum(h.weight) / max(float(h.weight.sum()), 1)
        merged = np.minimum((shares * PLOTTED_BINS).astype(np.int64), PLOTTED_BINS - 1)
        weight, probability, positives = (
            np.bincount(merged, column) for column in (h.weight, h.probability, h.positives)
        )
        shown = positives > 0
        axes.plot(
            probability[shown] / weight[shown], positives[shown] / weight[shown],
            marker="o", markersize=3, linewidth=1.2, label=name, color=COLOURS[name],
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="probability given", ylabel="share that acted")
    axes.legend(frameon=False)
    return page.plot(figure, "Calibration", "On the dashed line probabilities mean what they say.")


def gain_plot(histograms: Mapping[str, LogOddsBins]) -> str:
    figure, axes = page.new_figure()
    for name, h in histograms.items():
        pairs, found = np.cumsum(h.weight[::-1]), np.cumsum(h.positives[::-1])
        x, y = pairs / max(pairs[-1], 1), found / max(found[-1], 1)
        axes.plot([0, *x], [0, *y], linewidth=1.5, label=name, color=COLOURS[name])
    axes.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1, linestyle="--")
    axes.set(xlabel="share of (customer, category) pairs, most probable first",
             ylabel="share of actions found", xlim=(0, 1), ylim=(0, 1.01))  # fmt: skip
    axes.legend(frameon=False, loc="lower right")
    caption = "How many of the actions lie among the pairs that a model thinks most probable."
    return page.plot(figure, "Gain", caption)


def _auc(found: Evaluation) -> str:
    figure, axes = page.new_figure()
    known = [c for c in found.per_category if c.auc is not None]
    positives = np.array([c.positives for c in known], np.float64)
    axes.scatter(positives, [c.auc for c in known], s=12, color=COLOURS["model"], label="model",
                 alpha=0.8, linewidths=0)  # fmt: skip
    if "logistic" in found.baselines:
        theirs = [c.baselines["logistic"].auc for c in known]
        axes.scatter(positives, theirs, s=12, color=COLOURS["logistic"], label="logistic",
                     alpha=0.5, linewidths=0)  # fmt: skip
    axes.axhline(0.5, color="#aaaaaa", linewidth=1, linestyle="--")
    # Without a point there is nothing to take the logarithm of, which matplotlib refuses.
    scale = "log" if known else "linear"
    axes.set(xscale=scale, xlabel="positives of the category", ylabel="AUC", ylim=(None, 1.02))
    axes.legend(frameon=False, loc="lower right", ncols=2, bbox_to_anchor=(1, 0.98))
    return page.plot(figure, "AUC by category", "One dot for each category with both outcomes.")


def _spread(histograms: Mapping[str, LogOddsBins]) -> str:
    figure, axes = page.new_figure()
    h, wide = histograms["model"], 6  # bins of log odds in one bar
    edges = np.linspace(-MOST_LOG_ODDS, MOST_LOG_ODDS, BINS // wide + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    probability = 1 / (1 + np.exp(-middle))
    for counts, label, colour in (
        (h.weight - h.positives, "did not act", "#888888"), (h.positives, "acted", "#1f6feb"),
    ):  # fmt: skip
        bars = counts.reshape(-1, wide).sum(axis=1)
        share = bars / max(float(bars.sum()), 1)
        axes.fill_between(probability, share, step="mid", alpha=0.45, label=label, color=colour)
    axes.set(xscale="logit", xlabel="probability given", ylabel="share of pairs")
    axes.set_xlim(1e-4, 0.999)
    axes.set_xticks([0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99],
                    ["0.01 %", "0.1 %", "1 %", "10 %", "50 %", "90 %", "99 %"])  # fmt: skip
    axes.xaxis.set_minor_formatter("")
    axes.set_ylim(0, None)
    axes.legend(frameon=False)
    caption = "Probabilities of pairs that acted and of those that did not, each adding up to 1."
    return page.plot(figure, "Scores", caption)
