"""`verify` finds every difference between Redis and the input topic, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.features.state_codec import pack, unpack
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.jobs import doctor as doctor_job
from stream_scorer.jobs.replay import rebuild
from stream_scorer.jobs.verify import in_words, verify
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings

START = 1_700_000_000_000


@pytest.fixture
def live(config: Path, kafka: EmbeddedKafka) -> Settings:
    """A store that has read the whole topic."""
    draw = np.random.default_rng(5)
    events = [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(60):02d}",
            "event_type": "purchase", "category_id": ("soup", "bread")[draw.integers(2)],
            "occurred_at": START + int(draw.integers(10**9)),
        }
        for i in range(800)
    ]  # fmt: skip
    settings = Settings.load(config, environment={})
    publish(settings, events)
    rebuild(settings, ["topic"], "live")
    store = settings.store.model_copy(update={"namespace": "live"})
    return settings.model_copy(update={"store": store})


def publish(settings: Settings, events: list[dict[str, Any]]) -> None:
    producer = ConfirmedProducer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    keys = [e["customer_id"].encode() for e in events]
    producer.send(settings.kafka.input_topic, keys, encode_events(events))
    assert producer.settle() == []
    producer.close()


def store_of(settings: Settings) -> RedisStore:
    return open_store(settings, settings.feature_space())


def replace(settings: Settings, customer: str, record: bytes | None) -> None:
    client, key = store_of(settings)._client, f"{settings.store.namespace}:c:{customer}"
    if record is None:
        client.delete(key)
    else:
        client.set(key, record)


def record_of(settings: Settings, customer: str) -> bytes:
    (record,) = pack(store_of(settings).load([customer]), settings.feature_space().fingerprint)
    return record


def test_a_right_store_passes_whatever_is_drawn(live: Settings) -> None:
    report = verify(live, 0, seed=1)
    assert report.ok
    assert (report.checked, report.events, report.unverifiable) == (60, 800, 0)
    for seed in range(3):
        drawn = verify(live, 7, seed)
        assert (drawn.ok, drawn.checked) == (True, 7)


def test_events_that_are_not_read_yet_are_no_difference(live: Settings) -> None:
    late = {"event_id": "x", "customer_id": "c01", "event_type": "purchase", "occurred_at": START}
    publish(live, [late, {**late, "customer_id": "new"}])
    assert verify(live, 0, seed=1).ok


def test_keys_that_are_no_customer_and_customers_in_two_partitions_are_counted(
    live: Settings,
) -> None:
    before = verify(live, 0, seed=1)
    assert (before.foreign_keys, before.split_customers) == (0, 0)
    assert [f.ok for f in doctor_job._split(live)] == [True]
    event = {"event_id": "x", "customer_id": "c01", "event_type": "purchase", "occurred_at": START}
    producer = ConfirmedProducer({"bootstrap.servers": live.kafka.bootstrap_servers})
    for partition in range(4):
        producer.send(live.kafka.input_topic, [b"session 7"], encode_events([event]), partition)
    assert producer.settle() == []
    producer.close()
    elsewhere = live.store.model_copy(update={"namespace": "elsewhere"})
    rebuild(live.model_copy(update={"store": elsewhere}), ["topic"], "live")
    report = verify(live, 0, seed=1)
    assert (report.ok, report.foreign_keys, report.split_customers) == (True, 4, 1)
    words = " ".join(in_words(report))
    assert "4 events of the topic have another key than the customer id" in words
    assert "1 customers have events in two partitions" in words
    (finding,) = doctor_job._split(live)
    assert (finding.ok, finding.found) == (
        False, "1 of 60 have events in two partitions of the topic",
    )  # fmt: skip
    assert "kafka.partitioner" in str(finding.remedy)


def test_one_altered_value_is_named_with_both_values(live: Settings) -> None:
    fingerprint = live.feature_space().fingerprint
    states = unpack(["c07"], [record_of(live, "c07")], fingerprint)
    true = float(states.arrays.sum_value[0])
    states.arrays.sum_value[0] += np.float32(0.5)
    replace(live, "c07", pack(states, fingerprint)[0])
    report = verify(live, 0, seed=1)
    assert (report.ok, report.different) == (False, 1)
    (row,) = report.differences
    assert (row.customer_id, row.what.split("[")[0]) == ("c07", "bought@2d")
    assert isinstance(row.stored, float)
    assert isinstance(row.recomputed, float)
    assert row.stored / row.recomputed == pytest.approx((true + 0.5) / true)
    assert in_words(report)[0].startswith("c07: bought@2d[category_id=")


def test_a_lost_event_and_a_lost_customer_are_found(live: Settings) -> None:
    fingerprint = live.feature_space().fingerprint
    states = unpack(["c03"], [record_of(live, "c03")], fingerprint)
    states.arrays.source_offset[0] -= 1  # an older copy, though the watermark has passed
    states.arrays.sum_value[:] *= np.float32(0.9)
    replace(live, "c03", pack(states, fingerprint)[0])
    replace(live, "c05", None)
    report = verify(live, 0, seed=1)
    assert (report.different, report.absent) == (2, 1)
    named = {(d.customer_id, d.what) for d in report.differences}
    assert {("c03", "offsets"), ("c05", "record")} <= named


def test_a_store_of_other_events_can_not_be_checked(config: Path, kafka: EmbeddedKafka) -> None:
    settings = Settings.load(config, environment={})
    publish(settings, [])
    kafka.create(settings.kafka.input_topic)
    report = verify(settings, 10, seed=1)
    assert (report.ok, report.checked) == (False, 0)


def test_a_customer_who_was_forgotten_and_came_back_is_no_difference(live: Settings) -> None:
    """Whether Redis had removed the record by then, or not."""
    store = live.store.model_copy(update={"time_to_live_seconds": 30 * 86_400})
    mortal = live.model_copy(update={"store": store})
    rebuilt: dict[str, list[bytes]] = {}
    events = [
        {"event_id": "x", "customer_id": c, "event_type": "purchase", "category_id": "soup",
         "occurred_at": START + 10**9 + 31 * 86_400_000}
        for c in ("c01", "c02")
    ]  # fmt: skip
    publish(mortal, events)
    replace(mortal, "c01", None)  # as Redis does
    for name in ("live", "again"):
        named = mortal.model_copy(
            update={"store": mortal.store.model_copy(update={"namespace": "other"})}
        )
        rebuild(named, ["topic"], name)
        again = mortal.model_copy(
            update={"store": mortal.store.model_copy(update={"namespace": name})}
        )
        report = verify(again, 0, seed=1)
        assert (report.ok, report.checked, report.differences) == (True, 60, ())
        rebuilt[name] = [record_of(again, c) for c in ("c01", "c02")]
    assert rebuilt["live"] == rebuilt["again"]
    # Without the rule the customers' older events would still count.
    assert not verify(live, 0, seed=1).ok
