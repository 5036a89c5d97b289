"""A roll-out step by step: what it refuses, builds, waits for, and where it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features.space import Feature
from stream_scorer.core.features.state_codec import pack
from stream_scorer.core.freshness import PartitionFreshness
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.trend_record import TrendPlan, TrendRecord
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import FingerprintMismatch, InputError, StoreUnavailable
from stream_scorer.io.files.events import write_events
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.group_offsets import Owner, metadata_of
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.members import Members, MemberSaid
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.refresh_store import RefreshRequest, RefreshStore
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.jobs import rollout as job
from stream_scorer.jobs.replay import rebuild
from stream_scorer.live.consumer import open_store
from stream_scorer.model import artefact
from stream_scorer.past import missing_history
from stream_scorer.past.sources import open_past
from stream_scorer.rollout import build, rollout
from stream_scorer.rollout.namespaces import drop
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import (
    flip,
    random_model,
    save_with_golden_batch,
    spoil_golden_scores,
)

PARTITIONS = 4  # of a topic of the mock cluster


def made_up_events(count: int = 600) -> list[dict[str, Any]]:
    draw = np.random.default_rng(5)
    return [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(40)}", "event_type": "purchase",
            "category_id": ("soup", "bread", "milk", "tea")[draw.integers(4)],
            "occurred_at": 1_700_000_000_000 + 1000 * i,
        }
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def settings(config: Path) -> Settings:
    """Those of the new namespace."""
    loaded = Settings.load(config, environment={})
    store = loaded.store.model_copy(update={"namespace": "new"})
    return loaded.model_copy(update={"store": store})


@pytest.fixture
def events(settings: Settings) -> list[dict[str, Any]]:
    made = made_up_events()
    publish(settings, made)
    return made


def publish(settings: Settings, events: list[dict[str, Any]]) -> None:
    producer = ConfirmedProducer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    keys = [event["customer_id"].encode() for event in events]
    producer.send(settings.kafka.input_topic, keys, encode_events(events))
    assert producer.settle() == []
    producer.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[Any]:
    with redis.Redis.from_url(settings.redis.url) as connection:
        yield connection


@pytest.fixture
def commit(settings: Settings) -> Callable[..., None]:
    """commit(owner, partitions=all): the group's offsets, as a member of that namespace."""

    def committed(owner: Owner, partitions: range = range(PARTITIONS)) -> None:
        kafka = settings.kafka
        probe = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": kafka.group_id})
        metadata = metadata_of(owner)
        offsets = [KafkaPartition(kafka.input_topic, p, 3, metadata) for p in partitions]
        probe.commit(offsets=offsets, asynchronous=False)
        probe.close()

    return committed


@pytest.fixture
def old(client: Any, commit: Callable[..., None], events: list[dict[str, Any]]) -> Owner:
    """The namespace that the group reads for, of another declaration."""
    store = RedisStore(client, "old", 0xABC)
    store.claim()
    store.keep_identity()
    owner = Owner("old", store.identity)
    commit(owner)
    return owner


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(rollout, "LOOK_AGAIN_SECONDS", 0.01)
    # The mock cluster says nothing of members.
    monkeypatch.setattr(KafkaAdmin, "members", lambda _self, _group: 1)
    # Nor of a topic's settings, for which it would be waited.
    monkeypatch.setattr(missing_history, "_compacted", lambda _kafka: "")


def raise_interrupt(*_arguments: Any) -> None:
    raise KeyboardInterrupt


def records(settings: Settings, namespace: str) -> dict[str, bytes]:
    store = settings.store.model_copy(update={"namespace": namespace})
    space = settings.feature_space()
    opened = open_store(settings.model_copy(update={"store": store}), space)
    found: dict[str, bytes] = {}
    for states in opened.scan():
        found |= dict(zip(states.customer_ids, pack(states, space.fingerprint), strict=True))
    opened.close()
    return found


def without_model(settings: Settings) -> Settings:
    model = settings.model.model_copy(update={"path": Path("no-such-model")})
    return settings.model_copy(update={"model": model})


