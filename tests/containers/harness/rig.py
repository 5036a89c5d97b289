"""One test's topics, namespace and members, and what is done to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from runners import free_port
from servers import QUIET_CLIENT, KafkaServer, RedisServer

from harness.member import Member, wait_until
from harness.stream import EVENT_TYPES, SPACE, VOCABULARIES, Stream
from harness.verdict import Verdict, judge, single_pass
from stream_scorer.core.features.state import CustomerStates, concatenate_states
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.model import artefact
from stream_scorer.model.engines.native import NativeEngine
from stream_scorer.settings.kafka_properties import CLASSIC_ONLY

CATCH_UP_SECONDS = 90.0
CALL_SECONDS = 60
ANSWER_SECONDS = 5
FEED_SECONDS = 0.1
SESSION_MS = 2000
AWAY = {
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


Answer = TypeVar("Answer")


class Rig:
    """A stream, its topics, a namespace in Redis and the members that consume it.

    settings: sections over the defaults below. bootstrap and redis_url may be those of proxies.
    redis: the server, where it is the test's own.
    """

    redis: RedisServer

    def __init__(
        self,
        directory: Path,
        model: Path,
        kafka: KafkaServer,
        redis_url: str,
        name: str,
        *,
        seed: int = 1,
        customers: int = 300,
        padding_bytes: int = 0,
        repeats: float = 0.0,
        partitions: int = 6,
        settings: dict[str, dict[str, Any]] | None = None,
        output_config: dict[str, object] | None = None,
        sabotage: str | None = None,
    ) -> None:
        self.kafka, self.redis_url, self.name = kafka, redis_url, name
        self.input, self.output, self.dead = f"{name}-in", f"{name}-out", f"{name}-dead"
        self.stream, self.members = Stream(seed, customers, padding_bytes, repeats), list[Member]()
        self._directory, self._model, self._sabotage = directory, model, sabotage
        self._settings = settings or {}
        # Compaction would hide repeats.
        kafka.create_topic(self.input, partitions)
        kafka.create_topic(self.output, 4, output_config)
        kafka.create_topic(self.dead, 1)
        self._producer = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "topic.metadata.refresh.interval.ms": 500,
                **QUIET_CLIENT,
            }
        )
        self._group = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": name,
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",  # else it waits for open transactions
                **QUIET_CLIENT,
            }
        )
        self._publishing = threading.Lock()
        self._feeder: threading.Thread | None = None
        self._fed = threading.Event()

    def member(
        self, sabotage: str | None = None, processes: int | None = None, **settings: dict[str, Any]
    ) -> Member:
        """A new member, not yet started; settings: sections over the rig's own. processes: several,
        under a supervisor."""
        name = f"member-{len(self.members)}"
        sections = self._sections(name)
        for layer in (self._settings, settings):
            for section, fields in layer.items():
                sections.setdefault(section, {}).update(fields)
        if sections["kafka"].get("group_protocol") == "consumer":
            for classic in CLASSIC_ONLY:  # the test's broker has the same values for this protocol
                sections["kafka.properties"].pop(classic, None)
        member = Member(
            self._directory, name, sections, sabotage or self._sabotage, processes
        )  # fmt: skip
        self.members.append(member)
        return member

    def start(self, count: int = 1) -> list[Member]:
        """`count` new members, all reading."""
        started = [self.member().start() for _ in range(count)]
        for member in started:
            member.reading()
        return started

    def publish(self, count: int) -> None:
        """The next `count` records of the stream, confirmed."""
        refused: list[Any] = []
        with self._publishing:
            for key, value in self.stream.take(count):
                self._producer.produce(
                    self.input, key=key, value=value,
                    on_delivery=lambda error, _: refused.append(error) if error else None,
                )  # fmt: skip
            left = self._producer.flush(CALL_SECONDS)
        assert not left, f"{left} records were not published"
        assert not refused, f"{len(refused)} records were not published: {refused[0]}"

    def feed(self, per_second: int) -> None:
        """Publish at a steady rate until `stop_feeding`."""

        def run() -> None:
            while not self._fed.wait(FEED_SECONDS):
                self.publish(max(1, int(per_second * FEED_SECONDS)))

        self._fed.clear()
        self._feeder = threading.Thread(target=run, name="feeder")
        self._feeder.start()

    def under_load(self, members: int = 2, per_second: int = 300, backlog: int = 1500) -> None:
        """Start members on a backlog and feed them; returns when some is done."""
        self.publish(backlog)
        self.start(members)
        self.feed(per_second)
        self.more_is_done()

    def more_is_done(self, records: int = 500, seconds: float = 60.0) -> None:
        """Returns when so many more records are committed."""
        start = sum(self.committed().values())

        def done() -> bool:
            return sum(self.committed().values()) >= start + records

        wait_until(f"{records} more records are committed", done, seconds)

    def stop_feeding(self) -> None:
        self._fed.set()
        if self._feeder is not None:
            self._feeder.join()
            self._feeder = None

    def lag(self, ends: dict[int, int] | None = None) -> int:
        """Records up to `ends`, now's where none are given, that the group has not committed or the
        store does not hold."""
        ends = ends or self.kafka.end_offsets(self.input)
        committed, stored = self.committed(), self.watermarks()
        return sum(end - min(committed.get(p, 0), stored.get(p, 0)) for p, end in ends.items())

    def watermarks(self) -> dict[int, int]:
        """For each partition the next offset that the store needs."""
        partitions = self._ask_kafka(self._partitions)
        # By name: the server's other keys are many, and it may be a slow one.
        keys = [f"{self.name}:watermark:{self.input}:{p}" for p in partitions]
        client = redis.Redis.from_url(self.redis_url)
        try:
            found = zip(partitions, client.mget(keys), strict=True)
            return {p: int(value) for p, value in found if value is not None}
        finally:
            client.close()

    def committed(self) -> dict[int, int]:
        """Committed next offsets of the group.

        Asked by a consumer that never joins: the admin client ends the process where the group's
        coordinator moves while it asks.
        """

        def ask() -> list[TopicPartition]:
            asked = [TopicPartition(self.input, p) for p in self._partitions()]
            return self._group.committed(asked, ANSWER_SECONDS) if asked else []

        return {p.partition: p.offset for p in self._ask_kafka(ask) if p.offset >= 0}

    def _partitions(self) -> list[int]:
        return sorted(
            self._group.list_topics(self.input, ANSWER_SECONDS).topics[self.input].partitions
        )

    def _ask_kafka(self, question: Callable[[], Answer]) -> Answer:
        """The answer, once a broker that comes back gives one."""
        until = time.monotonic() + CALL_SECONDS
        while True:
            try:
                return question()
            except KafkaException as error:
                if error.args[0].code() not in AWAY or time.monotonic() > until:
                    raise
            time.sleep(0.1)

    def caught_up(self, seconds: float = CATCH_UP_SECONDS) -> None:
        """Returns when the group has committed everything published so far."""
        ends = self.kafka.end_offsets(self.input)

        def done() -> bool:
            for member in self.members:
                if member.started and not member.running() and not member.asked_to_stop:
                    raise AssertionError(f"{member.name} ended:\n{member.log()[-3000:]}")
            return self.lag(ends) == 0

        try:
            wait_until("the group has caught up", done, seconds)
        except AssertionError as error:
            tails = "\n".join(f"{m.name}:\n{m.log()[-2000:]}" for m in self.members)
            where = f"committed {self.committed()}, stored {self.watermarks()}"
            raise AssertionError(f"{error}\n{where}, of {ends}\n{tails}") from None

    def stop(self) -> None:
        """Thaw and ask the running members to stop; all must end in good order."""
        running = [m for m in self.members if m.running()]
        for member in running:
            member.wait_for_log("joining group")  # before, SIGTERM ends it as any process
        for member in running:
            member.ask_to_stop()
        for member in running:
            assert member.ended() == 0, member.log()[-3000:]

    def finish(self, *, moved: bool = False, refreshed: bool = False) -> Verdict:
        """Catch up, stop, judge."""
        self.caught_up()
        self.stop()
        return self.judge(moved=moved, refreshed=refreshed)

    def judge(self, *, moved: bool = False, refreshed: bool = False) -> Verdict:
        """The verdict on what is stored and published now."""
        remember = self._settings.get("events", {}).get("remember_event_ids", 0)
        truth = single_pass(self.kafka.read_topic(self.input), remember)
        return judge(
            truth, self.stream, self.stored(),
            self.kafka.read_topic(self.output, settled=True),
            self.kafka.read_topic(self.dead, settled=True),
            NativeEngine(artefact.load(self._model, SPACE.fingerprint), threads=1),
            moved=moved, refreshed=refreshed,
        )  # fmt: skip

    def stored(self) -> CustomerStates:
        """Every customer's record in Redis."""
        client = redis.Redis.from_url(self.redis_url)
        try:
            found: dict[str, CustomerStates] = {}
            states = empty_states([])
            for page in RedisStore(client, self.name, SPACE.fingerprint).scan():
                assert found.keys().isdisjoint(page.customer_ids)
                found |= dict.fromkeys(page.customer_ids, page)
                states = concatenate_states(states, page)
            return states
        finally:
            client.close()

    def close(self) -> None:
        self.stop_feeding()
        for member in self.members:
            member.kill()
        self._group.close()
        for topic in (self.input, self.output, self.dead):
            with suppress(KafkaException):  # a test may have deleted one
                self.kafka.delete_topic(topic)

    def _sections(self, member: str) -> dict[str, dict[str, Any]]:
        return {
            "kafka": {
                "bootstrap_servers": self.kafka.bootstrap,
                "client_id": f"{self.name}-{member}",
                "group_id": self.name,
                "transactional_id": self.name,
                "input_topic": self.input,
                "output_topic": self.output,
                "dead_letter_topic": self.dead,
                "delivery_timeout_ms": 5000,
            },
            "kafka.properties": {
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": 300,
                "reconnect.backoff.max.ms": 500,
            },
            "redis": {"url": self.redis_url, "timeout_seconds": 2.0},
            "store": {"namespace": self.name},
            "events": {"event_types": EVENT_TYPES},
            "vocabularies": dict(VOCABULARIES),
            "batch": {"max_events": 25, "max_age_ms": 20},
            "publish": {"mode": "all"},
            "refresh": {"every": ""},  # the verdict compares with scores as of events
            "model": {"path": str(self._model), "engine": "native"},
            "telemetry": {"port": free_port()},
        }


def kill_at_random(rig: Rig, kills: int, seed: int) -> int:
    """Kill and restart members at seeded random times; how many kills met a lag.

    Most victims are killed while they read, some while they start, some all at once.
    """
    draw = Random(seed)
    under_load = 0
    done = 0
    while done < kills:
        everyone = draw.random() < 0.15 and done + len(rig.members) <= kills
        victims = rig.members if everyone else [draw.choice(rig.members)]
        if draw.random() < 0.8:
            for victim in victims:
                victim.reading()
            pause = draw.uniform(0.0, 1.0)
        else:
            pause = draw.uniform(0.0, 2.5)
        threading.Event().wait(pause)
        for victim in victims:
            victim.kill()
        under_load += len(victims) * (rig.lag() > 0)
        for victim in victims:
            victim.start()
        done += len(victims)
    return under_load
