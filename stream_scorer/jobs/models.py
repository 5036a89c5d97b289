"""`stream-scorer models`: is an artefact whole, and which of several is the active one.

An artefact is checked as the consumer checks it when it starts, and scored once. In a folder of
models the active one is a relative symbolic link, `active`; `model.path` may name that link.
Changing it renames a new link over the old, so a reader sees one or the other; `previous` keeps
what was active before, for a rollback.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stream_scorer import atomic
from stream_scorer.errors import ArtefactError, StreamScorerError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import open_engine
from stream_scorer.settings.tree import Settings

ACTIVE, PREVIOUS = "active", "previous"


def verify(model: Path, settings: Settings | None) -> dict[str, Any]:
    """What the artefact is, once every check has passed; the config's features must be its own.

    Raises ArtefactError or FingerprintMismatch, each one line.
    """
    wanted = None if settings is None else settings.feature_space().fingerprint
    loaded = artefact.load(model, wanted)
    if settings is not None and settings.label_rule() != loaded.manifest.labels:
        remedy = "it learnt other labels than [labels] in the config; train again, or change them"
        raise ArtefactError("model", model, remedy)
    open_engine(loaded, "native").warm_up(1)
    return _about(loaded, model)


def in_words(report: dict[str, Any]) -> list[str]:
    """One model for people."""
    loss = report["validation_log_loss"]
    return [
        f"{report['model']}: whole; version {report['model_version']}, fingerprint "
        f"{report['fingerprint']}, {report['categories']:,} categories, {report['classes']} classes"
        + (f", validation log loss {loss:.4f}" if loss is not None else "")
    ]


def listing(folder: Path) -> dict[str, Any]:
    """{"models": [{"name", "active", "problem" or what it is}]} of the folder, oldest first."""
    if not folder.is_dir():
        raise ArtefactError("models", folder, "no such directory")
    active = _target(folder / ACTIVE)
    found = []
    for path in sorted(folder.iterdir(), key=lambda p: (p.lstat().st_mtime, p.name)):
        if path.is_symlink() or not path.is_dir() or path.name.startswith("."):
            continue
        entry: dict[str, Any] = {"name": path.name, "active": path.name == active, "problem": None}
        try:
            entry |= _about(artefact.load(path), path)
        except StreamScorerError as error:
            entry["problem"] = str(error)
        found.append(entry)
    return {"models": found}


def listing_in_words(report: dict[str, Any]) -> list[str]:
    """One line for each model, the active one starred."""
    lines = []
    for entry in report["models"]:
        mark = "*" if entry["active"] else " "
        lines.append(f"{mark} {entry['name']}: {entry['problem']}" if entry["problem"] else
                     f"{mark} {entry['name']}: {entry['model_version']}, {entry['written']}, "
                     f"{entry['categories']:,} categories")  # fmt: skip
    return lines or ["no models"]


def activate(model: Path) -> dict[str, Any]:
    """Make a model of a folder the active one. {"active", "previous"}, names.

    Raises ArtefactError where it is not whole.
    """
    if model.is_symlink():
        raise ArtefactError("model", model, "is a link; name the model itself")
    artefact.load(model)
    folder, before = model.parent, _target(model.parent / ACTIVE)
    if before == model.name:
        return {"active": model.name, "previous": _target(folder / PREVIOUS)}
    if before is not None:
        _point(folder / PREVIOUS, before)
    _point(folder / ACTIVE, model.name)
    return {"active": model.name, "previous": before}


def rollback(folder: Path) -> dict[str, Any]:
    """Make the model that was active before the active one; a second rollback undoes the first."""
    before = _target(folder / PREVIOUS)
    if before is None:
        raise ArtefactError("models", folder, "no model was active before; use `models activate`")
    return activate(folder / before)


def _about(loaded: artefact.Artefact, path: Path) -> dict[str, Any]:
    manifest = loaded.manifest
    written = (path / artefact.MANIFEST_FILE).stat().st_mtime
    return {
        "model": str(path),
        "model_version": manifest.model_version,
        "fingerprint": manifest.fingerprint,
        "categories": len(manifest.categories),
        "classes": manifest.classes,
        "validation_log_loss": manifest.metrics.get("validation_log_loss"),
        "written": datetime.fromtimestamp(written, timezone.utc).isoformat(timespec="seconds"),
    }


def _target(link: Path) -> str | None:
    """The name that a link points to, None where there is no link."""
    return os.readlink(link) if link.is_symlink() else None


def _point(link: Path, name: str) -> None:
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        atomic.publish(fresh, link)
    except OSError as error:
        raise ArtefactError("models", link, f"can't be written: {error.strerror}") from None
