"""The page of `drift --report`: the verdict, what moved, and how good scores turned out to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_scorer.core.drift.live_quality import LiveQuality
from stream_scorer.core.drift.stability import WATCH
from stream_scorer.core.drift.summary import (
    BlockDrift,
    DriftLimits,
    DriftSummary,
    EventDrift,
    ScoreDrift,
)
from stream_scorer.core.evaluation.quality_by_part import Estimate
from stream_scorer.core.events.moments import moment_text
from stream_scorer.reports import page, plots

VERDICTS = {
    "stable": "Stable: what is scored is like what the model was trained on.",
    "watch": "Worth watching: something moved, not far enough to act on.",
    "drifted": "Drifted: look at what moved, and train again on newer rows.",
    "unknown": "Unknown: nothing could be judged.",
}
STATES = {
    "stable": "stable", "watch": "watch", "drifted": "drifted", "too_few_rows": "too few rows",
    "not_judged": "not judged",
}  # fmt: skip
PLOTTED_BLOCKS = 20  # whose index is a bar
SHOWN_BLOCKS = 4  # whose distribution is plotted


def write(path: Path, namespace: str, found: DriftSummary, limits: DriftLimits) -> None:
    """The page, written whole or not at all. Raises InputError where that fails."""
    worst = sorted(found.blocks, key=lambda block: -(block.psi or 0.0))
    page.write(
        path,
        f"Drift of {namespace}",
        [
            page.verdict([VERDICTS[found.verdict], *(f"{r}." for r in found.reasons)]),
            page.warnings(found.notes),
            page.heading("What was compared"),
            page.paragraph(_compared(found)),
            page.paragraph(
                f"The population stability index says how far shares of bins moved: below "
                f"{WATCH:g} is stable, from {limits.max_psi:g} on there is something to do. "
                '"By chance" is what it is on average where nothing moved, and its limit what it '
                "is beyond once in a thousand times then: an index within that limit says nothing."
            ),
            *(_features(worst, limits) if worst else []),
            *(_scores(found.scores) if found.scores else []),
            *(_events(found.events) if found.events is not None else []),
            *_quality(found.quality),
        ],
    )


def _compared(found: DriftSummary) -> str:
    if found.from_ms is None or found.to_ms is None:
        return f"Model {found.model_version}. Nothing was sampled in the window."
    window = f"{page.moment(moment_text(found.from_ms))} to {page.moment(moment_text(found.to_ms))}"
    training = ""
    if found.training_rows is not None:
        which = " just after events" if found.training_rows_of == "event" else ""
        training = f", against {found.training_rows:,} training rows{which}"
    return (
        f"Model {found.model_version}: {found.rows:,} rows of about {found.customers:,} sampled "
        f"customers, scored by "
        f"{found.members:,} member{'' if found.members == 1 else 's'} from {window}{training}."
    )


def _features(worst: Sequence[BlockDrift], limits: DriftLimits) -> list[str]:
    figures = [_indexes(worst[:PLOTTED_BLOCKS], limits)]
    figures += [_distribution(block) for block in worst[:SHOWN_BLOCKS] if any(block.shares)]
    rows = [
        [block.block, block.kind, block.psi_amount, block.psi_columns, block.psi_by_chance,
         block.psi_limit, page.signed(block.mean_shift, 2), _within(block), STATES[block.state],
         _moved(block)]
        for block in worst
    ]  # fmt: skip
    head = [
        "feature", "kind", "index of amounts", "index of columns", "by chance", "limit of chance",
        "mean, in deviations", "mean by chance", "state", "columns that moved most",
    ]  # fmt: skip
    return [
        page.heading("Features"),
        page.plots(figures),
        page.wide(page.table(head, rows), "Drift of each feature"),
        *(page.paragraph(note) for note in sorted({b.note for b in worst if b.note})),
    ]


def _within(block: BlockDrift) -> str:
    shift = block.mean_shift_by_chance
    return "" if shift is None else f"±{shift:.2f}"


def _moved(block: BlockDrift) -> str:
    return "; ".join(
        f"{one.column.removeprefix(block.block)} {one.training_share:.1%} to {one.share:.1%}"
        for one in block.moved_columns[:2]
    )


def _indexes(blocks: Sequence[BlockDrift], limits: DriftLimits) -> str:
    figure, axes = plots.new_figure()
    places = np.arange(len(blocks))[::-1]
    axes.barh(places, [block.psi or 0.0 for block in blocks], color=plots.BLUE, height=0.7)
    axes.axvline(WATCH, color=plots.GREY, linestyle=":", label=f"watch, {WATCH:g}")
    axes.axvline(
        limits.max_psi, color=plots.ORANGE, linestyle="--", label=f"act, {limits.max_psi:g}"
    )
    axes.set_yticks(places, [block.block for block in blocks])
    axes.set(xlabel="population stability index")
    points = page.table(["feature", "index"], [[block.block, block.psi] for block in blocks])
    return plots.plot(
        figure, "Features that moved most", "Each feature with one half-life; longer is further.",
        points,
    )  # fmt: skip


def _distribution(block: BlockDrift) -> str:
    figure, axes = plots.new_figure()
    places = np.arange(len(block.shares))
    axes.bar(places - 0.2, block.training_shares, 0.4, color=plots.GREY, label="training")
    axes.bar(places + 0.2, block.shares, 0.4, color=plots.BLUE, label="live")
    names = ["0", *(f"≤ {edge:.4g}" for edge in block.edges)]
    names.append(f"> {block.edges[-1]:.4g}" if block.edges else "not 0")
    axes.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set(ylabel="share of rows")
    rows = list(zip(names, block.training_shares, block.shares, strict=True))
    return plots.plot(
        figure, f"Amounts of {block.block}",
        "Shares of rows by the sum of their entries, of training and live.",
        page.table(["amount", "training", "live"], rows),
    )  # fmt: skip


def _scores(scores: Sequence[ScoreDrift]) -> list[str]:
    rows = [
        [one.category_id or "all categories", one.psi, one.psi_by_chance, one.psi_limit, one.mean,
         one.training_mean, STATES[one.state]]
        for one in [scores[0], *sorted(scores[1:], key=lambda one: -(one.psi or 0.0))]
    ]  # fmt: skip
    head = [
        "category", "index", "by chance", "limit of chance", "mean", "mean in training", "state",
    ]  # fmt: skip
    shown = page.wide(page.table(head, rows), "Drift of the scores of each category")
    return [page.heading("Scores: the probability of acting"), shown]


def _events(events: EventDrift) -> list[str]:
    training = events.training_shares or {}
    names = sorted({*events.shares, *training})
    rows = [[name, events.shares.get(name), training.get(name)] for name in names]
    index = (
        ""
        if events.psi is None
        else (f" Their index is {events.psi:.3f}, by chance {events.psi_by_chance or 0:.3f}.")
    )
    parts = [
        page.heading("Events"),
        page.paragraph(f"{events.events:,} events in the window.{index}"),
        page.wide(page.table(["event type", "share", "share in training"], rows), "Event types"),
    ]
    if events.unknown_words:
        known = events.training_unknown_words or {}
        words = [[name, share, known.get(name)] for name, share in events.unknown_words.items()]
        head = ["field", "share of events with an unknown word", "in training"]
        parts.append(page.wide(page.table(head, words), "Unknown words"))
    return parts


def _quality(quality: Sequence[LiveQuality]) -> list[str]:
    judged = [one for one in quality if one.delays]
    parts = [page.heading("Live quality: what followed customers then did")]
    if not judged:
        waiting = sum(one.followed for one in quality)
        words = f"{waiting:,} scores are followed; none is old enough to be judged."
        return [*parts, page.paragraph(words)]
    parts.append(
        page.paragraph(
            "A delay judges a score by what happened within it. Only the whole horizon is what was "
            "predicted, so log loss and calibration are of horizons that are over. In brackets are "
            "95 % intervals, of a bootstrap over customers; beside the calibration error stands "
            "what it is by chance where every probability is right."
        )
    )
    rows = [
        [f"{of.model_version}, {one.delay}", one.scores, one.positives,
         _reach(one.intervals.recall_at_10), _reach(one.intervals.micro_auc),
         _reach(one.intervals.log_loss), one.ece, one.ece_by_chance,
         _reach(one.intervals.predicted_over_seen)]
        for of in judged
        for one in of.delays
    ]  # fmt: skip
    head = [
        "model, delay", "scores", "actions", "recall@10", "AUC", "log loss", "calibration error",
        "by chance", "predicted over seen",
    ]  # fmt: skip
    return [*parts, page.wide(page.table(head, rows), "Live quality by model and delay")]


def _reach(found: Estimate) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
