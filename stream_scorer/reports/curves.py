"""Plots of scores: how well probabilities mean what they say, and how well they rank.

The curves come from one histogram over log odds for each model, `BINS` bins wide, so that their
cost does not depend on how many pairs of row and category there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stream_scorer.core.evaluation.evaluation import MODEL, Evaluation
from stream_scorer.core.evaluation.log_odds_bins import (
    MOST_LOG_ODDS,
    LogOddsBins,
    log_odds_bins,
)
from stream_scorer.core.events.batch import Bool
from stream_scorer.core.features.state import Float32
from stream_scorer.reports import page, plots
from stream_scorer.reports.plots import AXIS, BLUE, GREY, SERIES

BINS = 600
PLOTTED_BINS = 20  # of the calibration curve, with about as many pairs each
GAIN_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # in the table of the gain
SPREAD_EDGES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # in the table of the scores
PERCENT = ([0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99],
           ["0.01 %", "0.1 %", "1 %", "10 %", "50 %", "90 %", "99 %"])  # fmt: skip

Points = tuple[Sequence[float], Sequence[float]]


def histogram(p: Float32, acted: Bool, weight: Float32 | None = None) -> LogOddsBins:
    """As `log_odds_bins`, as finely as a plot needs it."""
    return log_odds_bins(p, acted, BINS, weight)


def calibration_plot(histograms: Mapping[str, LogOddsBins], names: Mapping[str, str]) -> str:
    """names: what to call those that are not called by their key."""
    curves: dict[str, Points] = {}
    for key, h in histograms.items():
        if key == "prior":
            continue  # a share of rows says what it means, so its curve hides the others
        shares = np.cumsum(h.weight) / max(float(h.weight.sum()), 1)
        merged = np.minimum((shares * PLOTTED_BINS).astype(np.int64), PLOTTED_BINS - 1)
        weight, probability, positives = (
            np.bincount(merged, column) for column in (h.weight, h.probability, h.positives)
        )
        filled = weight > 0
        given, acted = (column[filled] / weight[filled] for column in (probability, positives))
        curves[key] = given.tolist(), acted.tolist()
    return calibration_of(curves, names, SERIES, "model")


def calibration_of(
    curves: Mapping[str, Points], names: Mapping[str, str],
    series: Mapping[str, plots.Series], what: str,
) -> str:  # fmt: skip
    """The plot, and its points as a table. curves: by key the probabilities that were given, and
    the shares that acted. names: as in `calibration_plot`. what: the curves are of, in the table.
    """
    figure, axes = plots.new_figure()
    axes.plot([1e-4, 1], [1e-4, 1], color=AXIS, linewidth=1, linestyle=":")
    rows: list[list[object]] = []
    lowest = 1.0
    for key, (all_given, all_acted) in curves.items():
        # On a logarithmic axis there is no 0.
        shown = [(p, y) for p, y in zip(all_given, all_acted, strict=True) if y > 0]
        given, acted = [p for p, _ in shown], [y for _, y in shown]
        name, style = names.get(key, key), series[key]._asdict()
        axes.plot(given, acted, markersize=4, linewidth=1.3, label=name, **style)
        lowest = min([lowest, *given, *acted])
        rows += [[name, f"{p:.3%}", f"{y:.3%}"] for p, y in shown]
    axes.set(xscale="log", yscale="log", xlabel="probability given", ylabel="share that acted",
             xlim=(lowest / 1.5, 1), ylim=(lowest / 1.5, 1))  # fmt: skip
    points = page.table([what, "probability given", "share that acted"], rows)
    caption = "On the dotted line probabilities mean what they say; above it they are too low."
    return plots.plot(figure, "Calibration", caption, points)


def gain_plot(histograms: Mapping[str, LogOddsBins], names: Mapping[str, str]) -> str:
    """names: what to call those that are not called by their key."""
    figure, axes = plots.new_figure()
    rows: list[list[object]] = []
    for key, h in histograms.items():
        pairs, found = np.cumsum(h.weight[::-1]), np.cumsum(h.positives[::-1])
        x, y = pairs / max(pairs[-1], 1), found / max(found[-1], 1)
        name, (color, _, linestyle) = names.get(key, key), SERIES[key]
        axes.plot([0, *x], [0, *y], linewidth=1.6, label=name, color=color, linestyle=linestyle)
        at = np.interp(GAIN_SHARES, x, y)
        rows += [[name, f"{s:.0%}", f"{f:.1%}"] for s, f in zip(GAIN_SHARES, at, strict=True)]
    axes.plot([0, 1], [0, 1], color=AXIS, linewidth=1, linestyle=":")
    axes.set(xlabel="share of pairs of customer and category, most probable first",
             ylabel="share of actions found", xlim=(0, 1), ylim=(0, 1.01))  # fmt: skip
    points = page.table(["model", "share of pairs", "share of actions found"], rows)
    caption = "How many of the actions lie among the pairs that a model thinks most probable."
    return plots.plot(figure, "Gain", caption, points)


def auc_plot(found: Evaluation, names: Mapping[str, str]) -> str:
    """One dot for each category with both outcomes; names: as of `gain_plot`."""
    figure, axes = plots.new_figure()
    known = [c for c in found.per_category if c.auc is not None]
    positives = np.array([c.positives for c in known], np.float64)
    name = names.get(MODEL, MODEL)
    axes.scatter(positives, [c.auc for c in known], s=16, color=BLUE, label=name, linewidths=0)
    rows: list[list[object]] = [[c.category_id, c.positives, c.auc] for c in known]
    head = ["category", "positives", name]
    if "logistic" in found.baselines:
        theirs = [c.baselines["logistic"].auc for c in known]
        axes.scatter(
            positives, theirs, s=14, marker="s", facecolors="none",
            edgecolors=SERIES["logistic"].color, linewidths=0.9, label="logistic",
        )  # fmt: skip
        head.append("logistic")
        rows = [[*row, auc] for row, auc in zip(rows, theirs, strict=True)]
    axes.axhline(0.5, color=AXIS, linewidth=1, linestyle=":")
    # Without a point there is nothing to take the logarithm of, which matplotlib refuses.
    scale = "log" if known else "linear"
    axes.set(xscale=scale, xlabel="positives of the category", ylabel="AUC", ylim=(None, 1.02))
    caption = "One mark for each category with both outcomes. At 0.5 the order is chance."
    return plots.plot(figure, "AUC by category", caption, page.table(head, rows))


def spread_plot(h: LogOddsBins) -> str:
    """The probabilities that one model gave."""
    figure, axes = plots.new_figure()
    wide = 6  # bins of log odds in one bar
    edges = np.linspace(-MOST_LOG_ODDS, MOST_LOG_ODDS, BINS // wide + 1)
    probability = 1 / (1 + np.exp(-(edges[1:] + edges[:-1]) / 2))
    shares = []
    for counts, label, colour, hatch in (
        (h.weight - h.positives, "did not act", GREY, None), (h.positives, "acted", BLUE, "////"),
    ):  # fmt: skip
        bars = counts.reshape(-1, wide).sum(axis=1)
        share = bars / max(float(bars.sum()), 1)
        axes.fill_between(probability, share, step="mid", alpha=0.35, label=label, color=colour)
        axes.step(probability, share, where="mid", color=colour, linewidth=1.2,
                  linestyle="-" if hatch is None else "--")  # fmt: skip
        shares.append(np.concatenate([[0.0], np.cumsum(counts / max(float(counts.sum()), 1))]))
    axes.set(xscale="logit", xlabel="probability given", ylabel="share of pairs")
    axes.set_xlim(1e-4, 0.999)
    axes.set_xticks(*PERCENT)
    axes.xaxis.set_minor_formatter("")
    axes.set_ylim(0, None)
    fine = 1 / (1 + np.exp(-np.linspace(-MOST_LOG_ODDS, MOST_LOG_ODDS, BINS + 1)))
    fine[0], fine[-1] = 0, 1
    at = [np.diff(np.interp(SPREAD_EDGES, fine, share)) for share in shares]
    rows = [
        [f"{low:.1%} to {high:.1%}", f"{idle:.1%}", f"{acting:.1%}"]
        for low, high, idle, acting in zip(SPREAD_EDGES, SPREAD_EDGES[1:], *at, strict=False)
    ]
    points = page.table(["probability given", "did not act", "acted"], rows)
    caption = "Probabilities of pairs that acted and of those that did not, each adding up to 1."
    return plots.plot(figure, "Scores", caption, points)
