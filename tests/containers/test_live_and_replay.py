"""What a live consumer left behind, against a replay of the log that it read, on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
from harness.member import Member, wait_until
from harness.rig import Rig
from harness.stream import SPACE, Stream

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.features.state_codec import pack, unpack
from stream_scorer.core.freshness import newest_rows
from stream_scorer.io.files.propensities import FILE
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.containers

MakeRig = Callable[..., Rig]


def call(member: Member, *arguments: str, status: int = 0) -> Any:
    """The report of a verb with the member's config."""
    command = [sys.executable, "-m", "stream_scorer", *arguments, "-c", str(member.config)]
    ran = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == status, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def records_of(settings: Settings) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for states in open_store(settings, SPACE).scan():
        found |= dict(zip(states.customer_ids, pack(states, SPACE.fingerprint), strict=True))
    return found


def newest_published(rig: Rig) -> dict[str, tuple[int, np.ndarray]]:
    """For each customer the offset and probabilities of its newest record."""
    read = decode_propensities([m.value() or b"" for m in rig.kafka.read_topic(rig.output)])
    assert read.probabilities is not None
    rows = newest_rows(read.customer_ids, read.partition, read.offset, read.as_of_ms)
    return {c: (int(read.offset[row]), read.probabilities[row]) for c, row in rows.items()}


def named(settings: Settings, namespace: str) -> Settings:
    store = settings.store.model_copy(update={"namespace": namespace})
    return settings.model_copy(update={"store": store})


def test_replay_of_the_log_gives_the_vectors_and_propensities_that_were_published(
    make_rig: MakeRig, tmp_path: Path
) -> None:
    rig = make_rig()
    first, _ = rig.start(2)
    rig.publish(3000)
    rig.caught_up()
    committed = rig.committed()
    built = call(first, "replay", "topic", "--into", "again")
    out = tmp_path / "out"
    report = call(first, "replay", "topic", "--out", str(out))
    assert rig.committed() == committed
    assert report["events"] == built["applied"] == rig.stream.made - rig.stream.bad
    assert sum(report["dead_letters"].values()) == rig.stream.bad
    assert all(r["source"] == rig.input for r in report["refused"])
    rig.stop()

    settings = Settings.load(first.config, environment={})
    live = records_of(settings)
    assert live == records_of(named(settings, "again"))
    assert len(live) == report["customers"]

    published = newest_published(rig)
    rows = {r["customer_id"]: r for r in pq.read_table(out / FILE).to_pylist()}
    assert rows.keys() == published.keys()
    for customer, (offset, probabilities) in published.items():
        row = rows[customer]
        assert row["source_offset"] == offset
        # The vectors are the same bits; a matrix product's last bits go with the batch.
        np.testing.assert_allclose(row["probabilities"], probabilities, rtol=0, atol=2e-6)


def test_the_window_of_a_topic_is_by_record_time(make_rig: MakeRig, tmp_path: Path) -> None:
    rig = make_rig(partitions=3)
    member = rig.member()
    rig.publish(200)
    stamps = [m.timestamp()[1] for m in rig.kafka.read_topic(rig.input)]
    after = np.datetime64(max(stamps) + 1, "ms")
    between = f"{after}Z"
    while max(m.timestamp()[1] for m in rig.kafka.read_topic(rig.input)) <= max(stamps):
        rig.publish(10)
    total = len(rig.kafka.read_topic(rig.input))
    early = call(member, "replay", "topic", "--out", str(tmp_path / "a"), "--to", between)
    late = call(member, "replay", "topic", "--out", str(tmp_path / "b"), "--from", between)
    assert early["records"] + late["records"] == total
    assert early["records"] >= 200
    assert late["records"] > 0


def test_verify_finds_the_one_record_that_was_altered(make_rig: MakeRig) -> None:
    rig = make_rig()
    (member,) = rig.start()
    rig.publish(2000)
    rig.caught_up()
    report = call(member, "verify", "--sample", "0")
    assert report["ok"]
    assert report["checked"] == len(rig.stored())
    assert report["unverifiable"] == report["absent"] == 0
    sampled = call(member, "verify", "--sample", "20", "--seed", "4")
    assert (sampled["ok"], sampled["checked"]) == (True, 20)
    rig.stop()

    key = f"{rig.name}:c:customer-0003"
    with redis.Redis.from_url(rig.redis_url) as client:
        states = unpack(["customer-0003"], [client.get(key)], SPACE.fingerprint)
        states.arrays.sum_value[2] += np.float32(1)
        client.set(key, pack(states, SPACE.fingerprint)[0])
    report = call(member, "verify", "--sample", "0", status=1)
    assert report["different"] == 1
    column = SPACE.column_name(int(states.arrays.sum_column[2]))
    (row,) = report["differences"]
    assert (row["customer_id"], row["what"]) == ("customer-0003", column)
    assert row["stored"] > row["recomputed"]


def test_run_goes_on_from_a_rebuilt_namespace_without_a_gap(make_rig: MakeRig) -> None:
    """The new namespace is built while the old consumer serves; the new one takes its place."""
    rig = make_rig()
    (old,) = rig.start()
    rig.publish(1500)
    rig.feed(300)
    next_one = f"{rig.name}-2"
    call(old, "replay", "topic", "--into", next_one)
    rig.publish(500)
    refused = subprocess.run(
        [sys.executable, "-m", "stream_scorer", "replay", "topic", "--into", rig.name, "-c",
         str(old.config)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "live consumer" in refused.stderr
    rig.stop()
    rig.members.clear()
    new = rig.member(store={"namespace": next_one}).start()
    new.reading()
    rig.publish(500)
    rig.stop_feeding()
    # `rig.caught_up` looks at the namespace of the old consumer, too.
    wait_until("all is committed", lambda: rig.committed() == rig.kafka.end_offsets(rig.input), 90)
    report = call(new, "verify", "--sample", "0")
    assert report["ok"], report["differences"]
    assert report["unverifiable"] == 0
    rig.stop()
    lifetime: dict[tuple[str, str], float] = {}
    states = next(open_store(named(Settings.load(new.config, environment={}), next_one), SPACE)
                  .scan(100_000))  # fmt: skip
    assert isinstance(rig.stream, Stream)
    block = SPACE.blocks[0]
    rows = np.repeat(np.arange(len(states)), np.diff(states.arrays.sum_at))
    for row, column, value in zip(
        rows.tolist(), states.arrays.sum_column.tolist(), states.arrays.sum_value.tolist(),
        strict=True,
    ):  # fmt: skip
        if column < block.stop:
            category = SPACE.vocabularies["category_id"][column]
            lifetime[states.customer_ids[row], category] = value
    assert lifetime == dict(rig.stream.lifetime)
