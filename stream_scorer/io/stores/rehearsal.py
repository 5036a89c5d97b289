"""What `run` does with Redis, tried on keys that are deleted again.

A user of Redis's access control list may lack one command, also one that only a script uses, and
some servers offer less than Redis does. Each would show as late as the first save.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import redis

from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.announcements import Announcements, ModelIdentity
from stream_scorer.io.stores.members import Members
from stream_scorer.io.stores.redis import RedisStore

TOPIC, CUSTOMER = "rehearsal", "rehearsal"


def rehearse(client: Any, namespace: str) -> list[str]:
    """Do once what `run`, `verify` and `export` do. Returns keys that could not be deleted.

    client: a redis.Redis. namespace: the real one; the keys are below it, since a user may be
    confined to it. Raises ConfigError, StoreUnavailable and Halt as the store does.
    """
    own = f"{namespace}:rehearsal:{uuid.uuid4().hex}"
    store = RedisStore(client, own, 0, time_to_live_seconds=600)
    partition = (TOPIC, 0)
    try:
        store.claim()
        store.recognise(TOPIC, "id")
        store.begin({partition: 0})
        states = store.load([CUSTOMER])
        for _ in range(2):  # the second time it compares with the first
            store.save(states, np.arange(1))
        store.advance({partition: 1})
        store.verify()
        Members(store.server, own).leave("rehearsal")
        Announcements(store.server, own).announce(ModelIdentity(own, own, own), None)
        store.count()
        if not store.server.is_cluster:
            next(store.customer_ids(10), None)
    except StreamScorerError:
        _deleted(store, own)
        raise
    return [] if _deleted(store, own) else [f"{own}:*"]


def _deleted(store: RedisStore, own: str) -> bool:
    """Whether all its keys are gone."""
    names = (
        "fingerprint", f"topic:{TOPIC}", f"watermark:{TOPIC}:0", f"start:{TOPIC}:0",
        f"c:{CUSTOMER}", "members", "model",
    )  # fmt: skip
    keys = [*(f"{own}:{name}" for name in names), store.mark_key]
    try:
        store.server.client.delete(*keys)
    except redis.exceptions.RedisError:
        return False
    return True
