"""Records that stay in memory: they save a load, and never change what is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features import fold
from stream_scorer.core.features.fold import stream_of
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.errors import StoreRewound, StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.hot_records import OVERHEAD_BYTES, HotRecords
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live.store_fold import StoreFold

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
TP, OTHER = ("events", 0), ("events", 1)
Event = dict[str, Any]
Batch = Callable[..., PreparedEvents]


@pytest.fixture
def store(client: Any) -> RedisStore:
    return RedisStore(client, "test", SPACE.fingerprint, hot_bytes=1_000_000)


@pytest.fixture
def batch(make_events: Any) -> Batch:
    def made(*rows: Event) -> PreparedEvents:
        events = make_events(list(rows))
        customer, ids = events.customer_id.intern()
        stream, _ = stream_of(events, customer, SPACE, fold.REMEMBER_ALL)
        return PreparedEvents(ids, stream, [])

    return made


def event(customer: str, offset: int, partition: int = 0) -> Event:
    return {"customer": customer, "at": 1000 + offset, "offset": offset, "partition": partition}


def refused(store: RedisStore, prepared: PreparedEvents) -> int:
    """Fold a batch; how many records the store refused."""
    folding = StoreFold(store, SPACE)
    folding.fold(prepared, BatchReport(1))
    return folding.refused_writes


def record(client: Any, customer: str) -> bytes | None:
    found: bytes | None = client.get(f"test:c:{customer}")
    return found


def test_a_customer_that_was_saved_is_not_loaded_from_redis_again(
    store: RedisStore, batch: Batch, client: Any
) -> None:
    seen: list[tuple[int, int, int]] = []
    store.hot.on_lookup = lambda *counts: seen.append(counts)
    assert refused(store, batch(event("a", 1), event("b", 2))) == 0
    assert refused(store, batch(event("a", 3), event("c", 4))) == 0
    held = sum(len(record(client, c) or b"") + OVERHEAD_BYTES for c in "ab")
    assert seen == [(0, 2, 0), (1, 1, held)]
    one_pass = fold.fold_stream(
        empty_states(["a", "b", "c"]),
        batch(event("a", 1), event("b", 2), event("a", 3), event("c", 4)).stream, SPACE,
    )  # fmt: skip
    assert pack(one_pass.states, SPACE.fingerprint) == [record(client, c) for c in "abc"]


def test_a_customer_deleted_by_an_operator_does_not_come_back_with_the_next_event(
    store: RedisStore, batch: Batch, client: Any
) -> None:
    refused(store, batch(event("a", 1), event("b", 2)))
    client.delete("test:c:a")
    assert refused(store, batch(event("a", 3), event("b", 4))) == 1
    other = RedisStore(client, "other", SPACE.fingerprint)
    refused(other, batch(event("a", 3)))
    assert record(client, "a") == client.get("other:c:a")
    # From now on its new record is the one in memory.
    assert refused(store, batch(event("a", 5))) == 0


def test_a_customer_deleted_between_load_and_save_does_not_come_back(
    batch: Batch, client: Any
) -> None:
    """Also where nothing is kept in memory."""
    store = RedisStore(client, "test", SPACE.fingerprint)
    refused(store, batch(event("a", 1)))
    loaded = store.load(["a"])
    client.delete("test:c:a")
    assert store.save(loaded, np.array([0]), loaded).tolist() == [0]
    assert record(client, "a") is None
    # Without a word on what it was made from it is written, as `demo` and replays do.
    assert store.save(loaded, np.array([0])).tolist() == []


def test_a_record_that_another_owner_wrote_is_loaded_where_memory_has_an_older_one(
    store: RedisStore, batch: Batch, client: Any
) -> None:
    other = RedisStore(client, "test", SPACE.fingerprint, hot_bytes=1_000_000)
    apart = RedisStore(client, "apart", SPACE.fingerprint)
    turns = [store, other, store, store, other]
    events = [event("a", 1), event("a", 7, 1), event("a", 2), event("a", 3), event("a", 9, 1)]
    assert [refused(s, batch(e)) for s, e in zip(turns, events, strict=True)] == [0, 0, 1, 0, 1]
    for e in events:
        refused(apart, batch(e))
    assert record(client, "a") == client.get("apart:c:a")


def lose_a_watermark(store: RedisStore, client: Any) -> None:
    client.set("test:watermark:events:0", 1)
    with pytest.raises(StoreRewound):
        store.verify()


def lose_writes_and_save(store: RedisStore, client: Any) -> None:
    client.set("test:watermark:events:0", 1)
    states = store.load(["b"])
    with pytest.raises(StoreRewound):
        store.save(states, np.array([0]), states)


def lose_a_mark(store: RedisStore, client: Any) -> None:
    client.delete(store.mark_key)
    with pytest.raises(StoreUnavailable):
        store.advance({TP: 21})


def lose_writes_and_begin(store: RedisStore, client: Any) -> None:
    client.delete("test:watermark:events:0")
    with pytest.raises(StoreRewound):
        store.begin({TP: 20})


def lose_the_connection(store: RedisStore, client: Any) -> None:
    client.config_set("maxmemory", 1)
    states = store.load(["b"])
    with pytest.raises(StoreUnavailable):
        store.save(states, np.array([0]), states)
    client.config_set("maxmemory", 0)


def give_a_partition_up(store: RedisStore, client: Any) -> None:
    store.release([TP])


@pytest.mark.parametrize(
    "happens",
    [
        lose_a_watermark, lose_writes_and_save, lose_a_mark, lose_writes_and_begin,
        lose_the_connection, give_a_partition_up,
    ],
    ids=lambda happens: happens.__name__,
)  # fmt: skip
def test_nothing_stays_in_memory_after_an_error_or_once_a_partition_is_given_up(
    store: RedisStore, batch: Batch, client: Any, happens: Any
) -> None:
    store.begin({TP: 10})
    refused(store, batch(event("a", 11)))
    store.advance({TP: 20})
    refused(store, batch(event("a", 20), event("b", 20)))
    assert len(store.hot) == 2
    happens(store, client)
    assert len(store.hot) == store.hot.held_bytes == 0


def test_the_records_written_last_stay_within_the_bound() -> None:
    each = 100 + OVERHEAD_BYTES
    hot = HotRecords(3 * each + 5)
    hot.put(["a", "b", "c"], [bytes(100)] * 3)
    hot.put(["a"], [bytes(100)])
    hot.put(["d"], [bytes(100)])
    assert [r is not None for r in hot.get(["a", "b", "c", "d"])] == [True, False, True, True]
    hot.put(["c"], [bytes(106)])
    assert hot.held_bytes == 2 * each + 6
    assert [r is not None for r in hot.get(["a", "c", "d"])] == [False, True, True]
    hot.drop(["d", "unknown"])
    assert hot.held_bytes == each + 6
    hot.put(["e"], [bytes(10_000)])  # more than the bound by itself
    assert len(hot) == hot.held_bytes == 0


def test_a_bound_of_zero_keeps_nothing() -> None:
    hot = HotRecords(0)
    hot.put(["a"], [b"record"])
    assert hot.get(["a"]) == [None]


@pytest.mark.parametrize("hot_bytes", [0, 3_000, 1_000_000])
def test_records_have_the_same_bits_whatever_stays_in_memory(
    batch: Batch, client: Any, hot_bytes: int
) -> None:
    """Two owners, one of a partition each, that share some of their customers."""
    draw = np.random.default_rng(5)
    owners = [
        RedisStore(client, "test", SPACE.fingerprint, hot_bytes=hot_bytes),
        RedisStore(client, "test", SPACE.fingerprint, hot_bytes=hot_bytes),
    ]
    apart, offsets = RedisStore(client, "apart", SPACE.fingerprint), [0, 0]
    for _ in range(60):
        p = int(draw.integers(2))
        rows = []
        for number in draw.choice(20, 5).tolist():
            offsets[p] += 1
            rows.append(event(f"c{number + 15 * p}", offsets[p], p))
        refused(owners[p], batch(*rows))
        refused(apart, batch(*rows))
    for number in range(35):
        assert record(client, f"c{number}") == client.get(f"apart:c:c{number}")
    assert all(owner.hot.held_bytes <= hot_bytes for owner in owners)
