"""`export` on a real Redis: in one run or several it is the same snapshot, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.customer_sample import CustomerSample
from stream_scorer.core.features import fold
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.core.labels.labels import concatenate_rows
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import SnapshotError, StoreUnavailable
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.jobs import export as job
from stream_scorer.live.consumer import open_store
from stream_scorer.settings.tree import Settings

CUSTOMERS = 3000
SHARD = 400
START = 1_700_000_000_000
CONFIG = """
[redis]
url = "{url}"
[vocabularies]
category_id = ["soup", "bread", "milk"]
[[features]]
name = "purchases"
by = ["category_id"]
half_lives = ["2d", "30d"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis("--appendonly", "yes") as embedded:
        yield embedded


@pytest.fixture
def settings(tmp_path: Path, server: EmbeddedRedis, make_events: Any) -> Settings:
    """A config whose store holds `CUSTOMERS` customers, fed by two partitions."""
    config = tmp_path / "stream_scorer.toml"
    config.write_text(CONFIG.format(url=server.url))
    settings = Settings.load(config, environment={})
    store = open_store(settings, settings.feature_space())
    store._client.flushall()
    store.claim()
    topic = settings.kafka.input_topic
    draw = np.random.default_rng(0)
    events = [
        {"customer": f"zoë {i}", "category": ("soup", "bread", "milk")[draw.integers(3)],
         "at": START + int(draw.integers(10**9)), "partition": i % 2, "offset": i}
        for i in range(CUSTOMERS)
    ]  # fmt: skip
    batch = make_events(events, topic)
    customer = np.arange(CUSTOMERS, dtype=np.int32)
    ids = [str(e["customer"]) for e in events]
    states = fold.fold_events(empty_states(ids), batch, customer, settings.feature_space()).states
    store.save(states, np.arange(CUSTOMERS))
    store.begin({(topic, 0): 2000, (topic, 1): 2001})
    return settings


class FailingStore(RedisStore):
    """Redis that does not answer after so many pages."""

    pages_left = 0

    def load(self, customer_ids: list[str]) -> Any:
        FailingStore.pages_left -= 1
        if FailingStore.pages_left < 0:
            raise StoreUnavailable("Redis does not answer")
        return super().load(customer_ids)

    def customer_pages(self, cursor: int, batch_customers: int = 1000) -> Iterator[Any]:
        for page in super().customer_pages(cursor, batch_customers):
            yield page
            FailingStore.pages_left -= 1
            if FailingStore.pages_left < 0:
                raise StoreUnavailable("Redis does not answer")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> type[FailingStore]:
    def opened(settings: Settings, space: Any) -> RedisStore:
        store = open_store(settings, space)
        store.__class__ = FailingStore
        return store

    monkeypatch.setattr(job, "open_store", opened)
    monkeypatch.setattr(job, "PAGE", 100)
    monkeypatch.setattr(job, "THREADS", 1)
    return FailingStore


def exported(settings: Settings, out: Path, as_of_ms: int | None = None) -> job.Exported:
    return job.export(settings, out, as_of_ms, rows_per_shard=SHARD)


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def unfinished(out: Path) -> Path:
    return out.parent / f".{out.name}.unfinished"


def test_every_customer_is_there_once_with_its_vector(settings: Settings, tmp_path: Path) -> None:
    report = exported(settings, tmp_path / "s")
    assert report.rows == CUSTOMERS
    assert report.shards > 5
    snapshot = Snapshot.open(tmp_path / "s", settings.feature_space().fingerprint)
    rows = concatenate_rows(list(snapshot.shards()))
    assert sorted(rows.customer_ids) == sorted(f"zoë {i}" for i in range(CUSTOMERS))
    states = open_store(settings, settings.feature_space()).load(rows.customer_ids)
    assert rows.as_of_ms.tolist() == (states.arrays.newest_ms + 1).tolist()
    assert rows.matrix.nnz == 2 * CUSTOMERS
    assert snapshot.manifest["as_of_ms"] == [rows.as_of_ms.min(), rows.as_of_ms.max()]
    assert not unfinished(tmp_path / "s").exists()


def test_the_manifest_says_which_events_are_in(settings: Settings, tmp_path: Path) -> None:
    exported(settings, tmp_path / "s")
    info = Snapshot.open(tmp_path / "s").info
    assert info.source_offsets == {"customer-events": {"0": 2000, "1": 2001}}
    assert info.source_offsets_end == {"customer-events": {"0": 2999, "1": 3000}}


def test_two_exports_of_one_store_are_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    """Though threads write the shards and SCAN's order is its own."""
    for name in ("one", "two"):
        exported(settings, tmp_path / name, START + 10**9)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_customers_who_are_forgotten_by_then_are_left_out_and_counted(
    settings: Settings, tmp_path: Path
) -> None:
    lifetime = settings.store.model_copy(update={"time_to_live_seconds": 600_000})
    settings = settings.model_copy(update={"store": lifetime})
    report = exported(settings, tmp_path / "s", START + 10**9)
    assert 0 < report.forgotten < CUSTOMERS
    assert (report.rows + report.forgotten, report.later) == (CUSTOMERS, 0)
    everybody = exported(settings, tmp_path / "each as of its newest event", None)
    assert (everybody.rows, everybody.forgotten) == (CUSTOMERS, 0)


def test_customers_with_later_events_are_left_out_and_counted(
    settings: Settings, tmp_path: Path
) -> None:
    report = exported(settings, tmp_path / "s", START + 5 * 10**8)
    assert 0 < report.later < CUSTOMERS
    assert report.rows + report.later == CUSTOMERS
    assert Snapshot.open(tmp_path / "s").manifest["as_of_ms"] == [START + 5 * 10**8]


@pytest.mark.parametrize("pages", [0, 5, 28, 33, 47, 61], ids=lambda n: f"after {n} pages")
def test_an_interrupted_export_goes_on(
    pages: int, settings: Settings, tmp_path: Path, failing: type[FailingStore]
) -> None:
    """Wherever it stopped, in the listing or among the shards."""
    failing.pages_left = 10**9
    exported(settings, tmp_path / "whole")
    failing.pages_left = pages
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    failing.pages_left = 10**9
    report = exported(settings, tmp_path / "s")
    assert files(tmp_path / "s") == files(tmp_path / "whole")
    assert report.shards_before < report.shards
    read = 10**9 - failing.pages_left
    if pages > 40:  # the listing took some 30
        assert report.shards_before > 0
        assert read < 30


def test_a_killed_export_goes_on(settings: Settings, tmp_path: Path) -> None:
    """SIGKILL in the midst of the seventh page of records."""
    program = f"""
import os, signal
from pathlib import Path
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.jobs import export
from stream_scorer.settings.tree import Settings
load, pages = RedisStore.load, []
def dying(self, ids):
    pages.append(ids)
    if len(pages) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return load(self, ids)
RedisStore.load, export.THREADS = dying, 1
settings = Settings.load(Path({str(tmp_path / "stream_scorer.toml")!r}), environment={{}})
export.export(settings, Path({str(tmp_path / "s")!r}), None, rows_per_shard={SHARD})
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "s").exists()
    report = exported(settings, tmp_path / "s")
    assert report.shards_before == 6
    exported(settings, tmp_path / "whole")
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_a_shard_that_was_spoilt_meanwhile_is_written_again(
    settings: Settings, tmp_path: Path, failing: type[FailingStore]
) -> None:
    failing.pages_left = 60
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    shard = next((unfinished(tmp_path / "s") / "snapshot").glob("part-*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with (unfinished(tmp_path / "s") / "shards.jsonl").open("a") as journal:
        journal.write('{"number": 3, "sha')
    failing.pages_left = 10**9
    exported(settings, tmp_path / "s")
    assert Snapshot.open(tmp_path / "s").rows == CUSTOMERS


def test_a_customer_forgotten_meanwhile_is_left_out(
    settings: Settings, tmp_path: Path, failing: type[FailingStore]
) -> None:
    failing.pages_left = 33
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    client = open_store(settings, settings.feature_space())._client
    for i in range(CUSTOMERS):
        client.delete(f"{settings.store.namespace}:c:zoë {i}")
    failing.pages_left = 10**9
    report = exported(settings, tmp_path / "s")
    assert report.rows == len(concatenate_rows(list(Snapshot.open(tmp_path / "s").shards())))
    assert report.rows <= SHARD


def test_a_restarted_server_is_listed_from_the_start(
    settings: Settings, tmp_path: Path, server: EmbeddedRedis, failing: type[FailingStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its cursors lead elsewhere: going on from an old one would miss customers."""
    monkeypatch.setattr(job, "CustomerLists", partial(job.CustomerLists, ids_per_flush=500))  # type: ignore[attr-defined]
    failing.pages_left = 15
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    listing = json.loads((unfinished(tmp_path / "s") / "lists" / "listing.json").read_bytes())
    assert listing["cursor"] > 0
    server.kill()
    server.start()
    failing.pages_left = 10**9
    assert exported(settings, tmp_path / "s").rows == CUSTOMERS


def test_without_the_servers_id_an_export_is_listed_from_the_start(
    settings: Settings, tmp_path: Path, server: EmbeddedRedis, failing: type[FailingStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whether it is the same server as before can't be asked."""
    monkeypatch.setattr(RedisStore, "server_run", lambda _: "")
    monkeypatch.setattr(job, "CustomerLists", partial(job.CustomerLists, ids_per_flush=500))  # type: ignore[attr-defined]
    failing.pages_left = 15
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    server.kill()
    server.start()
    failing.pages_left = 10**9
    assert exported(settings, tmp_path / "s").rows == CUSTOMERS


def test_a_store_that_goes_back_while_it_is_read_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"{settings.store.namespace}:watermark:{settings.kafka.input_topic}:1"
    load = RedisStore.load

    def going_back(store: RedisStore, ids: list[str]) -> Any:
        store._client.set(mark, 1500)
        return load(store, ids)

    monkeypatch.setattr(RedisStore, "load", going_back)
    with pytest.raises(SnapshotError, match=r"up to offset 2001, and now it has it up to 1500"):
        exported(settings, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_an_export_can_not_go_on_with_other_settings(
    settings: Settings, tmp_path: Path, failing: type[FailingStore]
) -> None:
    failing.pages_left = 45
    with pytest.raises(StoreUnavailable, match="the same command goes on"):
        exported(settings, tmp_path / "s")
    with pytest.raises(SnapshotError, match=r"as_of_ms None, and this one has 17.*or delete"):
        exported(settings, tmp_path / "s", START)
    other = settings.model_copy(
        update={"store": settings.store.model_copy(update={"namespace": "other"})}
    )
    shorter = settings.model_copy(
        update={"store": settings.store.model_copy(update={"time_to_live_seconds": 60})}
    )
    with pytest.raises(SnapshotError, match=r"time_to_live_seconds \d+, and this one has 60"):
        exported(shorter, tmp_path / "s")
    ignoring = settings.model_copy(
        update={"events": settings.events.model_copy(update={"ignored_customer_ids": ("guest",)})}
    )
    with pytest.raises(SnapshotError, match=r"ignored_customer_ids \w+, and this one has \w+"):
        exported(ignoring, tmp_path / "s")
    with pytest.raises(SnapshotError, match=r"namespace .*, and this one has other"):
        exported(other, tmp_path / "s")


def test_a_store_with_less_than_before_is_refused(
    settings: Settings, tmp_path: Path, failing: type[FailingStore]
) -> None:
    failing.pages_left = 45
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    mark = f"{settings.store.namespace}:watermark:{settings.kafka.input_topic}:1"
    open_store(settings, settings.feature_space())._client.set(mark, 1500)
    failing.pages_left = 10**9
    with pytest.raises(
        SnapshotError, match=r"up to offset 2001, and now it has it up to 1500.*delete"
    ):
        exported(settings, tmp_path / "s")


def test_two_exports_to_one_directory_are_refused(
    settings: Settings, tmp_path: Path, failing: type[FailingStore]
) -> None:
    failing.pages_left = 45
    with pytest.raises(StoreUnavailable):
        exported(settings, tmp_path / "s")
    program = f"""
import fcntl
file = open({str(unfinished(tmp_path / "s") / "begun.json")!r}, "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(SnapshotError, match="another process is writing it"):
            exported(settings, tmp_path / "s")
        other.communicate(b"\n")
    failing.pages_left = 10**9
    assert exported(settings, tmp_path / "s").rows == CUSTOMERS


def test_a_disk_that_refuses_is_one_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SnapshotError, match="No space left"):
            exported(settings, tmp_path / "s")
    assert exported(settings, tmp_path / "s").rows == CUSTOMERS


def test_an_empty_store_is_an_empty_snapshot(settings: Settings, tmp_path: Path) -> None:
    client = open_store(settings, settings.feature_space())._client
    client.flushall()
    assert exported(settings, tmp_path / "s").rows == 0
    (shard,) = Snapshot.open(tmp_path / "s").shards()
    assert len(shard) == 0


def test_a_sample_of_customers_is_exported_alone(settings: Settings, tmp_path: Path) -> None:
    sample = CustomerSample.parse("1/8")
    job.export(settings, tmp_path / "all", START + 2 * 10**9)
    found = job.export(settings.sampling(sample), tmp_path / "some", START + 2 * 10**9)
    (whole,), (some,) = (
        Snapshot.open(tmp_path / name).shards() for name in ("all", "some")
    )  # fmt: skip
    there = np.flatnonzero(sample.contains(whole.customer_ids))
    assert sorted(some.customer_ids) == sorted(whole.customer_ids[i] for i in there)
    rows = {c: whole.matrix[i] for i, c in enumerate(whole.customer_ids)}
    for number, customer in enumerate(some.customer_ids):
        assert (some.matrix[number] != rows[customer]).nnz == 0
    assert (found.rows, found.sample_customers) == (len(there), "1/8")
    assert "these are 1/8 of customers" in "\n".join(job.in_words(found))
    assert Snapshot.open(tmp_path / "some").info.customer_sample == sample
