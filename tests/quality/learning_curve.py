"""`make quality ARGS=--learning-curve`: how good models are that were trained on few customers.

Training and validation rows are those of a sample of customers, as `replay --sample-customers`
chooses it: of 1/32 of them, 1/16 and so on up to all. Every model is judged on the same test rows,
of everybody, and on the same categories, those of the model of all customers. A category that a
smaller model does not know gets the rate of half a row of its training rows: nobody acted on it.
`min_customers` falls with the sample, or it would leave out most categories of a small one. All
else is the default: so few rows are trained with several seeds, which are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from judged import Judged, difference, over_seeds
from tables import gap, number
from tasks import DEFAULT, Question, Task, Variant, Workplace, scores

from stream_scorer.core.customer_sample import CustomerSample
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.core.trend import TrendTable
from stream_scorer.jobs.train import Trained
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.spec import TrainingOptions

METRICS = {"log_loss": "log loss", "macro_auc": "macro AUC", "recall_at_10": "recall@10"}
HALVINGS = 5  # 1/32


class Curve:
    """Models of 1/2^halvings of a task's customers up to all."""

    def __init__(self, task: Task, folder: Path, halvings: int) -> None:
        self._place = Workplace(task, folder)
        self._trained: dict[Fraction, list[tuple[Artefact, Trained]]] = {
            Fraction(1, 2**k): [] for k in range(halvings, -1, -1)
        }

    def train(self, seed: int) -> None:
        """One model more of each share."""
        for share, found in self._trained.items():
            variant = DEFAULT
            if share < 1:
                of = self._place.task.training
                least = of.get("min_customers", TrainingOptions().min_customers)
                fewer = {"min_customers": max(1, math.ceil(least * share))}
                variant = Variant(f"{share} of customers", fewer, sample=CustomerSample(share))
            found.append(self._place.train(variant, seed))

    def measured(self) -> dict[str, Any]:
        """Each share with its metrics on the test rows, means over seeds, and what they are above
        those of all customers, with 95 % intervals by customer."""
        test, trend = self._place.rows(DEFAULT, "test"), self._place.trend(DEFAULT)
        whole = self._trained[Fraction(1)][0][0]
        index = np.array(whole.manifest.category_index, np.int64)
        question = self._place.task.questions[0]
        judged = {
            share: [judged_on(model, index, test, trend, question, of.rows) for model, of in found]
            for share, found in self._trained.items()
        }
        points = [
            {
                "share": str(share),
                "customers": found[0][1].customers,
                "rows": found[0][1].rows,
                "categories": found[0][1].categories,
                "averaged_seeds": found[0][1].averaged_seeds,
                "training_seconds": float(np.mean([of.seconds for _, of in found])),
                "metrics": over_seeds(judged[share]),
                "seeds": [one.summary().by_metric() for one in judged[share]],
                "above_whole": difference(judged[share], judged[Fraction(1)]),
            }
            for share, found in self._trained.items()
        ]
        return {
            "title": self._place.task.title, "test_rows": len(test), "categories": len(index),
            "points": points,
        }  # fmt: skip


def measured(
    tasks: Sequence[Task], folder: Path, seeds: int, halvings: int
) -> Iterator[dict[str, dict[str, Any]]]:
    """The curves of these tasks by name, so far: again each time that a seed of one is there."""
    curves = [(task.name, Curve(task, folder, halvings)) for task in tasks]
    found: dict[str, dict[str, Any]] = {}
    for seed in range(seeds):
        for name, of in curves:
            of.train(seed)
            found[name] = {"seeds": seed + 1, **of.measured()}
            yield found


def judged_on(
    model: Artefact, index: np.ndarray, test: LabelledRows, trend: TrendTable | None,
    question: Question, rows: int,
) -> Judged:  # fmt: skip
    """A model of so many training rows on the categories `index`, all of which it may not know."""
    found = scores(model, test, trend)[:, :, question.least_class :].sum(axis=2)
    known = {category: n for n, category in enumerate(model.manifest.category_index)}
    p = np.full((len(test), len(index)), 0.5 / (rows + 1), np.float32)
    for n, category in enumerate(index.tolist()):
        if category in known:
            p[:, n] = found[:, known[category]]
    acted = dense_labels(test, index) >= question.least_class
    customer = np.unique(np.array(test.customer_ids), return_inverse=True)[1]
    return Judged(p, acted, customer)


def in_markdown(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each task."""
    return "\n\n".join("\n".join(_lines(found)) for found in curves.values()) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield (f"{found['title']}: {found['test_rows']:,} test rows, {found['categories']} "
           f"categories, mean of seeds: {found['seeds']}.")  # fmt: skip
    yield ""
    titles = ["customers", "training rows", "seconds", *METRICS.values()]
    titles += [f"{words} above that of all" for words in METRICS.values()]
    yield "| " + " | ".join(titles) + " |"
    yield "|---" * len(titles) + "|"
    for point in found["points"]:
        gaps = [gap(point["above_whole"][name]) for name in METRICS]
        cells = [
            f"{point['customers']:,} ({point['share']})", f"{point['rows']:,}",
            f"{point['training_seconds']:.0f}",
            *(number(name, point["metrics"][name]) for name in METRICS),
            *(gaps if point["share"] != "1" else [""] * len(gaps)),
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def plot(curves: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """What each metric is above that of all customers, by training rows, with its interval."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    from matplotlib.ticker import NullFormatter  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(11, 3.9), layout="constrained")
    places = figure.subplots(1, len(METRICS))
    for axes, (name, words) in zip(places, METRICS.items(), strict=True):
        for found, marker in zip(curves.values(), "os^D", strict=False):
            points = [
                p for p in found["points"] if p["above_whole"][name]["difference"] is not None
            ]
            gaps = [p["above_whole"][name] for p in points]
            middle, low, high = (
                np.array([of[bound] for of in gaps]) for bound in ("difference", "low", "high")
            )
            axes.errorbar(
                [p["rows"] for p in points], middle, [middle - low, high - middle],
                marker=marker, capsize=3, label=found["title"],
            )  # fmt: skip
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="training rows", title=f"{words} above that of all")
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)