def test_it_goes_from_the_log_to_the_end_and_drops_the_old_namespace_when_told(
    settings: Settings, old: Owner, client: Any, commit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said: list[str] = []
    waiting = job.rollout(without_model(settings), wait=False, say=said.append)
    assert (waiting.step, waiting.done, waiting.behind, waiting.moved) == ("model", False, 0, 0)
    assert "no-such-model" in said[-1]
    rebuild(settings, ["topic"], "again")
    assert records(settings, "new") == records(settings, "again")

    publish(settings, made_up_events(50))  # while it waits the new namespace is kept up
    switching = job.rollout(settings, wait=False, say=said.append)
    assert (switching.step, switching.behind) == ("switch", 0)
    new = Owner("new", RedisStore(client, "new", 0).stored_identity())
    assert RedisStore(client, "old", 0).shares_group_with() == new
    assert RedisStore(client, "new", 0).shares_group_with() == old

    commit(new, range(2))
    assert job.rollout(settings, wait=False, say=said.append).moved == 2
    assert said[-1].startswith("2 of 4 partitions are read for new")
    with pytest.raises(InputError, match="is not replaced yet"):
        job.dropped_old(settings)
    with pytest.raises(InputError, match="2 partitions are read for it"):
        job.cancel(settings)
    commit(new)
    refreshing = job.rollout(settings, wait=False, say=said.append)
    assert (refreshing.step, refreshing.done, refreshing.moved) == ("refresh", False, 4)
    assert said[-1].startswith("0 of 4 partitions: their customers are scored again")
    with pytest.raises(InputError, match="is not replaced yet: next step refresh"):
        job.dropped_old(settings)
    answer(settings)
    done = job.rollout(settings, say=said.append)
    assert (done.step, done.done) == ("done", True)
    assert RedisStore(client, "old", 0).shares_group_with() == ("", "")
    assert RedisStore(client, "new", 0).shares_group_with() == ("", "")
    with pytest.raises(InputError, match="its roll-out has ended"):
        job.cancel(settings)

    with monkeypatch.context() as patch:
        patch.setattr(rollout.Rollout, "old_was_dropped", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            job.dropped_old(settings)
    assert client.keys("old:*") == []
    assert job.status(settings).step == "done"
    assert job.dropped_old(settings).namespace == "old"
    with pytest.raises(InputError, match="is gone already"):
        job.dropped_old(settings)
    assert job.status(settings).step == "dropped"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("a byte", "SHA-256"),
        ("golden scores", "scores its rows differently than training did"),
        ("other labels", "it learnt other labels"),
        ("old declaration", "fingerprint"),
    ],
)
def test_a_model_that_members_cannot_serve_changes_nothing_and_is_explained(
    settings: Settings, old: Owner, client: Any, fault: str, why: str, tmp_path: Path
) -> None:
    trained, path = random_model(settings, 3), tmp_path / "new-model"
    other = trained
    if fault == "other labels":
        other = replace(trained, labels=LabelRule("category_id", (("purchase",),), 1))
    elif fault == "old declaration":
        features = tuple(replace(f, half_lives=("9d",)) for f in settings.features)
        other = random_model(settings.model_copy(update={"features": features}), 3)
    save_with_golden_batch(other, path)
    if fault == "a byte":
        flip(path / artefact.PARAMS_FILE)
    elif fault == "golden scores":
        spoil_golden_scores(path)
    model = settings.model.model_copy(update={"path": path})
    new = settings.model_copy(update={"model": model})

    said: list[str] = []
    waiting = job.rollout(new, wait=False, say=said.append)
    assert (waiting.step, waiting.behind) == ("model", 0)
    for line in (said[-1], *waiting.to_do):
        assert why in line
    assert "no member is to be restarted yet" in said[-1]
    for namespace in ("old", "new"):
        assert RedisStore(client, namespace, 0).shares_group_with() == ("", "")

    # Another in its place is taken; one that is spoilt before anybody was moved is seen, too.
    shutil.rmtree(path)
    save_with_golden_batch(trained, path)
    assert job.rollout(new, wait=False, say=said.append).step == "switch"
    flip(path / artefact.PARAMS_FILE)
    spoilt = job.rollout(new, wait=False, say=said.append)
    assert (spoilt.step, spoilt.moved) == ("switch", 0)
    assert "SHA-256" in spoilt.to_do[0]


