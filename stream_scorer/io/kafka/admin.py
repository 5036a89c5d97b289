"""Questions to Kafka about itself: which topics exist, their settings, and a group's progress.

What the topics ought to be like is decided elsewhere (settings/topics.py, `doctor`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import (  # it re-exports them
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from stream_scorer.backoff import delays
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import BusUnavailable, Halt, NotAllowed, StreamScorerError
from stream_scorer.io.kafka.clients import Connected
from stream_scorer.io.kafka.errors import NO_RIGHTS, Rights, ask, code_of, translate_error
from stream_scorer.io.kafka.group_offsets import Owner, metadata_of, owner_in
from stream_scorer.io.kafka.group_questions import (
    commit_offsets,
    committed_offsets,
    first_records,
    once_loaded,
    rights_of_group,
)

REQUEST_SECONDS = 10.0
ANSWER_SECONDS = 5.0  # how long a server may take to answer at all
FIRST_DELAY_SECONDS = 0.2
MOST_DELAY_SECONDS = 1.0
IDENTITY_SECONDS = 2.0  # short, because it is asked between micro-batches
NO_IDENTITY = "AAAAAAAAAAAAAAAAAAAAAA"  # the id of 16 zero bytes, from brokers before 2.8

_NO_SUCH_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_NOT_ALLOWED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: its number of partitions, and its settings by Kafka's own names.

    config: None where this user may not read them.
    """

    name: str
    partitions: int
    config: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Of one partition: the log's first offset, the one after its last, the committed one.

    namespace: whose that offset is, None where it does not say. waiting: the offset of the first
    record that the group has not committed, the end for none; None where nobody looked.
    """

    first: int
    end: int
    committed: int | None = None
    namespace: str | None = None
    waiting: int | None = None

    @property
    def lag(self) -> int:
        """Records that the group has not committed."""
        if self.waiting is not None:
            return self.end - self.waiting
        return self.end - (self.first if self.committed is None else self.committed)


class KafkaAdmin:
    """properties: librdkafka's. Every method raises BusUnavailable or Halt.

    Raises ConfigError where librdkafka does not take the properties.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = dict(properties)
        self._identities: dict[str, Future[Any]] = {}  # questions that are not answered yet
        self._identity_seconds = IDENTITY_SECONDS
        self._connected = Connected(AdminClient, self._properties)
        self._client = self._connected.client

    def brokers(self) -> list[str]:
        """Addresses of the brokers, as they give them."""
        return [f"{b.host}:{b.port}" for b in self._metadata().brokers.values()]

    def topics(self, names: Iterable[str], seconds: float = REQUEST_SECONDS) -> dict[str, Topic]:
        """Those of `names` that exist. seconds: how long their settings may take.

        Raises Halt where this user may not ask about one of them, so that it may exist.
        """
        known = self._partitions(names)
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in known]
        configs = self._client.describe_configs(resources) if resources else {}
        answers = {r.name: self._config(f, seconds) for r, f in configs.items()}
        return {name: Topic(name, known[name], answers[name]) for name in known}

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has, 0 where there is none of this name."""
        return self._partitions([topic]).get(topic, 0)

    def _partitions(self, names: Iterable[str]) -> dict[str, int]:
        """How many partitions those of `names` have that exist."""
        found = self._metadata().topics
        known = {n: len(t.partitions) for n in names if (t := found.get(n)) and t.error is None}
        for name in (n for n in names if n not in known):
            # The list leaves out topics that this user may not describe.
            known |= self._unlisted(name)
        return known

    def _unlisted(self, name: str) -> dict[str, int]:
        request = TopicCollection([name])
        future = self._client.describe_topics(request, request_timeout=REQUEST_SECONDS)[name]
        try:
            doing, rights = f"asking for topic {name}", Rights(topic=f"Describe on topic {name}")
            return {name: len(self._answer(future, doing, rights=rights).partitions)}
        except BusUnavailable as error:
            if code_of(error) in _NO_SUCH_TOPIC:
                return {}
            raise

    def _config(self, future: Future[Any], seconds: float) -> Mapping[str, str] | None:
        try:
            found = self._answer(future, "reading topic settings", seconds)
        except Halt as error:
            if code_of(error) in _NOT_ALLOWED:
                return None
            raise
        return {key: entry.value for key, entry in found.items()}

    def operations(self, topic: str) -> frozenset[str] | None:
        """What this user may do with the topic, such as "READ"; None where the broker says nothing.

        Raises Halt where this user may not describe it.
        """
        future = self._client.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True,
            request_timeout=REQUEST_SECONDS,
        )[topic]  # fmt: skip
        doing, rights = f"asking what is allowed with {topic}", Rights(f"Describe on topic {topic}")
        found = self._answer(future, doing, rights=rights).authorized_operations
        # Whoever may describe it has that right at least.
        return frozenset(operation.name for operation in found) if found else None

    def group_operations(self, group: str) -> frozenset[str] | None:
        """What this user may do with the consumer group; None where the broker says nothing.

        Raises Halt where this user may not describe it.
        """
        doing = f"asking what is allowed with group {group}"
        found = self._described(group, doing, include_authorized_operations=True)
        allowed = found.authorized_operations
        return None if allowed is None else frozenset(operation.name for operation in allowed)

    def create(
        self, name: str, partitions: int, replication_factor: int, config: Mapping[str, str]
    ) -> bool:
        """Make a topic; False where it exists. replication_factor 0: the broker's default."""
        topic = NewTopic(
            name,
            num_partitions=partitions,
            # Kafka's own number for the broker's default.
            replication_factor=replication_factor or -1,
            config=dict(config),
        )
        try:
            future = self._client.create_topics([topic], operation_timeout=REQUEST_SECONDS)[name]
            rights = Rights(topic=f"Create on topic {name}")
            self._answer(
                future, f"creating {name}", REQUEST_SECONDS + ANSWER_SECONDS, rights=rights
            )
        except StreamScorerError as error:
            if code_of(error) == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        until = time.monotonic() + REQUEST_SECONDS
        for delay in delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, random.random):
            # The controller has made it, but the broker that is asked may not know of it yet.
            try:
                if name in self._partitions([name]) or time.monotonic() >= until:
                    break
            except NotAllowed:  # Create alone lets nobody ask
                break
            time.sleep(delay)
        return True

    def positions(self, group: str, topic: Topic) -> dict[TopicPartition, GroupPosition]:
        """How far `group` is in every partition of `topic`."""
        partitions = [KafkaPartition(topic.name, p) for p in range(topic.partitions)]
        answer = committed_offsets(self._properties, group, partitions)
        committed = {
            p.partition: (p.offset, owner_in(p.metadata).namespace or None)
            for p in answer
            if p.offset >= 0
        }
        return {
            tp: GroupPosition(first, end, *committed.get(tp[1], ()))
            for tp, (first, end) in self.ranges(topic).items()
        }

    def ranges(self, topic: Topic) -> dict[TopicPartition, tuple[int, int]]:
        """Of each partition the log's first offset, and the one after its last."""
        partitions = [KafkaPartition(topic.name, p) for p in range(topic.partitions)]
        first = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        end = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {(topic.name, p): (first[p], end[p]) for p in sorted(end)}

    def with_waiting(
        self, group: str, positions: Mapping[TopicPartition, GroupPosition]
    ) -> dict[TopicPartition, GroupPosition]:
        """`positions` with `waiting`, where it could be found out in time.

        The end of a transaction takes an offset without a record, so that the committed offset
        stays below the log's end although nothing waits.
        """
        behind = {tp: max(p.first, p.committed or 0) for tp, p in positions.items() if p.lag > 0}
        waiting = first_records(self._properties, group, behind)
        return dict(positions) | {
            tp: replace(positions[tp], waiting=min(offset, positions[tp].end))
            for tp, offset in waiting.items()
        }

    def members(self, group: str) -> int:
        """How many members `group` has now; one that was killed counts until its session ends."""
        doing = f"asking who is in group {group}"
        return len(self._described(group, doing, rights_of_group(group)).members)

    def _described(
        self, group: str, doing: str, rights: Rights = NO_RIGHTS, **options: bool
    ) -> Any:
        def described() -> Any:
            future = self._client.describe_consumer_groups(
                [group], request_timeout=REQUEST_SECONDS, **options
            )[group]
            return self._answer(future, doing, rights=rights)

        return once_loaded(described)

    def owners(self, group: str, topic: str) -> set[Owner]:
        """Whom the group's committed offsets of `topic` name."""
        return {owner_in(p.metadata) for p in self._named(group, topic)}

    def give_to(self, group: str, topic: str, owner: Owner) -> None:
        """Commit the group's offsets of `topic` anew, as `owner`'s; it must have no members."""
        offsets = [
            KafkaPartition(p.topic, p.partition, p.offset, metadata=metadata_of(owner))
            for p in self._named(group, topic)
        ]
        commit_offsets(self._properties, group, offsets)

    def _named(self, group: str, topic: str) -> list[KafkaPartition]:
        """The group's committed offsets of `topic` that name a namespace."""
        found = self._metadata().topics.get(topic)
        partitions = [] if found is None else [KafkaPartition(topic, p) for p in found.partitions]
        offsets = committed_offsets(self._properties, group, partitions) if partitions else []
        return [p for p in offsets if p.offset >= 0 and owner_in(p.metadata).namespace]

    def identity(self, topic: str) -> str:
        """Kafka's id of `topic`, which a topic created again under its name does not have.

        Empty where the brokers keep no ids. Where Kafka does not answer soon, later calls look for
        the answer without waiting, until it has answered again.
        """
        doing, rights = f"asking for the id of {topic}", Rights(topic=f"Read on topic {topic}")
        future = self._identities.pop(topic, None)
        if future is None:
            request = TopicCollection([topic])
            future = self._client.describe_topics(request, request_timeout=REQUEST_SECONDS)[topic]
        try:
            found = self._answer(future, doing, self._identity_seconds, rights=rights)
        except BusUnavailable:
            self._identity_seconds = 0.0
            if not future.done():
                self._identities[topic] = future
            raise
        self._identity_seconds = IDENTITY_SECONDS
        identity = str(found.topic_id)
        return "" if identity == NO_IDENTITY else identity

    def _offsets(self, partitions: list[KafkaPartition], spec: OffsetSpec) -> dict[int, int]:
        futures = self._client.list_offsets(dict.fromkeys(partitions, spec))
        doing = "reading a log's range"
        answers = {p.partition: self._answer(f, doing) for p, f in futures.items()}
        return {partition: answer.offset for partition, answer in answers.items()}

    def _metadata(self) -> Any:
        with self._connected.explained():
            listed = partial(self._client.list_topics, timeout=ANSWER_SECONDS)
            return ask("asking for topics", listed)

    def _answer(
        self,
        future: Future[Any],
        doing: str,
        seconds: float = REQUEST_SECONDS,
        rights: Rights = NO_RIGHTS,
    ) -> Any:
        with self._connected.explained():
            try:
                return future.result(seconds)
            except KafkaException as error:
                raise translate_error(error.args[0], doing, rights) from error
            except FutureTimeoutError:  # Python 3.10 does not count it among TimeoutError
                raise BusUnavailable(f"Kafka, {doing}: no answer in {seconds:g} s") from None
