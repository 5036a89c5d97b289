"""Which model of a folder is the active one: the relative link `active`, and `previous` beside it.

Changing it renames a new link over the old, so a reader sees one or the other.
"""

from __future__ import annotations

import os
from pathlib import Path

from stream_scorer import atomic
from stream_scorer.errors import ArtefactError, cannot_write

ACTIVE, PREVIOUS = "active", "previous"


def active_name(folder: Path) -> str | None:
    """The name of the active model, None for none."""
    return _target(folder / ACTIVE)


def previous_name(folder: Path) -> str | None:
    """The name of the model that was active before, None for none."""
    return _target(folder / PREVIOUS)


def make_active(model: Path) -> str | None:
    """Make a model of a folder the active one; the name of the one before.

    Raises ArtefactError where the links can't be written.
    """
    folder, before = model.parent, active_name(model.parent)
    # Activating the active one again must not make it its own `previous`.
    if before == model.name:
        return previous_name(folder)
    if before is not None:
        _point(folder / PREVIOUS, before)
    _point(folder / ACTIVE, model.name)
    return before


def _target(link: Path) -> str | None:
    """The name that a link points to, None where there is no link."""
    return os.readlink(link) if link.is_symlink() else None


def _point(link: Path, name: str) -> None:
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        # Renamed over the old link: a consumer that starts now finds the one or the other.
        atomic.publish(fresh, link)
    except OSError as error:
        raise ArtefactError("models", link, cannot_write(error)) from None