def answer(settings: Settings) -> None:
    """As members do that have scored all customers again."""
    store, topic = open_store(settings, settings.feature_space()), settings.kafka.input_topic
    kept = RefreshStore(store, settings.store.namespace, topic)
    asked = kept.asked()
    assert asked is not None
    done = PartitionFreshness(answered=asked.name)
    kept.keep({(topic, p): done for p in range(PARTITIONS)})
    store.close()


def test_who_was_forgotten_in_the_old_namespace_is_left_out_of_the_new_one(
    settings: Settings, old: Owner, client: Any
) -> None:
    erasures, said = Erasures(RedisServer(client), "old", 0xABC), list[str]()
    erasures.erase({"c1": 1_800_000_000_000})
    job.rollout(without_model(settings), wait=False, say=said.append)
    assert said[0] == "1 customers who were forgotten on request are left out of new, too"
    found = records(settings, "new")
    assert (found["c1"][0], found["c1"][8:20]) == (3, bytes(12))  # no sums, stamps and event ids
    assert found["c2"][0] == 1
    erasures.erase({"c2": 1_800_000_000_000})  # while it waits
    job.rollout(settings, wait=False, say=said.append)
    assert records(settings, "new")["c2"][8:20] == bytes(12)


def test_the_refresh_can_be_left_out(
    settings: Settings, old: Owner, client: Any, commit: Callable[..., None]
) -> None:
    assert job.rollout(settings, wait=False).step == "switch"
    commit(Owner("new", RedisStore(client, "new", 0).stored_identity()))
    assert job.rollout(settings, refresh=False).step == "done"


def test_a_refresh_that_somebody_asked_for_does_not_end_it(
    settings: Settings, old: Owner, client: Any, commit: Callable[..., None]
) -> None:
    assert job.rollout(settings, wait=False).step == "switch"
    topic, store = settings.kafka.input_topic, open_store(settings, settings.feature_space())
    kept = RefreshStore(store, "new", topic)
    kept.ask(RefreshRequest("somebody", 1, None))  # while members are moved
    answer(settings)
    commit(Owner("new", RedisStore(client, "new", 0).stored_identity()))
    assert job.rollout(settings, wait=False).step == "refresh"
    ours = kept.asked()
    assert ours is not None
    assert ours.everyone
    kept.ask(RefreshRequest("somebody", 2, None))  # in its place
    answer(settings)
    assert job.rollout(settings, wait=False).step == "refresh"
    assert kept.asked() is not None
    assert kept.asked().name == ours.name  # type: ignore[union-attr]
    answer(settings)
    assert job.rollout(settings, wait=False).step == "done"
    store.close()


