"""The page of `models compare --report`."""

from __future__ import annotations

from pathlib import Path

from stream_scorer.core.evaluation.intervals import ModelComparison
from stream_scorer.core.evaluation.model_comparison import ComparedModels, JudgedPair
from stream_scorer.reports import page
from stream_scorer.reports.evaluation import (
    calibration_plot,
    gain_plot,
    histogram,
    metrics_table,
)


def write(path: Path, found: ComparedModels, judged: JudgedPair, verdict: str) -> None:
    """The page, written whole or not at all. Raises InputError where that fails.

    verdict: which model is better, in words.
    """
    served = {name: histogram(of.scores, of.acted) for name, of in judged.by_model().items()}
    plots = [calibration_plot(served), gain_plot(served)]
    models = [
        [name, of.model_version, of.rows, of.customers, "no" if of.not_held_back else "yes"]
        for name, of in found.models.items()
    ]
    how = "the same rows" if found.paired else "the customers that each serves"
    parts = [
        page.paragraph(verdict),
        page.paragraph(
            f"{found.mode}: {found.rows:,} scores from {found.from_time} to {found.to_time}, "
            f"{found.judged:,} judged, {found.pending:,} wait for their horizon; "
            f"{found.categories:,} categories."
        ),
        page.table(["", "version", "rows", "customers", "held back"], models),
        "<h2>Metrics</h2>",
        metrics_table({name: of.metrics for name, of in found.models.items()}),
        f"<h2>Challenger minus active, on {how}, with 95 % intervals</h2>",
        _differences(found.differences),
    ]
    if found.on_all_rows is not None:
        parts += ["<h2>Had both scored all rows</h2>", _differences(found.on_all_rows)]
    plotted = f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>'
    page.write(path, "Challenger and active model", [*parts, plotted])


def _differences(found: ModelComparison) -> str:
    rows = [
        [
            page.metric_name(metric),
            *(page.signed(v, 5) for v in (one.difference, one.low, one.high)),
        ]
        for metric, one in found.by_metric().items()
    ]
    return page.table(["", "difference", "low", "high"], rows)
