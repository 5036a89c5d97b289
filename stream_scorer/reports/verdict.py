"""What a report says first: which model is better, and what makes its figures doubtful.

A difference counts as shown where its 95 % interval does not hold 0. A model whose training has
seen the outcomes that it is measured by is never called better without a warning beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Protocol

from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.core.evaluation.model_comparison import LEAST_CUSTOMERS
from stream_scorer.reports.page import moment

LOWER_IS_BETTER = ("log_loss", "ece")
BASELINES = {
    "prior": "the prior (each category's share, the same for everybody)",
    "logistic": "one logistic regression for each category",
}
BETTER, WORSE, SAME = "better", "worse", "no difference shown"
LONGEST_NAME = 32


class JudgedModel(Protocol):
    """What a result says of a model that was judged."""

    @property
    def trained(self) -> TrainedOn:
        """The moments and labels that it was trained on."""

    @property
    def not_held_back(self) -> bool:
        """Whether it was trained on outcomes that it is measured by."""


def shown_names(paths: Mapping[str, str]) -> dict[str, str]:
    """By key: a model's path as it was given; of long paths the last part, where that tells them
    apart. One that is named like a baseline has "model" before it."""
    last = {key: PurePath(path).name or path for key, path in paths.items()}
    short = len(set(last.values())) == len(last)
    names = {}
    for key, path in paths.items():
        name = last[key] if short and len(path) > LONGEST_NAME else path
        names[key] = f"model {name}" if name in BASELINES else name
    if len(set(names.values())) < len(names):  # the same path twice
        return {key: f"{name} ({key})" for key, name in names.items()}
    return names


def outcome(metric: str, one: MetricDifference) -> str | None:
    """Whether the first is `BETTER`, `WORSE` or the `SAME` by its interval; None: not defined."""
    if one.difference is None or one.low is None or one.high is None:
        return None
    if one.low <= 0 <= one.high:
        return SAME
    return BETTER if (one.high < 0) == (metric in LOWER_IS_BETTER) else WORSE


def against(
    name: str,
    other: str,
    loss: MetricDifference,
    ours: float | None,
    theirs: float | None,
    *,
    flattered: bool = False,
) -> str:
    """Which of two is better by the log loss, in a sentence.

    ours, theirs: their log losses. flattered: the figures of the one that looks better flatter it.
    """
    found = outcome("log_loss", loss)
    if found is None or ours is None or theirs is None:
        return f"Whether {name} is better than {other} can't be said: no row has an outcome."
    share = ""
    if theirs and loss.difference:
        percent = abs(loss.difference / theirs) * 100
        share = f", {percent:.1f} % {'lower' if loss.difference < 0 else 'higher'}"
    figures = (
        f"log loss {ours:.4f} against {theirs:.4f}{share}; "
        f"95 % interval of the difference {loss.low:+.5f} to {loss.high:+.5f}"
    )
    if found == SAME:
        return f"No difference between {name} and {other} is shown: {figures}."
    if flattered:
        return f"{name} looks {found} than {other}, but see the warning: {figures}."
    return f"{name} is {found} than {other}: {figures}."


def warnings(
    names: Mapping[str, str], models: Mapping[str, JudgedModel], task: JudgedTask | None
) -> list[str]:
    """What makes figures doubtful, in sentences that fit after "warning:".

    names: how models are called, by their keys. task: None where nothing was judged.
    """
    flatters = [
        not_held_back(names[key], of.trained) for key, of in models.items() if of.not_held_back
    ]
    return [*flatters, *(doubts(task) if task is not None else [])]


def doubts(task: JudgedTask) -> list[str]:
    """What makes the whole comparison doubtful: too few customers, or nobody who acted."""
    found = []
    if task.customers < LEAST_CUSTOMERS:
        found.append(
            f"only {task.customers:,} customers were judged. Intervals of fewer than "
            f"{LEAST_CUSTOMERS} customers are too narrow, so the verdict may be chance."
        )
    if task.base_rate == 0:
        found.append(
            "nobody acted within the horizon, so that the lower probabilities always look better. "
            "Check labels.actions, or score a longer time."
        )
    return found


def not_held_back(name: str, trained: TrainedOn) -> str:
    """Why a model's figures flatter it, and what to do, to stand after "warning:"."""
    until = ""
    if trained.labels_until is not None:
        until = f" Figures that do not flatter need scores from {moment(trained.labels_until)} on."
    return (
        f"{name} is not held back: its training's labels reach into the scored time, so it has "
        f"seen outcomes that it is measured by, and its figures flatter it.{until}"
    )
