"""What a task of `make quality` is, its snapshots, and models trained on them.

Everything goes through the jobs behind `replay` and `train`, with the default settings but for what
a task names.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stream_scorer.core.customer_sample import EVERYBODY, CustomerSample
from stream_scorer.core.labels.labels import LabelledRows, concatenate_rows
from stream_scorer.core.trend import TrendTable
from stream_scorer.io.files.snapshots import Shards, Snapshot
from stream_scorer.jobs.train import Trained, train
from stream_scorer.model import artefact
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.settings.tree import Settings

CONFIG_FILE = "stream_scorer.toml"
RowsKind = Literal["served", "cutoffs"]


@dataclass(frozen=True)
class Question:
    """What is asked of the rows: acted as class `least_class` or above?"""

    name: str
    least_class: int = 1


@dataclass(frozen=True)
class Task:
    """Data with a question.

    events: writes events, vocabularies and the config into a folder. snapshots: writes the
    snapshots train, validation and test, and those of `moments`, into a folder (settings, folder of
    the events, folder to write into, `Variant.rows`). training: settings that belong to the task.
    moments: other test rows, on which calibration is measured, by the kind of moment. groups: rows
    of the test that are also measured by themselves (folder of the events, test rows). target: what
    the model is to reach; floor: what it has reached, below which the command fails.
    """

    name: str
    title: str
    events: Callable[[Path], None]
    snapshots: Callable[[Settings, Path, Path, RowsKind], None]
    training: Mapping[str, Any] = field(default_factory=dict)
    questions: tuple[Question, ...] = (Question("acts"),)
    moments: tuple[str, ...] = ()
    groups: Callable[[Path, LabelledRows], dict[str, np.ndarray]] = lambda _folder, _rows: {}
    target: Mapping[str, float] = field(default_factory=dict)
    floor: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A change of the defaults. without: kinds of features that are left out. rows: where those of
    training and validation stand on a task that has both: "served", a sample of the moments at
    which `run` and a daily refresh would have scored, or "cutoffs". sample: whose rows all
    snapshots have."""

    name: str
    training: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    rows: RowsKind = "served"
    sample: CustomerSample = EVERYBODY


DEFAULT = Variant("default")


class Workplace:
    """The folder of one task; what is there already is used again."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.task, self.folder = task, folder / task.name
        if not (self.folder / CONFIG_FILE).exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            say(f"{task.name}: events")
            task.events(self.folder)

    def settings(self, variant: Variant, **training: Any) -> Settings:
        """Those of the task with the variant's changes and these."""
        changed = {"training": {**self.task.training, **variant.training, **training}}
        settings = Settings.load(self.folder / CONFIG_FILE, overrides=changed, environment={})
        kept = tuple(f for f in settings.features if f.kind not in variant.without)
        return settings.model_copy(update={"features": kept}).sampling(variant.sample)

    def snapshots(self, variant: Variant) -> Path:
        """The folder of the variant's snapshots."""
        of = [] if variant.sample.whole else [str(variant.sample).replace("/", "-of-")]
        folder = self.folder / "-".join(["rows", variant.rows, *variant.without, *of])
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.task.snapshots(self.settings(variant), self.folder, folder, variant.rows)
            (folder / "whole").touch()
        return folder

    def rows(self, variant: Variant, name: str) -> LabelledRows:
        """All rows of a snapshot."""
        found = list(Snapshot.open(self.snapshots(variant) / name).shards())
        return concatenate_rows([rows for rows in found if len(rows)] or found[:1])

    def trend(self, variant: Variant) -> TrendTable | None:
        """The shop's trend for the rows of all snapshots; None where no feature declares one."""
        names = ("train", "validation", "test", *self.task.moments)
        return Shards([Snapshot.open(self.snapshots(variant) / name) for name in names]).trend()

    def train(self, variant: Variant, seed: int) -> tuple[Artefact, Trained]:
        """A model; one of the same name is replaced."""
        rows, out = (
            self.snapshots(variant),
            self.folder / f"model-{variant.name.replace('/', '-of-')}-{seed}",
        )
        shutil.rmtree(out, ignore_errors=True)
        found = train(
            self.settings(variant, seed=seed), [rows / "train"], out,
            validation=[rows / "validation"],
        )  # fmt: skip
        say(f"{self.task.name}, {variant.name}, seed {seed}: {found.seconds:.0f} s, "
            f"validation {found.validation_log_loss:.5f}")  # fmt: skip
        return artefact.load(out), found


def scores(model: Artefact, rows: LabelledRows, trend: TrendTable | None) -> np.ndarray:
    """(R, N, C) by the native engine."""
    engine = open_engine(model, "native")
    if trend is not None:
        engine.use_trend(trend)
    return engine.score(rows.matrix)


def uncalibrated(model: Artefact) -> Artefact:
    """The same model with logits as training left them."""
    parameters = dict(model.parameters)
    parameters["calibration_scale"] = np.ones_like(parameters["calibration_scale"])
    parameters["calibration_shift"] = np.zeros_like(parameters["calibration_shift"])
    return replace(model, parameters=parameters)


def say(line: str) -> None:
    """For the person who waits."""
    print(line, file=sys.stderr, flush=True)
