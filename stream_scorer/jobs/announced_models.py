"""`models activate DIR -c FILE`, `models rollback -c FILE`, `models status -c FILE`.

The artefact is checked on this machine first, as each member checks it before it switches: whole,
of this config's features and labels, its golden batch scored by every engine that is here. Only
then is it announced, so a bad one changes nothing anywhere. Then the members are asked, until each
serves it or the time is over.

Where model.path is the link `active` of the artefact's own folder it is moved as well, after the
announcement: both then say the same, also to a Redis that was emptied.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from stream_scorer.checks.members import (
    ModelStatus,
    model_status,
    name_of,
    status_in_words,
)
from stream_scorer.errors import ArtefactError, FingerprintMismatch, InputError
from stream_scorer.io.stores.announcements import Announcement, Announcements, ModelIdentity
from stream_scorer.io.stores.members import Member
from stream_scorer.io.stores.redis_health import redis_health
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.live.served_model import check_for_members, identity_of
from stream_scorer.model.active_link import ACTIVE, make_active
from stream_scorer.model.engines.golden import NO_GOLDEN_BATCH
from stream_scorer.progress import progress
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place, absolute, place

ASK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class AnnouncedModel(Result):
    """A model that was announced to the members that run.

    ok: every live member serves it. golden_batch: whether scores of this machine were compared with
    those that training stored. members: each, as it said last. not_switched: those that run and do
    not serve it, with what they say; with --wait 0 nobody was waited for, and these do not make it
    fail. seconds: that were waited. link_not_moved: why the link `active` could not be moved, ""
    where it was or needs not be.
    """

    ok: bool
    announcement: Announcement
    golden_batch: bool
    members: tuple[Member, ...]
    not_switched: tuple[str, ...]
    seconds: float
    link_not_moved: str = ""


def announce(
    settings: Settings,
    model: Place,
    wait_seconds: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> AnnouncedModel:
    """Check `model`, announce it, and wait until every member that runs serves it.

    Raises ArtefactError, FingerprintMismatch and StoreUnavailable, with nothing changed. A link
    `active` that can't be moved is part of the result: the members switch all the same.
    """
    if model.is_symlink():
        raise ArtefactError("model", model, "is a link; name the model itself")
    path = absolute(model)  # links above it may differ from machine to machine
    golden_batch = _check(settings, path)
    identity = identity_of(path)
    server = RedisServer(redis_client(settings))
    try:
        announcements = Announcements(server, settings.store.namespace)
        current = announcements.current()
        # Announcing the announced one again must not make it its own `previous`.
        if current is None or current.model != identity:
            current = announcements.announce(identity, _of_config(settings))
    finally:
        server.close()
    link, link_not_moved = settings.model.path, ""
    if (
        isinstance(path, Path)
        and link.is_symlink()
        and link.name == ACTIVE
        and link.parent.resolve() == path.parent.resolve()
    ):
        try:
            make_active(path)
        except ArtefactError as error:
            link_not_moved = (
                f"{error}; members serve the announced model, but with an emptied Redis they would "
                "start with the one before: move the link with `models activate DIR` where it can "
                "be written"
            )
    found = _switched(settings, current, golden_batch, wait_seconds, sleep)
    return replace(found, ok=found.ok and not link_not_moved, link_not_moved=link_not_moved)


def roll_back(
    settings: Settings, wait_seconds: float, *, sleep: Callable[[float], None] = time.sleep
) -> AnnouncedModel:
    """Announce the model that was served before; a second roll-back undoes the first.

    Raises ArtefactError where there was none, or another artefact lies in its place, and as
    `announce`.
    """
    server = RedisServer(redis_client(settings))
    try:
        current = Announcements(server, settings.store.namespace).current()
    finally:
        server.close()
    before = current.previous if current else None
    if before is None:
        raise ArtefactError(
            "models", settings.store.namespace,
            "no model was announced before; use `models activate DIR -c FILE`",
        )  # fmt: skip
    path = place(before.path, "announced model")
    if identity_of(path) != before:
        remedy = (
            f"it is another artefact than the one that was announced, {before.model_version}: copy "
            "that one there, or use `models activate DIR -c FILE`"
        )
        raise ArtefactError("models", path, remedy)
    return announce(settings, path, wait_seconds, sleep=sleep)


def status(settings: Settings) -> ModelStatus:
    """Which model each member serves. Raises StoreUnavailable, InputError."""
    return model_status(settings)


def in_words(done: AnnouncedModel) -> list[str]:
    """The announcement, and who did not follow it, for people."""
    found = ModelStatus(done.ok, done.announcement, done.members, ())
    lines = status_in_words(found)
    if not done.golden_batch:
        lines.append(f"{done.announcement.model.path}: {NO_GOLDEN_BATCH}")
    if done.link_not_moved:
        lines.append(done.link_not_moved)
    return [*lines, *(f"not switched: {said}" for said in done.not_switched)]


def words_of_status(found: ModelStatus) -> list[str]:
    """The status for people."""
    return status_in_words(found)


def _check(settings: Settings, path: Place) -> bool:
    """Whether there is a golden batch, once every check has passed."""
    space = settings.feature_space()
    golden_batch = check_for_members(settings, space, path)
    client = redis_client(settings)
    try:
        health = redis_health(client, settings.store.namespace, settings.kafka.input_topic)
    finally:
        client.close()
    if health.fingerprint not in (None, space.fingerprint_hex):
        raise FingerprintMismatch(
            "store.namespace", settings.store.namespace,
            f"holds vectors of feature declaration {health.fingerprint}, the config declares "
            f"{space.fingerprint_hex}; use the config that its members run with",
        )  # fmt: skip
    return golden_batch


def _of_config(settings: Settings) -> ModelIdentity | None:
    """The model that members served where nothing was announced; None where it is not here."""
    try:
        return identity_of(settings.model.path.resolve())
    except InputError:
        return None


def _switched(
    settings: Settings,
    announcement: Announcement,
    golden_batch: bool,
    wait_seconds: float,
    sleep: Callable[[float], None],
) -> AnnouncedModel:
    """Ask the members until each serves the announced model, or the time is over."""
    started, seconds = time.monotonic(), 0.0
    members, behind = _behind(settings, announcement)
    if behind and wait_seconds:
        with progress("switching members") as meter:
            while behind and seconds < wait_seconds:
                meter.at(len(members) - len(behind), len(members))
                sleep(ASK_AGAIN_SECONDS)
                members, behind = _behind(settings, announcement)
                seconds = time.monotonic() - started
    lines = tuple(
        f"{name_of(m)}: {m.state} {m.model_version}" + (f": {m.reason}" if m.reason else "")
        for m in behind
    )
    ok = not lines or not wait_seconds
    return AnnouncedModel(ok, announcement, golden_batch, members, lines, round(seconds, 1))


def _behind(
    settings: Settings, announcement: Announcement
) -> tuple[tuple[Member, ...], list[Member]]:
    """All members, and those that run and do not serve the announced model."""
    members = model_status(settings).members
    here = (member for member in members if not member.gone)
    return members, [m for m in here if m.announcement != announcement.number]
