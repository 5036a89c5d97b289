"""`verify` finds every difference between Redis and the input topic, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.checks.redis import split_customers_findings
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.refused import Refused
from stream_scorer.core.features import fold
from stream_scorer.core.features.state_codec import pack, unpack
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.jobs.replay import rebuild
from stream_scorer.jobs.verify import in_words, verify
from stream_scorer.live.consumer import open_store
from stream_scorer.past.sources import open_past, valid_batches
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
    assert [f.ok for f in split_customers_findings(live)] == [True]
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
    (finding,) = split_customers_findings(live)
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


@pytest.fixture
def files_first(config: Path, kafka: EmbeddedKafka, tmp_path: Path) -> tuple[Settings, Path]:
    """A namespace of event files up to a moment, and of the topic from then on."""
    settings = Settings.load(config, environment={})
    folder = tmp_path / "events"
    folder.mkdir()
    events = [
        {
            "event_id": str(i), "customer_id": f"c{i % 30:02d}", "event_type": "purchase",
            "category_id": ("soup", "bread")[i % 2], "occurred_at": START + i * 1_000_000,
        }
        for i in range(600)
    ]  # fmt: skip
    for number in range(2):
        lines = [json.dumps(e) for e in events[number * 150 : (number + 1) * 150]]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    # The topic has the newest events of the files as well: its log overlaps with them.
    publish(settings, events[200:300])
    middle = read_until(settings)
    publish(settings, events[300:])
    rebuild(settings, [folder], "live")
    store = settings.store.model_copy(update={"namespace": "live"})
    named = settings.model_copy(update={"store": store})
    store_of(named).begin(middle)
    consume(named)
    return named, folder


def read_until(settings: Settings) -> dict[tuple[str, int], int]:
    """The ends of the topic's partitions now."""
    with open_past(settings, ["topic"], batch_records=100, missing_history="ignore") as past:
        return {tp: end for tp, (_, end) in past.ranges.items()}


def consume(settings: Settings) -> None:
    """What `run` does: fold the topic from the watermarks on, and move them."""
    space, store = settings.feature_space(), store_of(settings)
    with open_past(settings, ["topic"], batch_records=100, missing_history="ignore") as past:
        ends = {tp: end for tp, (_, end) in past.ranges.items()}
        marks = store.watermarks(list(ends))
        for batch in valid_batches(settings, past, Refused()):
            of = [marks[tp] for tp in batch.events.partitions]
            beyond = batch.events.offsets >= np.array(of)[batch.events.partition_index]
            events = batch.events.take(np.flatnonzero(beyond))
            customer, ids = events.customer_id.intern()
            states = store.load(ids)
            applied = fold.fold_events(states, events, customer, space, memory=settings.memory())
            assert not len(store.save(applied.states, np.flatnonzero(applied.changed)))
        store.advance(ends)


def test_a_namespace_of_files_and_the_topic_is_compared_with_both(
    files_first: tuple[Settings, Path],
) -> None:
    settings, folder = files_first
    report = verify(settings, 0, 1, [folder])
    assert report.differences == ()
    assert (report.ok, report.checked, report.unverifiable) == (True, 30, 0)
    # Those of the topic that came before it was read into the namespace are in the files already.
    assert report.events == 600


def test_files_that_are_not_given_make_their_customers_unverifiable(
    files_first: tuple[Settings, Path],
) -> None:
    settings, _ = files_first
    report = verify(settings, 0, 1)
    assert (report.ok, report.checked, report.unverifiable) == (False, 0, 30)
    assert "name the event files that were replayed" in in_words(report)[-1]


def test_an_event_of_the_files_that_is_lost_is_found(files_first: tuple[Settings, Path]) -> None:
    settings, folder = files_first
    replace(settings, "c07", None)
    (folder / "1.jsonl").write_text(
        (folder / "1.jsonl").read_text()
        + "\n"
        + json.dumps(
            {"event_id": "x", "customer_id": "c03", "event_type": "purchase", "occurred_at": START}
        )
    )
    report = verify(settings, 0, 1, [folder])
    assert not report.ok
    assert {d.customer_id for d in report.differences} == {"c03", "c07"}
    assert report.absent == 1


def test_a_topic_that_was_read_from_its_middle_on_is_compared_from_there(
    config: Path, kafka: EmbeddedKafka
) -> None:
    settings = Settings.load(config, environment={})
    event = {"event_type": "purchase", "category_id": "soup", "occurred_at": START}
    publish(settings, [{**event, "event_id": str(i), "customer_id": "ann"} for i in range(10)])
    store_of(settings).begin(read_until(settings))
    publish(settings, [{**event, "event_id": f"b{i}", "customer_id": "ann"} for i in range(5)])
    consume(settings)
    report = verify(settings, 0, 1)
    assert (report.ok, report.checked, report.events) == (True, 1, 5)


def test_a_window_without_files_is_refused(config: Path) -> None:
    done = CliRunner().invoke(cli.app, ["verify", "-c", str(config), "--to", "2026-01-01T00:00Z"])
    assert done.exit_code == 2
    assert "--to: '2026-01-01T00:00Z': is the window of event files" in done.output
