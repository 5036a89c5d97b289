"""The request, its receipt, and what is open where a server fails in the middle."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.dead_letter_encoder import encode_dead_letters
from stream_scorer.core.drift.followed import Actions, Scores, customer_hashes
from stream_scorer.core.drift.hour import HOUR_MS, HourSample
from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.state_codec import pack
from stream_scorer.customers import erasing, still_held
from stream_scorer.customers.tombstones import Tombstones
from stream_scorer.errors import BusUnavailable, FingerprintMismatch, InputError, StoreUnavailable
from stream_scorer.io.files.events import write_events
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.jobs import customer_forget as job
from stream_scorer.jobs import publish, replay, verify
from stream_scorer.live.consumer import open_store
from stream_scorer.past import missing_history
from stream_scorer.settings.tree import Settings

START = 1_700_000_000_000


@pytest.fixture(autouse=True)
def _unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mock cluster says nothing of members, nor of a topic's settings."""
    monkeypatch.setattr(KafkaAdmin, "members", lambda _self, _group: 0)
    monkeypatch.setattr(still_held, "_topics", lambda _settings: {})
    monkeypatch.setattr(missing_history, "_compacted", lambda _kafka: "")


@pytest.fixture
def settings(config: Path, tmp_path: Path) -> Settings:
    """Of a namespace with the records of ann and bob."""
    loaded = Settings.load(config, environment={})
    rows: list[dict[str, Any]] = [
        {"event_id": str(i), "customer_id": ("ann", "bob")[i % 2], "event_type": "purchase",
         "category_id": "soup", "occurred_at": START + i}
        for i in range(10)
    ]  # fmt: skip
    write_events(tmp_path / "events.avro", rows)
    publish.publish(loaded, [tmp_path / "events.avro"])
    replay.rebuild(loaded, ["topic"], "live")
    producer = ConfirmedProducer(loaded.kafka.sender_properties())
    for topic in (loaded.kafka.output_topic, loaded.kafka.dead_letter_topic):
        producer.partitions(topic)  # the mock cluster makes a topic that is asked for
    producer.close()
    store = loaded.store.model_copy(update={"namespace": "live"})
    return loaded.model_copy(update={"store": store})


def forget(settings: Settings, *ids: str, **options: Any) -> Any:
    return job.forget(settings, dict.fromkeys(ids), version="1", **options)


def output(settings: Settings) -> list[tuple[bytes | None, bytes | None]]:
    kafka = settings.kafka
    with TopicReader(kafka.consumer_properties(), kafka.output_topic, batch_records=99) as reader:
        return [pair for b in reader for pair in zip(b.keys, b.values, strict=True)]


def test_the_receipt_says_what_was_deleted(settings: Settings, tmp_path: Path) -> None:
    planned = job.planned(settings, {"ann": None, "eve": None})
    assert (planned.customers, planned.known, output(settings)) == (2, 1, [])
    assert "nothing was deleted" in job.planned_words(planned)[-1]
    done = forget(settings, "ann", "eve", receipt=tmp_path / "receipt.json")
    assert done.done
    ann, eve = done.customers
    assert (ann.known, ann.newest_event, ann.values) == (True, "2023-11-14T22:13:20.008Z", 3)
    assert ann.record_bytes > 36
    assert [p.topic for p in ann.positions] == [settings.kafka.input_topic]
    assert (eve.known, eve.record_bytes, eve.positions) == (False, 0, ())
    assert sorted(output(settings)) == [(b"ann", None), (b"eve", None)]
    assert json.loads((tmp_path / "receipt.json").read_text()) == done.as_json()
    text = "\n".join(job.in_words(done))
    for part in ("2 customers forgotten in namespace live", "newest event 2023", "had no vector",
                 "tombstone at", "What still holds data", "backups that you made"):  # fmt: skip
        assert part in text
    listed = job.listing(settings)
    assert list(listed.customers) == ["ann", "eve"]
    again = job.requested(["bob"], tmp_path / "receipt.json")
    (tmp_path / "list.jsonl").write_text("\n".join(job.listing_in_words(listed)))
    assert job.requested(["bob"], tmp_path / "list.jsonl") == again
    assert list(again) == ["ann", "eve", "bob"]
    assert again["bob"] is None


def test_a_repeated_request_is_harmless(settings: Settings) -> None:
    first = forget(settings, "ann").customers[0]
    second = forget(settings, "ann").customers[0]
    assert (second.known, second.forgotten_before) == (False, first.forgotten_at)
    assert second.forgotten_at >= first.forgotten_at
    assert second.positions == first.positions


def test_what_is_open_after_the_deletion_is_no_success(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: Any) -> None:
        raise BusUnavailable("Kafka is away")

    with monkeypatch.context() as patch:
        patch.setattr(Tombstones, "_produce", away)
        done = forget(settings, "ann")
    assert not done.done
    assert job.in_words(done)[-1].startswith("NOT DONE: records are deleted, but Kafka is away")
    assert done.customers[0].tombstone is None
    assert job.listing(settings).customers.keys() == {"ann"}
    assert forget(settings, "ann").done


def test_a_moment_to_come_is_refused_since_it_could_not_be_taken_back(settings: Settings) -> None:
    in_a_year_ms = time.time_ns() // 10**6 + 366 * 86_400_000
    with pytest.raises(InputError, match=r"forgotten_at.*'ann' would be left out.*that is over"):
        job.forget(settings, {"ann": in_a_year_ms}, version="1")
    assert job.listing(settings).customers == {}


