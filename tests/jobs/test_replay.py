"""`replay` without cut-offs: propensities, and a namespace built anew, from files and a topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.features import fold
from stream_scorer.core.features.state_codec import pack
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.errors import ConfigError, EventFileError, Halt, InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.propensities import FILE, MANIFEST
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.jobs import replay as job
from stream_scorer.jobs.replay import Window, propensities, rebuild
from stream_scorer.live.consumer import open_store
from stream_scorer.past.namespaces import _begin
from stream_scorer.settings.redis import RedisSettings
from stream_scorer.settings.tree import Settings

START = 1_700_000_000_000


def made_up_events(count: int = 900, seed: int = 3) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(40)}", "event_type": "purchase",
            "category_id": ("soup", "bread", "milk", "tea")[draw.integers(4)],
            "occurred_at": START + int(draw.integers(10**9)),
        }
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


@pytest.fixture
def events(tmp_path: Path) -> list[Path]:
    """A directory of two files."""
    made = made_up_events()
    folder = tmp_path / "events"
    folder.mkdir()
    write_events(folder / "1.avro", made[:500])
    write_events(folder / "2.avro", made[500:])
    return [folder]


def result(out: Path) -> tuple[bytes, bytes]:
    return (out / FILE).read_bytes(), (out / MANIFEST).read_bytes()


def records_of(settings: Settings) -> dict[str, bytes]:
    space = settings.feature_space()
    found: dict[str, bytes] = {}
    for states in open_store(settings, space).scan():
        found |= dict(zip(states.customer_ids, pack(states, space.fingerprint), strict=True))
    return found


def named(settings: Settings, namespace: str) -> Settings:
    store = settings.store.model_copy(update={"namespace": namespace})
    return settings.model_copy(update={"store": store})


@pytest.mark.parametrize("mode", ["all", "top_k"])
def test_batch_size_and_threads_change_no_byte(
    settings: Settings,
    events: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    publish = settings.publish.model_copy(update={"mode": mode, "top_k": 2})
    settings = settings.model_copy(update={"publish": publish})
    found = set()
    monkeypatch.setattr(fold, "EVENTS_PER_WORKER", 20)
    for run, batch_records in enumerate((50_000, 50_000, 900, 333, 10)):
        out = tmp_path / f"out-{run}"
        threads = (1, 2, 4)[run % 3]
        report = propensities(settings, events, out, batch_records=batch_records, threads=threads)
        assert (report.counts.events, report.customers) == (900, 40)
        found.add(result(out))
    assert len(found) == 1


def test_each_customer_has_one_row_as_of_the_newest_event(
    settings: Settings, events: list[Path], tmp_path: Path
) -> None:
    propensities(settings, events, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / FILE).to_pylist()
    assert [r["customer_id"] for r in rows] == sorted({e["customer_id"] for e in made_up_events()})
    newest: dict[str, int] = {}
    for e in made_up_events():
        newest[e["customer_id"]] = max(e["occurred_at"], newest.get(e["customer_id"], 0))
    as_of = {r["customer_id"]: round(r["as_of"].timestamp() * 1000) for r in rows}
    assert as_of == newest
    assert all(len(r["probabilities"]) == 4 for r in rows)


def test_what_is_refused_is_listed_with_file_and_position(
    settings: Settings, tmp_path: Path
) -> None:
    lines = [json.dumps(e) for e in made_up_events(20)]
    lines[7], lines[11] = "{not json", json.dumps({**made_up_events()[0], "event_type": "sneeze"})
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines))
    report = propensities(settings, [file], tmp_path / "out")
    assert report.dead_letters == {"undecodable": 1, "unknown_event_type": 1}
    listed = [(r.source, r.position, r.reason) for r in report.refused]
    assert listed == [(str(file), 7, "undecodable"), (str(file), 11, "unknown_event_type")]


def test_window_of_files_is_by_the_time_of_events(
    settings: Settings, events: list[Path], tmp_path: Path
) -> None:
    window = Window(START + 10**8, START + 5 * 10**8)
    inside = [e for e in made_up_events() if START + 10**8 <= e["occurred_at"] < START + 5 * 10**8]
    assert propensities(settings, events, tmp_path / "o", window).counts.events == len(inside)
    with pytest.raises(EventFileError, match="no event"):
        propensities(settings, events, tmp_path / "p", Window(START + 10**10))
    assert not (tmp_path / "p").exists()


def test_the_live_namespace_is_refused(settings: Settings, events: list[Path]) -> None:
    with pytest.raises(InputError, match="live consumer"):
        rebuild(settings, events, settings.store.namespace)
    with pytest.raises(InputError, match="--into"):
        rebuild(settings, events, "two words")
    assert records_of(settings) == {}


def filled_topic(settings: Settings, kafka: EmbeddedKafka, *junk: bytes) -> str:
    """The input topic, with made-up events keyed by customer, and what is none."""
    topic, made = settings.kafka.input_topic, made_up_events()
    producer = ConfirmedProducer({"bootstrap.servers": kafka.bootstrap_servers})
    keys = [e["customer_id"].encode() for e in made] + [b"x"] * len(junk)
    producer.send(topic, keys, [*encode_events(made), *junk])
    assert producer.settle() == []
    producer.close()
    return topic


def test_a_namespace_is_built_from_the_topic_with_its_watermarks(
    settings: Settings, kafka: EmbeddedKafka
) -> None:
    topic = filled_topic(settings, kafka, b"junk")
    report = rebuild(settings, ["topic"], "version-2")
    assert (report.counts.applied, report.dead_letters) == (900, {"undecodable": 1})
    assert records_of(settings) == {}
    built = records_of(named(settings, "version-2"))
    assert len(built) == 40
    store = open_store(named(settings, "version-2"), settings.feature_space())
    marks = store.watermarks([(topic, p) for p in range(4)])
    assert {str(p): offset for (_, p), offset in marks.items()} == report.source_offsets[topic]
    assert sum(marks.values()) == 901
    again = rebuild(settings, ["topic"], "version-2")
    assert (again.counts.applied, again.counts.duplicates) == (0, 900)
    assert records_of(named(settings, "version-2")) == built


def test_a_namespace_of_a_topic_that_was_created_again_is_not_built_further(
    settings: Settings, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new topic's events would be skipped, because the old one's had their offsets."""
    topic = filled_topic(settings, kafka)
    ids = iter(["first", "first", "second"])
    monkeypatch.setattr(KafkaAdmin, "identity", lambda _admin, _topic: next(ids))
    for _ in range(2):
        rebuild(settings, ["topic"], "version-2")
    with pytest.raises(Halt, match=f"{topic}: the topic was deleted and created again.*new names"):
        rebuild(settings, ["topic"], "version-2")


