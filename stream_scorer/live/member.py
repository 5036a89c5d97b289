"""This process as a member: it takes the models that are announced, and says in Redis what it does.

The parts are a model switch (model_switch.py) and what a heartbeat says (io/stores/members.py),
joined to one consumer and its metrics.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Callable

from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.announcements import Announcement
from stream_scorer.io.stores.member_status import MemberStatus
from stream_scorer.io.stores.members import Members, MemberSaid
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.consumer import Consumer, clock_ms
from stream_scorer.live.model_switch import ModelSwitch, Status
from stream_scorer.live.served_model import ServedModel, open_announced

log = logging.getLogger(__name__)


class LiveMember:
    """One member of a namespace, for the loop's `between`.

    build: this package's version. status: what it says of its work. on_switch: called after a
    switch, between two micro-batches.
    """

    def __init__(
        self,
        consumer: Consumer,
        metrics: Metrics,
        build: str,
        status: Callable[[], MemberStatus],
        on_switch: Callable[[], None] = lambda: None,
    ) -> None:
        self._consumer, self._metrics, self._build = consumer, metrics, build
        self._status = status
        namespace = consumer.settings.store.namespace
        self._members = Members(consumer.announcements.server, namespace)
        self._id, self._started_ms = uuid.uuid4().hex[:12], clock_ms()
        self._switch = ModelSwitch(
            consumer.served, consumer.announcements, load=self._load, serve=self._serve,
            heartbeat=self._beat, metrics=metrics, on_switch=on_switch,
        )  # fmt: skip
        self._observe()

    def check(self) -> None:
        """Between two micro-batches; never raises."""
        self._switch.check()

    def leave(self) -> None:
        """Say that this member has stopped; where Redis does not answer, it is gone by and by."""
        try:
            self._members.leave(self._id)
        except StreamScorerError as error:
            log.debug("%s", error)

    def _load(self, announcement: Announcement) -> ServedModel:
        return open_announced(self._consumer.settings, self._consumer.space, announcement)

    def _serve(self, served: ServedModel) -> None:
        self._consumer.serve(served)
        self._observe()

    def _observe(self) -> None:
        version = self._consumer.scoring.engine.model_version
        fingerprint = self._consumer.space.fingerprint_hex
        self._metrics.observe_model(version, fingerprint, self._build)

    def _beat(self, status: Status) -> None:
        settings = self._consumer.settings
        partitions = sorted(p for _, p in self._consumer.source.handed_out())
        said = MemberSaid(
            member=self._id, client_id=settings.kafka.client_name, host=socket.gethostname(),
            pid=os.getpid(), partitions=tuple(partitions),
            model_version=status.model.model_version, model_path=status.model.path,
            announcement=status.announcement, fingerprint=self._consumer.space.fingerprint_hex,
            build=self._build, state=status.state, reason=status.reason,
            started_ms=self._started_ms, status=self._status(),
        )  # fmt: skip
        self._members.beat(said)
        everyone, _ = self._members.all()
        self._metrics.members.set(sum(not member.gone for member in everyone))