def test_a_receipt_that_cannot_be_written_is_said_and_shown_all_the_same(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job, "write_file", full)
    done = forget(settings, "ann", receipt=tmp_path / "receipt.json")
    assert not done.done
    assert done.customers[0].tombstone is not None
    assert "receipt.json is not written: No space left on device" in job.in_words(done)[-1]


def test_nothing_is_deleted_where_kafka_or_the_declaration_refuses(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: Any) -> int:
        raise BusUnavailable("Kafka is away")

    with monkeypatch.context() as patch:
        patch.setattr(KafkaAdmin, "members", away)
        with pytest.raises(BusUnavailable):
            forget(settings, "ann")
    other = settings.model_copy(update={"features": settings.features[:1]})
    with pytest.raises(FingerprintMismatch):
        forget(other, "ann")
    assert job.listing(settings).customers == {}


def test_during_a_roll_out_both_namespaces_forget(settings: Settings) -> None:
    store = open_store(settings, settings.feature_space())
    store.server.client.set("other:fingerprint", f"{7:016x}")
    store.share_group_with("other", "identity")
    done = forget(settings, "ann")
    assert done.namespaces == ("live", "other")
    assert Erasures(store.server, "other", 7).listed().keys() == {"ann"}
    store.close()


def test_what_both_namespaces_had_of_a_customer_is_waited_for_and_in_the_receipt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members of the new namespace may be far ahead of the old one, which nobody fills any more."""
    store = open_store(settings, settings.feature_space())
    client, own, space = store.server.client, settings.store.namespace, settings.feature_space()
    ahead, clock_ahead_ms = 500, START + 10**12
    states = store.load(["ann"])
    (at,) = np.flatnonzero(states.arrays.source_partition >= 0)
    states.arrays.source_offset[at], states.arrays.newest_ms[0] = ahead, clock_ahead_ms
    (record,) = pack(states, space.fingerprint)
    client.set("other:c:ann", record)
    client.set("other:fingerprint", client.get(f"{own}:fingerprint"))
    store.share_group_with("other", "identity")
    needed = []

    def committed(_self: object, erased: Any, _wait: float) -> str:
        needed.append(max(erased["ann"].sources.values()))
        return ""

    monkeypatch.setattr(Tombstones, "_committed", committed)
    (ann,) = forget(settings, "ann").customers
    assert (ann.known, [p.offset for p in ann.positions], needed) == (True, [ahead], [ahead])
    assert ann.newest_event == ann.forgotten_at == moment_text(clock_ahead_ms)
    for namespace in (own, "other"):
        listed = Erasures(store.server, namespace, space.fingerprint).listed()
        assert listed == {"ann": clock_ahead_ms}
    store.close()


def test_a_redis_that_goes_away_in_the_middle_says_how_far_it_came(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Erasures.erase

    def once(self: Erasures, boundaries: Any) -> Any:
        if "bob" in boundaries:
            raise StoreUnavailable("Redis is away")
        return real(self, boundaries)

    monkeypatch.setattr(erasing, "CUSTOMERS_PER_STEP", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Erasures, "erase", once)
        with pytest.raises(StoreUnavailable, match=r"up to 2 of the 2 .* run this again"):
            forget(settings, "ann", "bob")
    assert forget(settings, "ann", "bob").done


def test_samples_for_drift_are_deleted_and_verify_says_where_they_are_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(settings, settings.feature_space())
    samples = DriftStore(store.server, settings.store.namespace)
    sample, hour = (
        HourSample.begin(1, "m", np.arange(2), 0, None),
        time.time_ns() // 10**6 // HOUR_MS,
    )
    who, at = customer_hashes([b"ann", b"bob"]), np.array([START, START])
    sample.note(Scores(who, at, at, np.zeros((2, 2), np.uint16)), Actions.none())
    text = sample.to_text()
    samples.put(hour, "m", text, 60_000_000)

    def away(*_arguments: Any) -> None:
        raise StoreUnavailable("Redis is away")

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "remove_samples", away)
        done = forget(settings, "ann")
    assert (done.done, done.drift_samples) == (False, None)
    assert job.in_words(done)[-1].startswith("NOT DONE: samples for drift are not deleted: Redis")
    assert "samples for drift in Redis" in {held.where for held in done.still_held}
    found = verify.verify(settings, 0, 1)
    assert (found.ok, found.different, found.drift_samples_of_forgotten) == (False, 0, 1)
    assert any("1 samples for drift" in line for line in verify.in_words(found))
    done = forget(settings, "ann")
    assert (done.done, done.drift_samples) == (True, 1)
    assert "samples for drift in Redis" not in {held.where for held in done.still_held}
    assert "  1 samples for drift deleted" in job.in_words(done)
    assert verify.verify(settings, 0, 1).ok
    ((_, left),) = samples.hours(hour, hour)
    assert HourSample.from_text(left, {}).scores.customer.tolist() == [int(who[1])]
    store.close()


def test_dead_letters_that_name_a_customer_are_counted(settings: Settings) -> None:
    letters = [
        DeadLetter("in", 0, i, START, Reason.UNDECODABLE, "", key, value)
        for i, (key, value) in enumerate([(b"ann", b"?"), (None, b"..bob.."), (b"joe", b"-")])
    ]  # fmt: skip
    producer = ConfirmedProducer(settings.kafka.sender_properties())
    values = encode_dead_letters(letters, START, 1000)
    producer.send(settings.kafka.dead_letter_topic, [None] * 4, [*values, None])
    producer.settle()
    producer.close()
    found = forget(settings, "ann", "bob", "eve", scan_dead_letters=True).dead_letters
    assert (found.read, found.complete, found.customers) == (4, True, {"ann": 1, "bob": 1})
