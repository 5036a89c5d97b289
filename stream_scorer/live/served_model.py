"""Which model a member serves: that which is announced, else that of the config's model.path.

A member never serves another model than the rest without a word. So one that starts, and can't
serve the announced model, does not start: its error names the artefact and the remedy, and the
members that run go on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.errors import ArtefactError, InputError, Unavailable
from stream_scorer.io.stores.announcements import Announcement, Announcements, ModelIdentity
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, open_engine
from stream_scorer.model.engines.golden import check_golden_batch, check_on_engines_here
from stream_scorer.model.trained_moments import REMEDY, moments_it_lacks
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place, place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A checked model with its engine. announcement: None where it is that of model.path."""

    identity: ModelIdentity
    model: artefact.Artefact
    engine: Engine
    announcement: Announcement | None = None


def open_model(settings: Settings, space: FeatureSpace, path: Place) -> ServedModel:
    """The artefact in `path`, checked: whole, of this declaration, its golden batch scored here.

    Raises ArtefactError, FingerprintMismatch, ConfigError.
    """
    identity = identity_of(path.resolve())
    model = artefact.load(path, space.fingerprint)
    engine = open_engine(model, settings.model.engine)
    check_golden_batch(engine, model)
    lacks = moments_it_lacks(model.manifest.training, refreshes=settings.refresh.every_ms > 0)
    if lacks is not None:
        log.warning("model %s: %s; %s", identity.model_version, lacks, REMEDY)
    return ServedModel(identity, model, engine)


def identity_of(path: Place) -> ModelIdentity:
    """Which artefact lies there, by its manifest alone. path: absolute. Raises ArtefactError."""
    sha256 = artefact.manifest_sha256(path)
    return ModelIdentity(str(path), artefact.model_version(path), sha256)


def check_labels(model: artefact.Artefact, settings: Settings) -> None:
    """Raises ArtefactError where the model learnt other labels than the config's."""
    if model.manifest.labels != settings.label_rule():
        remedy = "it learnt other labels than [labels] in the config; train again, or change them"
        raise ArtefactError("model", model.path, remedy)


def check_for_members(settings: Settings, space: FeatureSpace, path: Place) -> bool:
    """Whether the artefact in `path` has a golden batch, once it has passed every check that comes
    before members are to serve it: whole, of this declaration and these labels, its card as it was
    written, and its golden batch scored as in training by every engine that is installed here.

    Raises ArtefactError, FingerprintMismatch.
    """
    loaded = artefact.load(path, space.fingerprint)
    check_labels(loaded, settings)
    artefact.card(loaded)
    return check_on_engines_here(loaded)


def open_announced(
    settings: Settings, space: FeatureSpace, announcement: Announcement
) -> ServedModel:
    """The announced model, as `open_model`, warmed up.

    Raises ArtefactError also where another artefact lies in its place, or where it learnt other
    labels than the config's.
    """
    wanted = announcement.model
    found = open_model(settings, space, place(wanted.path, "announced model"))
    if found.identity.manifest_sha256 != wanted.manifest_sha256:
        remedy = (
            f"the announced one is {wanted.model_version} with the manifest "
            f"{wanted.manifest_sha256[:12]}, this is {found.identity.model_version} with "
            f"{found.identity.manifest_sha256[:12]}; copy the announced one there"
        )
        raise ArtefactError("announced model", wanted.path, remedy)
    check_labels(found.model, settings)
    found.engine.warm_up(settings.batch.max_events)
    return ServedModel(wanted, found.model, found.engine, announcement)


def model_at_start(
    settings: Settings, space: FeatureSpace, announcements: Announcements
) -> ServedModel:
    """The model that a member which starts serves.

    Raises InputError where the announced one can't be served here, and StoreUnavailable.
    """
    try:
        announcement = announcements.current()
    except Unavailable:
        # Nobody should start Redis only to be told then that the model is wrong.
        artefact.load(settings.model.path, space.fingerprint)
        raise
    if announcement is None:
        return open_model(settings, space, settings.model.path)
    try:
        found = open_announced(settings, space, announcement)
    except InputError as error:
        raise ArtefactError(
            "announced model", announcement.model.path,
            f"the members of namespace {settings.store.namespace} serve it, and it can't be served "
            f"here ({error}): have it under the same path on every machine, or announce another "
            "(`models activate DIR -c FILE`)",
        ) from None  # fmt: skip
    path = settings.model.path
    if place(announcement.model.path) != path.resolve():
        log.warning(
            "serving the announced model %s (announcement %d, %s) rather than model.path %s",
            announcement.model.model_version, announcement.number, announcement.model.path, path,
        )  # fmt: skip
    return found
