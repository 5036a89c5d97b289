"""`make quality`: how good the model is, with default settings, on four tasks.

complete_journey (A) and movielens (B) are public data, shop and newcomer are generated; their
modules say what is asked. Our model is trained with two seeds and compared with simpler models that
are fitted to the same rows (rivals.py), with 95 % intervals of a paired bootstrap by customer.
Targets that are missed are named; the exit status is 1 where a floor is, or where recall@10 is
below that of the logistic regression on a category's own columns.

Usage: python tests/quality/quality.py [--tasks NAMES] [--seeds N] [--ablation] [--no-rivals]
         [--choose] [--training JSON] [--json] [--markdown FILE] [--keep DIR]
         [--learning-curve [--halvings N] [--plot PNG]]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import complete_journey
import generated_shop
import learning_curve
import movielens
import numpy as np
import rivals
from judged import Judged, difference, missed, over_seeds, rare_categories
from tables import in_markdown, in_words
from tasks import DEFAULT, Question, Task, Variant, Workplace, say, scores, uncalibrated

from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.core.trend import TrendTable
from stream_scorer.model.artefact import Artefact

TASKS = {t.name: t for t in (complete_journey.TASK, movielens.TASK, *generated_shop.TASKS)}
LARGE = {generated_shop.LARGE_TASK.name: generated_shop.LARGE_TASK}
OURS = "our model"
ABLATION = (
    Variant("trained at cut-offs", rows="cutoffs"),
    Variant("pairs without history too", {"network": {"pairs": "all"}}),
    Variant("without tower", {"network": {"tower": 0}}),
    Variant("without linear", {"network": {"linear_rank": 0}}),
    Variant("without trend", without=("trend",)),
    Variant("without cadence", without=("first", "gap", "overdue")),
    Variant("without own path", {"network": {"own_path": False}}),
    Variant("without pooled and tower", {"network": {"pooled": (), "tower": 0}}),
    Variant("without deep", {"network": {"hidden": ()}}),
    Variant("one seed", {"average_seeds": 1}),
    Variant("mean of three seeds", {"average_seeds": 3}),
)
MOST_OFF = 0.03  # of predicted over seen, at each kind of moment


@dataclass(frozen=True)
class Models:
    """Those of one variant, one for each seed."""

    artefacts: Sequence[Artefact]
    validation_log_loss: Sequence[float | None]
    seconds: Sequence[float]

    @classmethod
    def of(cls, place: Workplace, variant: Variant, seeds: int) -> Models:
        found = [place.train(variant, seed) for seed in range(seeds)]
        return cls(
            [model for model, _ in found],
            [report.validation_log_loss for _, report in found],
            [report.seconds for _, report in found],
        )

    def judged(
        self, rows: LabelledRows, question: Question, trend: TrendTable | None
    ) -> list[Judged]:
        return [
            judged(scores(model, rows, trend)[:, :, question.least_class :].sum(axis=2),
                   model, rows, question)
            for model in self.artefacts
        ]  # fmt: skip

    def without_calibration(self) -> Models:
        return replace(self, artefacts=[uncalibrated(model) for model in self.artefacts])


def judged(p: np.ndarray, model: Artefact, rows: LabelledRows, question: Question) -> Judged:
    """p (R, N) in the model's categories."""
    acted = dense_labels(rows, np.array(model.manifest.category_index, np.int64))
    customer = np.unique(np.array(rows.customer_ids), return_inverse=True)[1]
    return Judged(p, acted >= question.least_class, customer)


def measured(
    place: Workplace, ours: Models, others: Mapping[str, Models], question: Question,
    *, with_rivals: bool,
) -> dict[str, Any]:  # fmt: skip
    """One question: the table, intervals, rare categories, and calibration by kind of moment."""
    test, train = place.rows(DEFAULT, "test"), place.rows(DEFAULT, "train")
    trend = place.trend(DEFAULT)
    first = ours.artefacts[0]
    fitting = rivals.Fitting(
        train, place.rows(DEFAULT, "validation"), place.settings(DEFAULT).feature_space(),
        first.layout, question.least_class, trend,
    )  # fmt: skip
    found = rivals.fitted(fitting, say) if with_rivals else rivals.baselines(fitting)
    by_model = {name: [judged(rival(test), first, test, question)] for name, rival in found.items()}
    by_model[OURS] = ours.judged(test, question, trend)
    by_model[f"{OURS}, uncalibrated"] = ours.without_calibration().judged(test, question, trend)
    for name, models in others.items():
        variant = variant_of(name)
        by_model[name] = models.judged(place.rows(variant, "test"), question, place.trend(variant))
    table = {name: over_seeds(of_seeds) for name, of_seeds in by_model.items()}
    mine = by_model[OURS]
    groups = place.task.groups(place.folder, test)
    return {
        "rows": len(test),
        "categories": mine[0].p.shape[1],
        "table": table,
        "seeds": [one.summary().by_metric() for one in mine],
        "differences": {
            name: difference(mine, other) for name, other in by_model.items() if name != OURS
        },
        "groups": {
            group: {
                "rows": int(rows.sum()),
                "table": {
                    name: over_seeds([one.only(rows) for one in of_seeds])
                    for name, of_seeds in by_model.items()
                },
            }
            for group, rows in groups.items()
        },
        "rare": {
            "in training": rare_categories(
                mine, by_model["prior"][0], fitting.acted(train).sum(axis=0)
            ),
            "in the test": rare_categories(mine, by_model["prior"][0], mine[0].acted.sum(axis=0)),
        },
        "moments": {
            kind: {"rows": len(rows), **over_seeds(ours.judged(rows, question, trend))}
            for kind, rows in [("calendar", test)]
            + [(kind, place.rows(DEFAULT, kind)) for kind in place.task.moments]
        },
    }  # fmt: skip


