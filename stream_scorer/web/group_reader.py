"""The group's state, read from Redis as often as anyone asks, but at most once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.members import Members
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.settings.tree import Settings
from stream_scorer.web.group_status import Group, GroupStatus, group_status

FRESH_SECONDS = 1.0


class GroupReader:
    """On a connection of its own. Safe for several threads. seconds: a clock that only grows."""

    def __init__(self, settings: Settings, seconds: Callable[[], float] = time.monotonic) -> None:
        kafka, namespace = settings.kafka, settings.store.namespace
        self.group = Group(namespace, kafka.group_id, kafka.input_topic, kafka.output_topic)
        self._server = RedisServer(redis_client(settings))
        self._members = Members(self._server, namespace)
        self._announcements = Announcements(self._server, namespace)
        self._seconds, self._lock = seconds, threading.Lock()
        self._known: GroupStatus | None = None
        self._known_at = 0.0

    def status(self) -> GroupStatus:
        """Raises StoreUnavailable, and InputError for an announcement of another program."""
        with self._lock:
            now = self._seconds()
            if self._known is None or now - self._known_at >= FRESH_SECONDS:
                members, now_ms = self._members.all()
                announced = self._announcements.current()
                self._known = group_status(self.group, members, announced, now_ms)
                self._known_at = now
            return self._known

    def answers(self) -> tuple[bool, str]:
        """Whether Redis does, and why not."""
        try:
            self.status()
        except StreamScorerError as error:
            return False, f"{error}"
        return True, "Redis answers"

    def close(self) -> None:
        """Close the connection; a call that waits for Redis ends."""
        self._server.close()