def test_a_replay_that_would_leave_a_hole_in_a_namespace_is_refused(
    settings: Settings, kafka: EmbeddedKafka
) -> None:
    """The namespace was built up to an offset, and the topic no longer begins there."""
    topic = filled_topic(settings, kafka)
    rebuild(settings, ["topic"], "version-2")
    store = open_store(named(settings, "version-2"), settings.feature_space())
    marks = store.watermarks([(topic, p) for p in range(4)])
    for (name, partition), end in marks.items():
        store._client.set(f"version-2:watermark:{name}:{partition}", end - 5)
    with pytest.raises(
        InputError, match=r"--into: 'version-2'.*would lack.*from.*to.*new namespace"
    ):
        _begin(store, "version-2", marks)


def test_a_namespace_whose_writes_are_lost_meanwhile_is_built_by_the_same_command(
    settings: Settings, events: list[Path], redis_server: EmbeddedRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(job, "REDIS_BATCH_RECORDS", 100)
    whole = rebuild(settings, events, "whole")
    advance, calls = RedisStore.advance, iter(range(100))

    def losing(store: RedisStore, next_offsets: dict[TopicPartition, int]) -> None:
        advance(store, next_offsets)
        if next(calls) == 4:
            with redis.Redis(port=redis_server.port) as client:
                client.delete(*client.scan_iter("version-2:*"))

    monkeypatch.setattr(RedisStore, "advance", losing)
    with pytest.raises(Halt, match="while namespace version-2 was built; run the same command"):
        rebuild(settings, events, "version-2")
    assert rebuild(settings, events, "version-2").counts.applied == whole.counts.applied
    built = (records_of(named(settings, name)) for name in ("version-2", "whole"))
    assert next(built) == next(built)


def test_a_server_that_evicts_vectors_is_refused_and_evictions_end_a_replay(
    settings: Settings, events: list[Path], redis_server: EmbeddedRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with redis.Redis(port=redis_server.port) as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        with pytest.raises(ConfigError, match=r"redis\.allow_eviction.*volatile-lru.*noeviction"):
            rebuild(settings, events, "version-2")
        assert client.dbsize() == 0
        options = {**settings.redis.model_dump(), "allow_eviction": True}
        allowing = settings.model_copy(update={"redis": RedisSettings(**options)})
        assert rebuild(allowing, events, "version-2").counts.applied == 900
    evicted = iter([0, 5])  # as INFO counts them at the start and at the end
    monkeypatch.setattr(RedisServer, "info", lambda *_: {"evicted_keys": next(evicted)})
    with pytest.raises(Halt, match=r"evicted 5 keys.*verify --sample 0"):
        rebuild(settings, events, "version-3")


def test_a_directory_is_one_source_and_new_files_come_last(
    settings: Settings, tmp_path: Path
) -> None:
    made = made_up_events()
    folder, whole = tmp_path / "days", tmp_path / "whole.avro"
    folder.mkdir()
    for day in range(9):
        write_events(folder / f"{day}.avro", made[100 * day : 100 * day + 100])
    write_events(whole, made)
    for source, namespace in ((folder, "days"), (whole, "whole")):
        assert rebuild(settings, [source], namespace).counts.applied == 900
    days, one = (records_of(named(settings, n)) for n in ("days", "whole"))
    assert {len(r) for r in days.values()} == {len(r) for r in one.values()}  # one source each
    again = rebuild(settings, [folder], "days")
    assert (again.counts.applied, again.counts.duplicates) == (0, 900)
    write_events(folder / "9.avro", made_up_events(50, seed=4))
    more = rebuild(settings, [folder], "days")
    assert (more.counts.applied, more.counts.duplicates) == (50, 900)
    write_events(folder / "3b.avro", made_up_events(10, seed=5))
    with pytest.raises(InputError, match=r"4\.avro.*was added, removed or changed"):
        rebuild(settings, [folder], "days")
    with pytest.raises(InputError, match="given twice"):
        rebuild(settings, [folder, folder / "1.avro"], "days")


def test_vectors_from_a_directory_name_it_and_dead_letters_name_the_file(
    settings: Settings, events: list[Path], tmp_path: Path
) -> None:
    (events[0] / "3.jsonl").write_text("{not json\n")
    report = propensities(settings, events, tmp_path / "out", batch_records=700)
    assert [(r.source, r.position) for r in report.refused] == [(str(events[0] / "3.jsonl"), 0)]
    rows = pq.read_table(tmp_path / "out" / FILE).to_pylist()
    assert {r["source_topic"] for r in rows} == {str(events[0])}
    assert max(r["source_offset"] for r in rows) == 899