def test_the_way_back_to_a_namespace_of_before_is_a_roll_out_of_its_own(
    settings: Settings, old: Owner, client: Any, commit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert job.rollout(settings, wait=False).step == "switch"
    new = Owner("new", RedisStore(client, "new", 0).stored_identity())
    commit(new)
    assert job.rollout(settings, wait=False).step == "refresh"
    answer(settings)
    assert job.rollout(settings, wait=False).done

    third = RedisStore(client, "third", 0xDEF)
    third.claim()
    third.keep_identity()
    commit(Owner("third", third.identity))
    publish(settings, made_up_events(50))
    left = job.status(settings)
    assert (left.step, left.done, left.moved) == ("done", False, 0)
    assert "begins the way back" in job.in_words(left)[-1]
    # The old one may be what the group reads for again.
    with pytest.raises(InputError, match="is not replaced any more"):
        job.dropped_old(settings)
    # What the topic has lost since the first time, the namespace has.
    monkeypatch.setattr(missing_history, "_compacted", lambda _kafka: "compacted")
    back = job.rollout(settings, wait=False)
    assert (back.replaces, back.step, back.done) == ("third", "switch", False)
    assert (back.behind, back.moved) == (0, 0)
    assert third.shares_group_with() == new
    commit(new)
    # The first roll-out's answers are not those of this one.
    assert job.rollout(settings, wait=False).step == "refresh"
    answer(settings)
    assert job.rollout(settings, wait=False).done


def test_a_namespace_of_a_roll_out_is_not_dropped_before_members_read(
    settings: Settings, old: Owner
) -> None:
    assert job.rollout(without_model(settings), wait=False).step == "model"
    elsewhere = settings.model_copy(
        update={"store": settings.store.model_copy(update={"namespace": "elsewhere"})}
    )
    for name in ("new", "old"):
        with pytest.raises(InputError, match="from old to new has not ended, its next step is mod"):
            drop(elsewhere, name, agreed=True, force=False)
    job.cancel(settings)
    assert drop(elsewhere, "new", agreed=True, force=False).keys > 0


def test_it_is_not_called_off_while_a_member_of_the_new_namespace_waits_for_partitions(
    settings: Settings, old: Owner, client: Any
) -> None:
    assert job.rollout(settings, wait=False).step == "switch"
    members = Members(RedisServer(client), "new")
    members.beat(
        MemberSaid("m1", "scorer-1", "host", 7, (), "v", "p", 0, "f", "b", "serving", "", 0)
    )
    with pytest.raises(InputError, match=r"scorer-1 \(process 7 on host\) runs for it"):
        job.cancel(settings)
    members.leave("m1")
    assert job.cancel(settings).namespace == "new"


def test_a_build_that_broke_off_is_gone_on_with_from_its_watermarks(
    settings: Settings, old: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH_RECORDS", 50)
    advance, calls = RedisStore.advance, 0

    def breaks(store: RedisStore, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise StoreUnavailable("gone")
        advance(store, *arguments)

    monkeypatch.setattr(RedisStore, "advance", breaks)
    with pytest.raises(StoreUnavailable, match="gone"):
        job.rollout(settings, wait=False)
    half = job.status(settings)
    assert half.step == "topic"
    assert 0 < half.behind < 600
    read: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        read.append(sum(options["from_offsets"].values()))
        return open_past(*arguments, **options)

    monkeypatch.setattr(build, "open_past", counted)
    assert job.rollout(settings, wait=False).step == "switch"
    assert read[0] == 600 - half.behind
    rebuild(settings, ["topic"], "again")
    assert records(settings, "new") == records(settings, "again")


def with_trend(settings: Settings) -> Settings:
    """Another declaration of the new namespace, with a trend, and its model."""
    trend = Feature("trend", "trend", by=("category_id",), half_lives=("2d", "14d"))
    model = settings.model.model_copy(update={"path": settings.model.path.parent / "trended"})
    found = settings.model_copy(update={"features": (*settings.features, trend), "model": model})
    artefact.save(random_model(found, 4), model.path)
    return found


def plan_of(settings: Settings) -> TrendPlan:
    plan = TrendPlan.of(settings.feature_space())
    assert plan is not None
    return plan


def trends(settings: Settings, namespace: str) -> dict[TopicPartition, bytes]:
    """The records of the shop's trend."""
    store = open_store(settings, settings.feature_space())
    kept = TrendStore(store.server, namespace, plan_of(settings))
    found = {tp: record.encode() for tp, record in kept.load(kept.partitions()).items()}
    store.close()
    return found


def test_a_declaration_with_a_trend_is_rolled_out_kept_up_and_replaced_again(
    settings: Settings, old: Owner, client: Any, commit: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    new = with_trend(settings)
    monkeypatch.setattr(build, "BATCH_RECORDS", 50)
    advance, calls = RedisStore.advance, iter(range(10_000))

    def breaks(store: RedisStore, *arguments: Any) -> None:
        if next(calls) == 5:
            raise StoreUnavailable("gone")
        advance(store, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RedisStore, "advance", breaks)
        with pytest.raises(StoreUnavailable, match="gone"):
            job.rollout(new, wait=False)
    assert job.rollout(new, wait=False).step == "switch"
    publish(new, made_up_events(50))
    assert (job.rollout(new, wait=False).step, job.status(new).behind) == ("switch", 0)
    rebuild(new, ["topic"], "again")
    assert trends(new, "new") == trends(new, "again")
    assert sum(TrendRecord.decode(record, plan_of(new), "x").next_offset
               for record in trends(new, "new").values()) == 650  # fmt: skip
    assert records(new, "new") == records(new, "again")

    commit(Owner("new", RedisStore(client, "new", 0).stored_identity()))
    assert job.rollout(new, refresh=False).step == "done"
    # Back to a declaration without one: what it replaces goes with all that it had.
    third = settings.model_copy(
        update={"store": settings.store.model_copy(update={"namespace": "third"})}
    )
    assert job.rollout(third, wait=False).step == "switch"
    commit(Owner("third", RedisStore(client, "third", 0).stored_identity()))
    assert job.rollout(third, refresh=False).step == "done"
    assert client.keys("third:trend*") == []
    assert client.keys("new:trend*") != []
    job.dropped_old(third)
    assert client.keys("new:*") == []


def test_what_the_topic_lost_comes_from_files_or_is_refused(
    settings: Settings, old: Owner, events: list[dict[str, Any]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(missing_history, "_compacted", lambda _kafka: "compacted")
    with pytest.raises(InputError, match=r"compacted.*--topic-from TIME.*--accept-missing-history"):
        job.rollout(settings, wait=False)
    with pytest.raises(InputError, match="no roll-out to it was begun"):
        job.status(settings)
    assert records(settings, "new") == {}
    write_events(tmp_path / "all.avro", events)
    file = str(tmp_path / "all.avro")
    with pytest.raises(InputError, match="with event files give --topic-from TIME"):
        job.rollout(settings, [file], wait=False)
    with pytest.raises(InputError, match="name the files"):
        job.rollout(settings, [], 1, wait=False)


def test_what_is_not_to_be_replaced_is_refused_and_nothing_is_begun(
    settings: Settings, kafka: EmbeddedKafka, client: Any, commit: Callable[..., None]
) -> None:
    kafka.create(settings.kafka.input_topic)
    with pytest.raises(InputError, match="so there is nothing to replace"):
        job.rollout(settings, wait=False)
    commit(Owner("elsewhere", "1"))
    with pytest.raises(InputError, match="does not hold the namespace elsewhere"):
        job.rollout(settings, wait=False)
    commit(Owner("new", "1"))
    with pytest.raises(InputError, match="reads for it already"):
        job.rollout(settings, wait=False)
    commit(Owner("a", "1"), range(2))
    commit(Owner("b", "1"), range(2, 4))
    with pytest.raises(InputError, match="reads for a, b: which is to be replaced"):
        job.rollout(settings, wait=False)
    assert client.keys() == []


def test_a_namespace_of_another_declaration_is_refused(
    settings: Settings, old: Owner, client: Any
) -> None:
    RedisStore(client, "new", 0xDEF).claim()
    with pytest.raises(FingerprintMismatch, match=r"set store\.namespace to a new name"):
        job.rollout(settings, wait=False)
    with pytest.raises(InputError, match="no roll-out to it was begun"):
        job.status(settings)


def test_it_is_called_off_and_can_be_begun_again(
    settings: Settings, old: Owner, client: Any
) -> None:
    assert job.rollout(settings, wait=False).step == "switch"
    assert job.cancel(settings) == job.CalledOff("new", "old")
    assert RedisStore(client, "old", 0).shares_group_with() == ("", "")
    with pytest.raises(InputError, match="no roll-out to it was begun"):
        job.status(settings)
    assert job.rollout(settings, wait=False).step == "switch"


def test_a_record_that_another_program_wrote_is_one_line(
    settings: Settings, old: Owner, client: Any
) -> None:
    client.set("new:rollout", "{}")
    with pytest.raises(InputError, match="not what this release writes"):
        job.status(settings)


def test_the_command_line_ends_with_1_until_it_is_done(config: Path, old: Owner) -> None:
    text = config.read_text() + '[store]\nnamespace = "new"\n'
    new = config.with_name("new.toml")
    new.write_text(text)
    ran = CliRunner().invoke(cli.app, ["rollout", "-c", str(new), "--no-wait", "--json"])
    assert ran.exit_code == 1, ran.output
    assert json.loads(ran.stdout)["step"] == "switch"
    both = CliRunner().invoke(cli.app, ["rollout", "-c", str(new), "--status", "--cancel"])
    assert both.exit_code == 2
    words = CliRunner().invoke(cli.app, ["rollout", "-c", str(new), "--status"])
    assert words.exit_code == 1
    assert "in place of old: next step: switch" in words.stdout
    assert "restart each member" in words.stdout
