"""`stream-scorer refresh`: what it refuses, and what it says where nothing moves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.freshness import PartitionFreshness
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.stores.members import Members, MemberSaid
from stream_scorer.io.stores.refresh_store import RefreshStore
from stream_scorer.jobs import refresh as job
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings

PARTITIONS = 4
FRESH = PartitionFreshness(until_ms=1, model="m")


class Shop:
    """The command, its Redis, and members who do what a test says."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.settings = Settings.load(config, environment={})
        self.records = open_store(self.settings, self.settings.feature_space())
        kafka = self.settings.kafka
        self.store = RefreshStore(self.records, self.settings.store.namespace, kafka.input_topic)
        self.topic = kafka.input_topic

    def refresh(self, *options: str) -> tuple[int, dict[str, Any], str]:
        """Exit status, result, and what was said."""
        done = CliRunner().invoke(cli.app, ["refresh", "-c", str(self.config), *options, "--json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, json.loads(done.stdout or "{}"), done.stderr

    def keep(self, **changes: Any) -> None:
        """What members write of these partitions, p0 to p3."""
        kept = {(self.topic, int(p[1:])): known for p, known in changes.items()}
        self.store.keep(kept)

    def member_reads(self, *partitions: int) -> None:
        said = MemberSaid("m", "c", "h", 1, partitions, "v", "p", 0, "f", "b", "serving", "", 1)
        Members(self.records.server, self.settings.store.namespace).beat(said)

    def request(self) -> str:
        """The name of the command's request, once it is there."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                asked = self.store.asked()
            except StoreUnavailable:  # it was restarted
                asked = None
            if asked is not None:
                return asked.name
            time.sleep(0.01)
        raise AssertionError("nothing was asked")


@pytest.fixture
def shop(config: Path, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A group with a member, of which the command knows."""
    kafka.create(Settings.load(config, environment={}).kafka.input_topic)
    monkeypatch.setattr(KafkaAdmin, "members", lambda _self, _group: 1)
    monkeypatch.setattr(job, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(job, "LOOK_SECONDS", 0.02)
    return Shop(config)


@pytest.fixture
def played() -> Iterator[Any]:
    """Does something beside the command, which a test waits for."""
    threads: list[threading.Thread] = []

    def play(what: Any) -> None:
        threads.append(threading.Thread(target=what))
        threads[-1].start()

    yield play
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_moment_in_the_future_is_refused_and_nothing_is_asked(shop: Shop) -> None:
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    status, _, said = shop.refresh("--as-of", moment)
    assert status == 2
    assert len(said.splitlines()) == 1
    assert "--as-of" in said
    assert "lies in the future" in said
    assert shop.store.asked() is None


def test_without_a_member_it_is_refused_and_nothing_is_asked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KafkaAdmin, "members", lambda _self, _group: 0)
    status, _, said = shop.refresh()
    assert status == 2
    assert "start one with `stream-scorer run`" in said
    assert shop.store.asked() is None


def test_a_topic_that_is_not_there_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of no partitions would be done at once, with exit status 0."""
    # The mock cluster does not answer for a topic that is missing; a broker does.
    monkeypatch.setattr(KafkaAdmin, "partitions", lambda _self, _topic: 0)
    status, _, said = shop.refresh()
    assert status == 2
    assert "kafka.input_topic" in said
    assert "there is no such topic" in said
    assert shop.store.asked() is None


def test_partitions_that_no_member_reads_are_named_with_the_remedy(shop: Shop, played: Any) -> None:
    shop.member_reads(0, 1)

    def members() -> None:
        name = shop.request()
        shop.keep(p0=replace(FRESH, answered=name, answer=(7, 5, 1)))

    played(members)
    status, found, _ = shop.refresh()
    assert status == 1
    assert (found["unfinished"], found["unread"]) == ([1, 2, 3], [2, 3])
    assert (found["customers"], found["refreshed"], found["unmoved"]) == (7, 5, 1)
    lines = job.in_words(job.Refreshed("", 4, 7, 5, 1, (1, 2, 3), False, 1.0, (2, 3)))
    assert "not done: partitions 1, 2, 3; nothing has moved for 1 s" in lines[-1]
    assert "No member with a heartbeat in Redis reads partitions 2, 3" in lines[-1]


def test_members_that_are_held_up_are_named_apart_from_those_that_are_missing(
    shop: Shop,
) -> None:
    shop.member_reads(0, 1, 2, 3)
    status, found, _ = shop.refresh()
    assert (status, found["unfinished"], found["unread"]) == (1, [0, 1, 2, 3], [])
    lines = job.in_words(job.Refreshed("", 4, 0, 0, 0, (0, 1, 2, 3), False, 1.0))
    assert "once Kafka and Redis answer them" in lines[-1]
    assert "`stream-scorer doctor`" in lines[-1]


def test_rounds_of_other_partitions_are_no_progress(shop: Shop, played: Any) -> None:
    over = threading.Event()

    def members() -> None:
        name, rounds = shop.request(), 0
        while not over.wait(0.02):
            rounds += 1
            done = replace(FRESH, answered=name, began_ms=10**15 + rounds, read=rounds)
            shop.keep(p0=done, p1=done, p2=done)

    played(members)
    began = time.monotonic()
    try:
        status, found, _ = shop.refresh()
    finally:
        over.set()
    assert (status, found["unfinished"]) == (1, [3])
    assert time.monotonic() < began + 20


def test_slow_progress_is_waited_for(shop: Shop, played: Any) -> None:
    def members() -> None:
        name = shop.request()
        for read in range(1, 8):
            going = replace(FRESH, began_ms=10**15, finished=False, read=read)
            shop.keep(**{f"p{p}": going for p in range(PARTITIONS)})
            time.sleep(0.3)
        done = replace(FRESH, answered=name, answer=(2, 2, 0))
        shop.keep(**{f"p{p}": done for p in range(PARTITIONS)})

    played(members)
    status, found, _ = shop.refresh()
    assert (status, found["refreshed"], found["unfinished"]) == (0, 8, [])


def test_a_request_that_redis_lost_is_left_there_again(shop: Shop, played: Any) -> None:
    def members() -> None:
        first = shop.request()
        shop.records.server.client.flushall()
        assert shop.request() == first
        done = replace(FRESH, answered=first)
        shop.keep(**{f"p{p}": done for p in range(PARTITIONS)})

    played(members)
    assert shop.refresh()[0] == 0


def test_redis_that_goes_away_meanwhile_is_named_in_one_line(
    shop: Shop, redis_server: EmbeddedRedis, played: Any
) -> None:
    def goes_away() -> None:
        shop.request()
        redis_server.kill()

    played(goes_away)
    status, _, said = shop.refresh()
    assert status == 1
    (line,) = (line for line in said.splitlines() if line.startswith("stream-scorer:"))
    assert "the members go on with this refresh once Redis answers them" in line


def test_redis_that_comes_back_in_time_is_waited_for(
    shop: Shop, redis_server: EmbeddedRedis, played: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE_SECONDS", 20.0)

    def goes_and_comes() -> None:
        shop.request()
        redis_server.kill()
        time.sleep(0.5)
        redis_server.start()
        done = replace(FRESH, answered=shop.request())
        shop.keep(**{f"p{p}": done for p in range(PARTITIONS)})

    played(goes_and_comes)
    assert shop.refresh()[0] == 0


def test_kafka_that_does_not_answer_is_named_in_one_line(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(config)
    monkeypatch.setenv("STREAM_SCORER__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    status, _, said = shop.refresh()
    assert status == 1
    assert len(said.splitlines()) == 1
    assert "Kafka" in said
    assert shop.store.asked() is None