def variant_of(name: str) -> Variant:
    return next(variant for variant in ABLATION if variant.name == name)


def task_measured(
    task: Task, folder: Path, options: argparse.Namespace, variants: Sequence[Variant]
) -> dict[str, Any]:
    started = time.monotonic()
    place = Workplace(task, folder)
    ours = Models.of(place, DEFAULT, options.seeds)
    others = {variant.name: Models.of(place, variant, options.seeds) for variant in variants
              if applies(place, variant)}  # fmt: skip
    report: dict[str, Any] = {
        "title": task.title,
        "columns": place.settings(DEFAULT).feature_space().width,
        "training_rows": place.rows(DEFAULT, "train").as_of_ms.size,
        "validation_log_loss": {
            name: list(models.validation_log_loss)
            for name, models in {OURS: ours, **others}.items()
        },
        "training_seconds": list(ours.seconds),
    }
    if not options.choose:
        report["questions"] = {
            question.name: measured(
                place, ours, others, question, with_rivals=not options.no_rivals
            )
            for question in task.questions
        }
        report |= verdict(task, report["questions"])
    return report | {"seconds": time.monotonic() - started}


def applies(place: Workplace, variant: Variant) -> bool:
    """Whether the variant is another model than the default one on this task."""
    if variant.rows != DEFAULT.rows:
        return bool(place.task.moments)
    if variant.without:
        return any(f.kind in variant.without for f in place.settings(DEFAULT).features)
    return place.settings(variant).training != place.settings(DEFAULT).training


def verdict(task: Task, questions: Mapping[str, Any]) -> dict[str, Any]:
    """missed: targets, in words. below_floor: what makes the exit status 1."""
    first = next(iter(questions.values()))
    ours = {
        **first["table"][OURS],
        "uncalibrated_log_loss": first["table"][f"{OURS}, uncalibrated"]["log_loss"],
    }
    targets, below = missed(ours, task.target), missed(ours, task.floor)
    for name, found in questions.items():
        tables = {"": found["table"]}
        tables |= {f", {group}": of["table"] for group, of in found["groups"].items()}
        for group, table in tables.items():
            logistic = table.get("own logistic")
            gap = (table[OURS]["recall_at_10"] or 0) - (logistic or {}).get("recall_at_10", 0)
            if logistic and round(gap, 3) < 0:
                below.append(f"{name}{group}: recall_at_10 {gap:+.3f} against own logistic")
        for kind, of in found["moments"].items():
            if abs(of["predicted_over_seen"] - 1) > MOST_OFF and task.moments:
                targets.append(f"{kind}: predicted over seen {of['predicted_over_seen']:.3f}")
        for where, of in found["rare"].items():
            if of and (of["difference"]["low"] or 0) > 0:
                targets.append(
                    f"{name}: log loss of rare categories {where} {of['log_loss']:.5f}, above that "
                    f"of their own rate {of['own_rate']:.5f}"
                )
    return {"targets_missed": targets, "below_floor": below}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default=",".join(TASKS), help="names, with commas between")
    parser.add_argument("--seeds", type=int, default=2, help="train our model so many times")
    parser.add_argument("--ablation", action="store_true", help="what each part adds")
    parser.add_argument("--variants", default="", help="of the ablation, those with these words")
    parser.add_argument("--no-rivals", action="store_true", help="only prior and own logistic")
    parser.add_argument("--choose", action="store_true", help="validation log losses alone")
    parser.add_argument("--training", default="{}", help="JSON: other [training] settings")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--markdown", type=Path, help="write the tables of a document")
    parser.add_argument("--keep", type=Path, help="events and snapshots stay there, for next time")
    parser.add_argument(
        "--learning-curve", action="store_true",
        help="instead: models of 1/32 of the training customers up to all of them",
    )  # fmt: skip
    parser.add_argument(
        "--halvings", type=int, default=learning_curve.HALVINGS, help="of the customers"
    )
    parser.add_argument("--plot", type=Path, help="of the learning curve, as PNG")
    options = parser.parse_args()
    unknown = set(options.tasks.split(",")) - {*TASKS, *LARGE}
    if unknown:
        parser.error(
            f"--tasks: no {', '.join(sorted(unknown))}; choose of {', '.join([*TASKS, *LARGE])}"
        )
    return options


def learned(options: argparse.Namespace, tasks: Sequence[Task], folder: Path) -> int:
    curves: dict[str, Any] = {}
    # Written after each seed of a task, since all of them may take hours.
    for curves in learning_curve.measured(tasks, folder, options.seeds, options.halvings):
        words = learning_curve.in_markdown(curves)
        if options.markdown:
            options.markdown.write_text(words, encoding="utf-8")
        if options.plot:
            learning_curve.plot(curves, options.plot)
        say(words)
    if options.json:
        print(json.dumps(curves))
    return 0


def main() -> int:
    options = arguments()
    changed = json.loads(options.training)
    variants = [v for v in ABLATION if options.variants in v.name] if options.ablation else []
    reports: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="stream-scorer-quality-") as temporary:
        folder = options.keep or Path(temporary)
        tasks = [
            replace(task, training={**task.training, **changed})
            for task in ({**TASKS, **LARGE}[name] for name in options.tasks.split(","))
        ]
        if options.learning_curve:
            return learned(options, tasks, folder)
        for task in tasks:
            name = task.name
            reports[name] = task_measured(task, folder, options, variants)
            if not options.json:
                print(in_words(name, reports[name]), flush=True)
    if options.markdown:
        options.markdown.write_text(in_markdown(reports), encoding="utf-8")
    if options.json:
        print(json.dumps(reports))
    return 1 if any(report.get("below_floor") for report in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
