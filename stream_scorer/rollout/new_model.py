"""The model that a roll-out waits for, checked as `models activate` checks one before it announces.

A member that starts checks it again and does not start where it is wrong. But then its predecessor
has stopped already, so the roll-out looks first.
"""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.errors import InputError
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.live.served_model import check_for_members
from stream_scorer.model.engines.golden import NO_GOLDEN_BATCH
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place, place


@dataclass(frozen=True)
class NewModel:
    """good: members can serve it. refused: why they can't serve what lies there, "" where nothing
    does. said: for the person who waits, "" for nothing."""

    good: bool
    refused: str
    said: str


def check_new_model(settings: Settings, space: FeatureSpace) -> NewModel:
    """The model that a member which starts now would serve. Raises Unavailable."""
    path = _path(settings)
    try:
        golden_batch = check_for_members(settings, space, path)
    except InputError as error:
        if path.exists():
            said = (
                f"the new declaration's model can't be served ({error}), so no member is to be "
                "restarted yet; put another in its place"
            )
            return NewModel(False, f"{error}", said)
        said = (
            f"waiting for a model of the new declaration at model.path, {path} ({error.remedy}): "
            "make labelled snapshots with `stream-scorer replay topic -c NEW --cutoffs ... --out "
            "DIR`, train with `stream-scorer train DIR -c NEW --out MODEL`, and put it there"
        )
        return NewModel(False, "", said)
    return NewModel(True, "", "" if golden_batch else f"{path}: {NO_GOLDEN_BATCH}")


def _path(settings: Settings) -> Place:
    # Not the store's own connection: see `Announcements`.
    server = RedisServer(redis_client(settings))
    try:
        announced = Announcements(server, settings.store.namespace).current()
    finally:
        server.close()
    return place(announced.model.path, "announced model") if announced else settings.model.path
