"""What `namespaces list` says of Kafka, and which namespaces `namespaces drop` refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import BusUnavailable, ConfigError, InputError
from stream_scorer.io.kafka.admin import GroupPosition, Topic
from stream_scorer.io.kafka.group_offsets import Owner
from stream_scorer.io.stores.members import Members, MemberSaid
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.rollout import namespaces as job
from stream_scorer.settings.tree import Settings

CONFIG = """
[redis]
url = "{url}"
[store]
namespace = "new"
[vocabularies]
category_id = ["soup", "bread"]
[[features]]
name = "bought"
by = ["category_id"]
"""


class Brokers:
    """What KafkaAdmin would answer."""

    member_count = 0
    named: frozenset[Owner] = frozenset()
    away = False

    def __init__(self, _properties: object) -> None:
        pass

    def _answering(self) -> None:
        if self.away:
            raise BusUnavailable("Kafka is away")

    def partitions(self, _topic: str) -> int:
        self._answering()
        return 2

    def positions(self, _group: str, topic: Topic) -> dict[tuple[str, int], GroupPosition]:
        return {(topic.name, 0): GroupPosition(0, 20), (topic.name, 1): GroupPosition(0, 9)}

    def members(self, _group: str) -> int:
        self._answering()
        return self.member_count

    def owners(self, _group: str, _topic: str) -> frozenset[Owner]:
        return self.named


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> type[Brokers]:
    fresh: type[Brokers] = type("Fresh", (Brokers,), {})
    monkeypatch.setattr(job, "KafkaAdmin", fresh)
    return fresh


@pytest.fixture
def old(brokers: type[Brokers], config: Path) -> RedisStore:
    """The namespace `old`, up to offset 17 of one partition."""
    settings = Settings.load(config, environment={})
    store = RedisStore(redis.Redis.from_url(settings.redis.url), "old", 0xABC)
    store.claim()
    store.keep_identity()
    store.group_of("events", "group")
    store.begin({("events", 0): 17})
    return store


@pytest.fixture
def config(tmp_path: Path) -> Any:
    with EmbeddedRedis() as server:
        path = tmp_path / "scorer.toml"
        path.write_text(CONFIG.format(url=server.url))
        yield path


@pytest.fixture
def drop(config: Path) -> Callable[..., job.DroppedNamespace]:
    settings = Settings.load(config, environment={})

    def dropped(name: str = "old", *, agreed: bool = True, force: bool = False) -> Any:
        return job.drop(settings, name, agreed=agreed, force=force)

    return dropped


def test_the_list_says_how_far_behind_each_is_and_who_reads_into_it(
    old: RedisStore, brokers: type[Brokers], config: Path
) -> None:
    brokers.member_count, brokers.named = 2, frozenset({Owner("old", old.identity)})
    ran = CliRunner().invoke(cli.app, ["namespaces", "list", "-c", str(config), "--json"])
    assert ran.exit_code == 0, ran.output
    (namespace,) = json.loads(ran.stdout)["namespaces"]
    assert (namespace["namespace"], namespace["configured"]) == ("old", False)
    assert namespace["topics"] == [
        {
            "topic": "events", "group": "group", "members": 2, "served": True, "behind": 12,
            "partitions": [{"partition": 0, "watermark": 17, "behind": 3}],
        }
    ]  # fmt: skip
    said = CliRunner().invoke(cli.app, ["namespaces", "list", "-c", str(config)]).stdout
    assert "whose members (2) read for it now; 12 records behind the log" in said


def test_without_kafka_the_list_says_what_is_not_known(
    old: RedisStore, brokers: type[Brokers], config: Path
) -> None:
    brokers.away = True
    ran = CliRunner().invoke(cli.app, ["namespaces", "list", "-c", str(config), "--json"])
    found = json.loads(ran.stdout)
    assert found["unknown"] == ["topic events: Kafka is away"]
    (topic,) = found["namespaces"][0]["topics"]
    assert (topic["members"], topic["served"], topic["behind"]) == (None, None, None)


def test_without_yes_nothing_is_dropped(
    old: RedisStore, drop: Callable[..., job.DroppedNamespace]
) -> None:
    with pytest.raises(InputError, match="add --yes to do it"):
        drop(agreed=False)
    assert old.stored_identity()
    assert drop().namespace == "old"
    assert not old.stored_identity()


def test_an_unknown_name_is_refused_with_those_that_are_there(
    old: RedisStore, drop: Callable[..., job.DroppedNamespace]
) -> None:
    with pytest.raises(InputError, match="has no such namespace, but old"):
        drop("ol")


def test_a_namespace_in_use_is_refused_unless_it_is_forced(
    old: RedisStore, brokers: type[Brokers], drop: Callable[..., job.DroppedNamespace]
) -> None:
    brokers.member_count, brokers.named = 1, frozenset({Owner("old", old.identity)})
    with pytest.raises(InputError, match="group group has members that read events into it"):
        drop()
    # Members that have committed nothing yet may be this one's.
    brokers.named = frozenset()
    with pytest.raises(InputError, match="has members that read events into it"):
        drop()
    brokers.named = frozenset({Owner("new", "x")})  # the group has moved on
    assert drop(agreed=True).keys > 0


def test_a_namespace_for_which_a_member_without_partitions_runs_is_refused(
    old: RedisStore, brokers: type[Brokers], config: Path,
    drop: Callable[..., job.DroppedNamespace],
) -> None:  # fmt: skip
    said = MemberSaid(
        "m", "scorer-3", "host-3", 17, (), "v1", "model", 0, "f", "1.0", "serving", "", 0
    )
    members = Members(old.server, "old")
    members.beat(said)
    with pytest.raises(InputError, match=r"scorer-3 \(process 17 on host-3\) runs for it"):
        drop()
    ran = CliRunner().invoke(cli.app, ["namespaces", "list", "-c", str(config)])
    assert "member scorer-3 (process 17 on host-3): serving, model v1, 0 partitions" in ran.stdout
    members.leave("m")
    assert drop().keys > 0


def test_where_kafka_does_not_answer_only_force_drops(
    old: RedisStore, brokers: type[Brokers], drop: Callable[..., job.DroppedNamespace]
) -> None:
    brokers.away = True
    with pytest.raises(InputError, match="whether group group reads into it could not be asked"):
        drop()
    assert drop(force=True).keys > 0


def test_the_configs_own_namespace_is_refused(
    config: Path, brokers: type[Brokers], drop: Callable[..., job.DroppedNamespace]
) -> None:
    settings = Settings.load(config, environment={})
    RedisStore(redis.Redis.from_url(settings.redis.url), "new", 0xABC).claim()
    with pytest.raises(InputError, match="of this config, which `run` reads into"):
        drop("new")


def test_a_node_of_a_cluster_is_refused_because_it_has_a_part_of_the_keys(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(config, environment={})
    monkeypatch.setattr(RedisServer, "info", lambda _self, _section: {"cluster_enabled": 1})
    with pytest.raises(ConfigError, match="this is a node of a Redis Cluster"):
        job.list_namespaces(settings)
