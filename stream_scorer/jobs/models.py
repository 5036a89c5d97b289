"""`stream-scorer models`: is an artefact whole, and which of several is the active one.

An artefact is checked as the consumer checks it when it starts, and every engine that is installed
scores its golden batch as training did. In a folder of models the active one is a relative symbolic
link, `active`; `model.path` may name that link. Changing it renames a new link over the old, so a
reader sees one or the other; `previous` keeps what was active before, for a rollback.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stream_scorer.errors import ArtefactError, StreamScorerError
from stream_scorer.live.served_model import check_labels
from stream_scorer.model import artefact
from stream_scorer.model.active_link import active_name, make_active, previous_name
from stream_scorer.model.engines.golden import NO_GOLDEN_BATCH, check_on_engines_here
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import ObjectPath, Place, place

NO_LINKS = (
    "object storage has no links, so no model of a folder is the active one; announce it to the "
    "members with -c, or name the model itself in model.path"
)


@dataclass(frozen=True)
class ModelSummary(Result):
    """What a whole artefact is. written: ISO 8601 in UTC, when its manifest was written.
    golden_batch: whether it has rows with the scores that training gave them. card: whether it has
    one, a page that says what it was made of and how good it is.
    """

    model: str
    model_version: str
    fingerprint: str
    categories: int
    classes: int
    validation_log_loss: float | None
    written: str
    golden_batch: bool
    card: bool = False


@dataclass(frozen=True)
class ListedModel(Result):
    """A model of a folder: its summary, or the problem why there is none."""

    name: str
    active: bool
    problem: str | None
    summary: ModelSummary | None

    def as_json(self) -> dict[str, Any]:
        """The summary's keys stand beside the name, and are absent where it is not whole."""
        listed = super().as_json()
        return listed | (listed.pop("summary") or {})


@dataclass(frozen=True)
class ModelList(Result):
    """The models of a folder, oldest first."""

    models: tuple[ListedModel, ...]

    @property
    def all_whole(self) -> bool:
        """Whether no model has a problem."""
        return not any(m.problem for m in self.models)


@dataclass(frozen=True)
class Activated(Result):
    """Names of the models that are and were active; None where none was. golden_batch: whether
    scores of this machine were compared with those that training stored.
    """

    active: str
    previous: str | None
    golden_batch: bool


def verify(model: Place, settings: Settings | None) -> ModelSummary:
    """What the artefact is, once every check has passed; the config's features must be its own.

    Raises ArtefactError or FingerprintMismatch, each one line.
    """
    wanted = None if settings is None else settings.feature_space().fingerprint
    loaded = artefact.load(model, wanted)
    if settings is not None:
        check_labels(loaded, settings)
    check_on_engines_here(loaded)
    artefact.card(loaded)
    return _summary(loaded, model)


def in_words(found: ModelSummary) -> list[str]:
    """One model for people."""
    loss = found.validation_log_loss
    return [
        f"{found.model}: whole; version {found.model_version}, fingerprint "
        f"{found.fingerprint}, {found.categories:,} categories, {found.classes} classes"
        + (f", validation log loss {loss:.4f}" if loss is not None else ""),
        *([f"its card: {place(found.model) / artefact.CARD_HTML}"] if found.card else []),
        *([] if found.golden_batch else [NO_GOLDEN_BATCH]),
    ]


def listing(folder: Place) -> ModelList:
    """Every model of the folder, whole or not. Raises ArtefactError where there is no folder."""
    if not folder.is_dir():
        raise ArtefactError("models", folder, "there is no such directory; check the path")
    # Object storage has no links.
    active = active_name(folder) if isinstance(folder, Path) else None
    listed: list[Place] = list(folder.iterdir())
    found = []
    for path in sorted(listed, key=lambda p: (_written(p), p.name)):
        # `active` and `previous` are links; names with a dot are unfinished writes.
        if path.is_symlink() or not path.is_dir() or path.name.startswith("."):
            continue
        problem, summary = None, None
        try:
            summary = _summary(artefact.load(path), path)
        except StreamScorerError as error:
            problem = str(error)
        found.append(ListedModel(path.name, path.name == active, problem, summary))
    return ModelList(tuple(found))


def listing_in_words(found: ModelList) -> list[str]:
    """One line for each model, the active one starred."""
    lines = []
    for listed in found.models:
        what = listed.problem
        if listed.summary is not None:
            of = listed.summary
            what = f"{of.model_version}, {of.written}, {of.categories:,} categories"
        lines.append(f"{'*' if listed.active else ' '} {listed.name}: {what}")
    return lines or ["no models"]


def activate(model: Place) -> Activated:
    """Make a model of a folder the active one.

    Raises ArtefactError where it is not whole, or this machine scores it differently than training.
    """
    if isinstance(model, ObjectPath):
        raise ArtefactError("model", model, NO_LINKS)
    if model.is_symlink():
        raise ArtefactError("model", model, "is a link; name the model itself")
    loaded = artefact.load(model)
    golden_batch = check_on_engines_here(loaded)
    artefact.card(loaded)
    return Activated(model.name, make_active(model), golden_batch)


def activated_in_words(found: Activated) -> list[str]:
    """What is active now, for people."""
    lines = [f"active: {found.active}, before: {found.previous}"]
    return lines if found.golden_batch else [*lines, f"{found.active}: {NO_GOLDEN_BATCH}"]


def rollback(folder: Place) -> Activated:
    """Make the model that was active before the active one; a second rollback undoes the first."""
    if isinstance(folder, ObjectPath):
        raise ArtefactError("models", folder, NO_LINKS)
    before = previous_name(folder)
    if before is None:
        raise ArtefactError("models", folder, "no model was active before; use `models activate`")
    return activate(folder / before)


def _written(model: Place) -> float:
    """When a model of a folder was written: a prefix of object storage has no time of its own."""
    if isinstance(model, ObjectPath):
        manifest = model / artefact.MANIFEST_FILE
        return manifest.stat().st_mtime if manifest.exists() else 0.0
    return model.lstat().st_mtime


def _summary(loaded: artefact.Artefact, path: Place) -> ModelSummary:
    manifest = loaded.manifest
    written = (path / artefact.MANIFEST_FILE).stat().st_mtime
    return ModelSummary(
        model=str(path),
        model_version=manifest.model_version,
        fingerprint=manifest.fingerprint,
        categories=len(manifest.categories),
        classes=manifest.classes,
        validation_log_loss=manifest.metrics.get("validation_log_loss"),
        written=datetime.fromtimestamp(written, timezone.utc).isoformat(timespec="seconds"),
        golden_batch=artefact.GOLDEN_FILE in manifest.files,
        card=artefact.CARD_HTML in manifest.files,
    )
