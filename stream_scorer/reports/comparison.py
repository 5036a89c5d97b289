"""The page of `models compare --report`."""

from __future__ import annotations

from stream_scorer.core.evaluation.model_comparison import ComparedModels, JudgedPair
from stream_scorer.reports import differences, page, task
from stream_scorer.reports import verdict as verdict_words
from stream_scorer.reports.curves import calibration_plot, gain_plot, histogram
from stream_scorer.reports.evaluation import metrics_table
from stream_scorer.storage.places import Place


def write(path: Place, found: ComparedModels, judged: JudgedPair, verdict: str) -> None:
    """The page, written whole or not at all. Raises InputError where that fails.

    verdict: which model is better, in words.
    """
    served = {name: histogram(of.scores, of.acted) for name, of in judged.by_model().items()}
    names = names_of(found)
    models = [
        task.NamedModel(names[role], of.path, of.model_version, of.trained, of.not_held_back)
        for role, of in found.models.items()
    ]
    how = "the same rows" if found.paired else "the customers that each serves"
    served_rows = "; ".join(
        f"{names[role]}: {of.rows:,} rows of {of.customers:,} customers, of whom "
        f"{of.customers_acted:,} acted"
        for role, of in found.models.items()
    )
    on_all_rows = []
    if found.on_all_rows is not None:
        on_all_rows = [
            page.heading("Challenger minus active, had both scored all rows"),
            differences.table([("", found.on_all_rows)], 5),
        ]
    scored = sum(1 for one in found.models.values() if one.rows)
    page.write(
        path,
        "Challenger and active model",
        [
            page.verdict([f"{verdict[0].upper()}{verdict[1:]}."]),
            page.warnings(warnings(found)),
            page.heading("What was judged, and what was trained"),
            task.judged(found.task, found.judged, found.categories, None),
            page.paragraph(
                f"The challenger is a {found.mode}: {found.rows:,} scores from "
                f"{page.moment(found.from_time)} to {page.moment(found.to_time)}, "
                f"{found.judged:,} judged, {found.pending:,} wait for their horizon. "
                f"{served_rows}."
            ),
            task.trained(models),
            page.heading("Metrics"),
            metrics_table([(names[role], of.metrics) for role, of in found.models.items()]),
            page.heading(f"Challenger minus active, on {how}"),
            differences.table([("", found.differences)], 5),
            *on_all_rows,
            *(
                [page.heading("Plots"),
                 page.plots([calibration_plot(served, names), gain_plot(served, names)])]
                if scored else []
            ),
        ],
    )  # fmt: skip


def names_of(found: ComparedModels) -> dict[str, str]:
    """The roles of the models with what they are called."""
    return {role: f"{role} ({of.model_version})" for role, of in found.models.items()}


def warnings(found: ComparedModels) -> list[str]:
    """What makes the figures doubtful, in sentences that fit after "warning:"."""
    task_if_judged = found.task if found.judged else None
    return verdict_words.warnings(names_of(found), found.models, task_if_judged)
