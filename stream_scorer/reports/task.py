"""What was judged and what was trained: the part of a report that gives its figures a meaning."""

from __future__ import annotations

from typing import NamedTuple

from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.reports import page
from stream_scorer.reports.page import moment


class NamedModel(NamedTuple):
    """A model as a report speaks of it. path: as it was given."""

    name: str
    path: str
    version: str
    trained: TrainedOn
    not_held_back: bool


def acts(task: JudgedTask) -> str:
    """ "purchase", or "view or purchase": what counts as acting."""
    return " or ".join(action for group in task.labels.actions for action in group)


def task_in_words(task: JudgedTask, rows: int, categories: int) -> str:
    """What was judged, in a sentence."""
    labels = task.labels
    when = ""
    if task.first_as_of is not None and task.last_as_of is not None:
        when = f" as of {moment(task.first_as_of)}"
        if task.first_as_of != task.last_as_of:
            when += f" to {moment(task.last_as_of)}"
    rate = "" if task.base_rate is None else f"; base rate {100 * task.base_rate:.2f} %"
    return (
        f"{acts(task)} within {labels.horizon_days:g} days, for each of {categories:,} values of "
        f"{labels.by}: {rows:,} rows of {task.customers:,} customers{when}{rate}"
    )


def judged(task: JudgedTask, rows: int, categories: int, categories_scored: int | None) -> str:
    """The table of what was judged; categories_scored: those with both outcomes, where known."""
    labels = task.labels
    first, last = (
        page.DASH if one is None else moment(one) for one in (task.first_as_of, task.last_as_of)
    )
    rate = page.DASH if task.base_rate is None else f"{100 * task.base_rate:.2f} %"
    lines = [
        ["predicted", f"whether a customer will {acts(task)}"],
        ["horizon", f"{labels.horizon_days:g} days"],
        [
            "categories",
            f"{categories:,} values of {labels.by}"
            + ("" if categories_scored is None else f", {categories_scored:,} with both outcomes"),
        ],
        ["rows", f"{rows:,} of {task.customers:,} customers"],
        ["scored as of", first if first == last else f"{first} to {last}"],
        ["base rate", f"{rate} of pairs of row and category acted"],
    ]
    return page.wide(page.table(["what was judged", "value"], lines), "What was judged", "words")


def trained(models: list[NamedModel]) -> str:
    """The table of what each model was trained on, and its features, which fold away."""
    lines: list[list[object]] = [
        ["path", *(m.path for m in models)],
        ["version", *(m.version for m in models)],
        ["training rows", *(_known(m.trained.rows) for m in models)],
        ["trained as of", *(_span(m.trained) for m in models)],
        ["labels from events before", *(_when(m.trained.labels_until) for m in models)],
        [
            "held back from what was judged",
            *("no: see the warning" if m.not_held_back else "yes" for m in models),
        ],
        ["features", *(_features(m.trained) for m in models)],
    ]
    head = ["what was trained", *(m.name for m in models)]
    shown = [page.wide(page.table(head, lines), "What was trained", "words")]
    alike = len({m.trained.features for m in models}) == 1
    for model in models[:1] if alike else models:
        whose = "The features" if alike else f"The features of {model.name}"
        shown.append(page.folded(whose, page.items(model.trained.features)))
    return "".join(shown)


def _features(of: TrainedOn) -> str:
    return f"{len(of.features):,} declared, {of.columns:,} columns"


def _known(value: int | None) -> str:
    return "not recorded" if value is None else f"{value:,}"


def _when(iso: str | None) -> str:
    return "not recorded" if iso is None else moment(iso)


def _span(of: TrainedOn) -> str:
    if of.first_as_of is None or of.last_as_of is None:
        return _when(of.last_as_of)
    if of.first_as_of == of.last_as_of:
        return moment(of.first_as_of)
    return f"{moment(of.first_as_of)} to {moment(of.last_as_of)}"
