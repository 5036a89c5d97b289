"""The page of `evaluate --report`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stream_scorer.core.evaluation.evaluation import MODEL, Evaluation, ScoredRows
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.reports import differences, page, task
from stream_scorer.reports import verdict as verdict_words
from stream_scorer.reports.curves import (
    auc_plot,
    calibration_plot,
    gain_plot,
    histogram,
    spread_plot,
)
from stream_scorer.reports.verdict import BASELINES as BASELINE_WORDS
from stream_scorer.reports.verdict import against, shown_names
from stream_scorer.storage.places import Place

# The prior ranks nobody: its AUC is always a half, so that there is none in the tables.
RANKING = ("logistic",)


def write(path: Place, found: Evaluation, scored: ScoredRows) -> None:
    """The page, written whole or not at all. Raises InputError where that fails."""
    histograms = {
        name: histogram(p, scored.acted, scored.weight) for name, p in scored.by_model.items()
    }
    names = names_of(found)
    figures = [
        calibration_plot(histograms, names),
        gain_plot(histograms, names),
        auc_plot(found, names),
        spread_plot(histograms[MODEL]),
    ]
    compared = [
        (f"{names[MODEL]} minus {name}", intervals) for name, intervals in found.intervals.items()
    ]
    model = task.NamedModel(
        names[MODEL], found.model, found.model_version, found.trained, found.not_held_back
    )
    page.write(
        path,
        f"Evaluation of {names[MODEL]}",
        [
            page.verdict(verdict(found)),
            page.warnings(warnings(found)),
            page.heading("What was judged, and what was trained"),
            task.judged(found.task, found.rows, found.categories, found.categories_scored),
            task.trained([model]),
            *(page.paragraph(note) for note in found.notes if not note.startswith("not held back")),
            page.heading("Metrics"),
            metrics_table([(names.get(n, n), m) for n, m in metrics_of(found).items()]),
            *([page.heading("Differences"), differences.table(compared, 4)] if compared else []),
            page.heading("Plots"),
            page.plots(figures),
            page.heading("Categories"),
            page.wide(_categories(found), "Categories"),
        ],
    )


def names_of(found: Evaluation) -> dict[str, str]:
    """The shown name of the model; baselines have their own."""
    return shown_names({MODEL: found.model})


def metrics_of(found: Evaluation) -> dict[str, QualityMetrics]:
    """The model's first, then those of the baselines."""
    return {MODEL: found.metrics, **found.baselines}


def verdict(found: Evaluation) -> list[str]:
    """Against each baseline, the strongest first."""
    name = names_of(found)[MODEL]
    ours = found.metrics.log_loss
    sentences = [
        against(name, BASELINE_WORDS[other], intervals.log_loss, ours,
                found.baselines[other].log_loss, flattered=found.not_held_back)
        for other, intervals in reversed(list(found.intervals.items()))
    ]  # fmt: skip
    if sentences:
        return sentences
    loss = "not defined" if ours is None else f"{ours:.4f}"
    return [f"{name} has a log loss of {loss}; there is no baseline to compare it with."]


def warnings(found: Evaluation) -> list[str]:
    """What makes the figures doubtful, in sentences that fit after "warning:"."""
    return verdict_words.warnings(names_of(found), {MODEL: found}, found.task)


def metrics_table(columns: Sequence[tuple[str, QualityMetrics]]) -> str:
    """A row for each metric, a column for each model or baseline; the best of a row is marked."""
    values = [found.by_metric() for _, found in columns]
    rows = [
        [page.metric_name(metric), *_with_best(metric, [of[metric] for of in values])]
        for metric in values[0]
    ]
    shown = page.table(["metric", *(name for name, _ in columns)], rows)
    better = "Lower is better for log loss and ECE, higher for the others. ★ marks the best."
    return page.wide(shown, "Metrics") + f'<p class="soft">{better}</p>'


def _with_best(metric: str, values: Sequence[float | None]) -> Iterable[object]:
    known = [v for v in values if v is not None]
    if len(values) < 2 or len(set(known)) < 2:
        return values
    best = min(known) if metric in ("log_loss", "ece") else max(known)
    star = '<span aria-hidden="true">★</span><span class="unseen">best</span> '
    return [page.Html(f"{star}<b>{v:.4f}</b>") if v == best else v for v in values]


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
