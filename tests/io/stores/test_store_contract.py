"""One contract for both stores: Redis (a real server) and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import redis

from stream_scorer.core.features import fold
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates, take
from stream_scorer.core.features.state_codec import empty_states, in_words, pack
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import (
    FingerprintMismatch,
    Halt,
    InputError,
    StoreRewound,
    StoreUnavailable,
)
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import RECORDS_PER_SCRIPT, RedisStore
from stream_scorer.live.consumer import clock_ms

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
MARK = {("events", 0): 10}
Store = RedisStore | MemoryStore
Folded = Callable[..., CustomerStates]


@pytest.fixture(params=["redis", "memory"])
def store(request: pytest.FixtureRequest, client: Any) -> Store:
    if request.param == "memory":
        return MemoryStore(SPACE.fingerprint)
    return RedisStore(client, "test", SPACE.fingerprint)


@pytest.fixture
def folded(make_events: Any) -> Folded:
    """States of customers after one event each at an offset of partition 0."""

    def fold_one(ids: list[str], offset: int, states: CustomerStates | None = None) -> Any:
        events = make_events([{"customer": c, "at": 1000 + offset, "offset": offset} for c in ids])
        customer = np.arange(len(ids), dtype=np.int32)
        return fold.fold_events(states or empty_states(ids), events, customer, SPACE).states

    return fold_one


def rows(states: CustomerStates) -> Any:
    return np.arange(len(states))


def test_what_was_saved_is_loaded(store: Store, folded: Folded) -> None:
    ids = [f"customer {i}" for i in range(2 * RECORDS_PER_SCRIPT + 7)] + ["zoë", "a:b*c"]
    states = folded(ids, 3)
    assert len(store.save(states, rows(states))) == 0
    loaded = store.load([*ids[::-1], "stranger"])
    assert pack(loaded, 1)[:-1] == pack(states, 1)[::-1]
    assert pack(loaded, 1)[-1] == pack(empty_states(["stranger"]), 1)[0]
    found = {i for batch in store.scan(100) for i in batch.customer_ids}
    assert found == set(ids)


def test_only_the_given_rows_are_saved(store: Store, folded: Folded) -> None:
    states = folded(["a", "b", "c"], 3)
    store.save(states, np.array([2, 0]))
    assert [i for batch in store.scan() for i in sorted(batch.customer_ids)] == ["a", "c"]


def test_rows_may_come_in_any_order(store: Store, folded: Folded) -> None:
    older = folded(["a", "b", "c"], 3)
    newer = folded(["a", "b"], 8, older)
    store.save(newer, np.array([1]))
    assert store.save(older, np.array([2, 1, 0])).tolist() == [1]
    stored = dict(zip("abc", pack(store.load(["a", "b", "c"]), 1), strict=True))
    assert stored == dict(zip("abc", pack(older, 1), strict=True)) | {"b": pack(newer, 1)[1]}


def test_an_older_record_is_refused_and_a_newer_one_is_not(store: Store, folded: Folded) -> None:
    older = folded(["a", "b"], 3)
    newer = folded(["a", "b"], 8, older)
    store.save(newer, np.array([1]))
    assert store.save(older, rows(older)).tolist() == [1]
    assert store.save(newer, rows(newer)).tolist() == []
    assert pack(store.load(["a", "b"]), 1) == pack(newer, 1)


def test_a_record_that_was_made_from_less_than_is_stored_is_refused(
    store: Store, folded: Folded
) -> None:
    """As where Redis was set back when the customers were loaded, and is whole again: the new
    record has the highest offset, and lacks events."""
    stored = folded(["a", "b", "c"], 3)
    store.save(stored, np.array([0, 2]))
    loaded = empty_states(["a", "b", "c"])
    newer = folded(["a", "b", "c"], 8, loaded)
    assert store.save(newer, np.array([2, 1]), loaded).tolist() == [2]
    assert pack(store.load(["c"]), 1) == pack(stored, 1)[2:]
    assert store.save(folded(["a", "b", "c"], 8, stored), np.array([2]), stored).tolist() == []


def test_a_record_that_lacks_a_stored_partition_is_refused(
    store: Store, folded: Folded, make_events: Any
) -> None:
    stored = folded(["a"], 3)
    other = make_events([{"customer": "a", "at": 1, "partition": p, "offset": 9} for p in range(6)])
    both = fold.fold_events(stored, other, np.zeros(6, np.int32), SPACE).states
    store.save(both, rows(both))
    assert store.save(stored, rows(stored)).tolist() == [0]


@pytest.mark.parametrize("ahead", range(7))
def test_a_record_that_is_ahead_in_any_one_of_its_partitions_is_kept(
    store: Store, make_events: Any, ahead: int
) -> None:
    def after(offsets: list[int]) -> CustomerStates:
        events = make_events(
            [{"customer": "a", "at": 1, "partition": p, "offset": o} for p, o in enumerate(offsets)]
        )
        return fold.fold_events(empty_states(["a"]), events, np.zeros(7, np.int32), SPACE).states

    stored, behind = after([9 + (p == ahead) for p in range(7)]), after([9] * 7)
    store.save(stored, rows(stored))
    assert store.save(behind, rows(behind)).tolist() == [0]
    assert pack(store.load(["a"]), 1) == pack(stored, 1)
    newer = after([10] * 7)
    assert store.save(newer, rows(newer)).tolist() == []
    assert pack(store.load(["a"]), 1) == pack(newer, 1)


def test_watermarks_begin_once_and_only_rise(store: Store) -> None:
    tp = ("events", 0)
    assert store.watermarks([tp]) == {}
    store.begin({tp: 5})
    store.begin({tp: 2})
    assert store.watermarks([tp, ("events", 1)]) == {tp: 5}
    store.advance({tp: 9})
    store.advance({tp: 7})
    assert store.watermarks([tp]) == {tp: 9}


def test_a_watermark_keeps_the_leader_epoch_that_it_moved_with(store: Store) -> None:
    tp, other = ("events", 0), ("events", 1)
    assert store.watermark_epochs([]) == {}
    store.begin({tp: 5, other: 5})
    assert store.watermark_epochs([tp, other]) == {}
    store.advance({tp: 9, other: 7}, {tp: 3})
    assert store.watermark_epochs([tp, other]) == {tp: (9, 3)}
    store.advance({tp: 8}, {tp: 2})  # the watermark does not move back, and nor does its epoch
    assert store.watermark_epochs([tp]) == {tp: (9, 3)}
    store.advance({tp: 12})
    # Of the watermark of before, so that it says nothing about this one.
    assert store.watermark_epochs([tp]) == {tp: (9, 3)}
    store.advance({tp: 13}, {tp: 0})
    assert store.watermark_epochs([tp]) == {tp: (13, 0)}


def test_an_epoch_that_another_program_wrote_over_is_refused(client: Any) -> None:
    client.set("test:epoch:events:0", "hello")
    with pytest.raises(InputError, match=r"stored leader epoch: 'test:epoch:events:0'.*delete"):
        RedisStore(client, "test", SPACE.fingerprint).watermark_epochs([("events", 0)])


def test_a_partition_that_begins_above_its_watermark_is_a_rewind(store: Store) -> None:
    """What lies between would never be read."""
    store.begin({("events", 0): 5})
    with pytest.raises(StoreRewound) as rewound:
        store.begin({("events", 0): 9, ("events", 1): 3})
    assert rewound.value.offsets == {("events", 0): 5}
    assert store.watermarks([("events", 0), ("events", 1)]) == {("events", 0): 5}


def test_lost_writes_are_noticed_before_anything_is_written(client: Any, folded: Folded) -> None:
    store = RedisStore(client, "test", SPACE.fingerprint)
    store.begin(MARK)
    store.advance({("events", 0): 20})
    client.set("test:watermark:events:0", 15)  # as a restored backup would
    states = folded(["a"], 25)
    with pytest.raises(StoreRewound, match="from 15") as rewound:
        store.save(states, rows(states))
    assert rewound.value.offsets == {("events", 0): 15}
    assert client.get("test:c:a") is None
    assert len(store.save(states, rows(states))) == 0  # read again from 15: all is well
    store.advance({("events", 0): 30})
    client.flushall()
    with pytest.raises(StoreRewound) as flushed:
        store.advance({("events", 0): 31})
    assert flushed.value.offsets == {("events", 0): 0}


def test_a_save_lost_before_the_watermark_moved_is_noticed(client: Any, folded: Folded) -> None:
    store = RedisStore(client, "test", SPACE.fingerprint)
    store.begin(MARK)
    before = {key: client.dump(key) for key in client.scan_iter()}
    ids = [f"{i}" for i in range(RECORDS_PER_SCRIPT + 1)]
    states = folded(ids, 10)
    store.save(states, rows(states))
    client.flushall()  # a restart: all that was there before the save is back, and some of the save
    for key, value in before.items():
        client.restore(key, 0, value)
    store.load(["0"])
    with pytest.raises(StoreUnavailable, match="confirmed"):
        store.advance({("events", 0): 11})
    assert store.watermarks(list(MARK)) == MARK
    store.save(states, rows(states))
    store.advance({("events", 0): 11})
    assert store.watermarks(list(MARK)) == {("events", 0): 11}


def test_a_save_that_was_given_up_on_and_comes_late_changes_nothing(
    client: Any, folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its mark the save that was made in its place looked as if Redis had lost it."""
    store = RedisStore(client, "test", SPACE.fingerprint)
    store.begin(MARK)
    run, made = store._save.run, list[Any]()

    def noted(calls: Any) -> Any:
        made.append(calls)
        return run(calls)

    monkeypatch.setattr(store._save, "run", noted)
    for _ in range(2):
        states = folded(["a"], 10)
        store.save(states, rows(states))
        store._unadvanced = ""  # as after a time-out
    stored = client.get("test:c:a")
    states = folded(["a"], 10)
    store.save(states, rows(states))
    assert run(made[0]) == [b"UNSAVED"]
    store.advance({("events", 0): 11})
    assert client.get("test:c:a") == stored


def test_lost_writes_are_noticed_without_writing(client: Any) -> None:
    store = RedisStore(client, "test", SPACE.fingerprint)
    store.begin(MARK)
    store.verify()
    client.flushall()
    with pytest.raises(StoreRewound) as flushed:
        store.verify()
    assert flushed.value.offsets == {("events", 0): 0}


def test_a_restart_that_forgets_scripts_is_survived(client: Any, folded: Folded) -> None:
    store = RedisStore(client, "test", SPACE.fingerprint)
    states = folded(["a"], 1)
    store.save(states, rows(states))
    client.script_flush()
    assert len(store.save(states, rows(states))) == 0


@pytest.mark.parametrize(
    ("time_to_live_seconds", "age_days", "days_left"),
    [
        (400 * 86_400, 0, 407),  # until a week after it is forgotten
        (400 * 86_400, 300, 107),
        (400 * 86_400, 3000, 7),  # as in a replay of old events: neither at once nor for ever
        (86_400, 0, 2),  # a short time to live: twice as long
        (1, 0, 61 / 86_400),
    ],
)
def test_redis_removes_a_record_some_time_after_the_fold_has_forgotten_it(
    client: Any, folded: Folded, time_to_live_seconds: int, age_days: int, days_left: float
) -> None:
    states = folded(["a"], 1)
    states.arrays.newest_ms[0] = clock_ms() - age_days * 86_400_000
    RedisStore(client, "mortal", SPACE.fingerprint, time_to_live_seconds).save(states, rows(states))
    left_ms = days_left * 86_400_000
    assert left_ms - 60_000 < client.pttl("mortal:c:a") <= left_ms
    RedisStore(client, "immortal", SPACE.fingerprint).save(states, rows(states))
    assert client.pttl("immortal:c:a") == -1


def test_a_namespace_of_another_declaration_is_refused(client: Any, folded: Folded) -> None:
    RedisStore(client, "test", SPACE.fingerprint).claim()
    RedisStore(client, "test", SPACE.fingerprint).claim()
    other = RedisStore(client, "test", SPACE.fingerprint ^ 1)
    with pytest.raises(FingerprintMismatch, match=r"store\.namespace.*replay"):
        other.claim()
    states = folded(["a"], 1)
    RedisStore(client, "test", SPACE.fingerprint).save(states, rows(states))
    with pytest.raises(FingerprintMismatch, match="replay"):
        other.save(states, rows(states))
    with pytest.raises(FingerprintMismatch, match="replay"):
        other.load(["a"])


def test_a_namespace_of_another_topic_of_that_name_is_refused(client: Any) -> None:
    store = RedisStore(client, "test", SPACE.fingerprint)
    store.recognise("events", "one")
    store.recognise("events", "one")
    store.recognise("other", "two")
    with pytest.raises(Halt, match=r"events: the topic was deleted and created again.*namespace"):
        RedisStore(client, "test", SPACE.fingerprint).recognise("events", "two")


def test_a_server_out_of_memory_is_unavailable_not_an_end(folded: Folded) -> None:
    with EmbeddedRedis("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as small:
        store = RedisStore(redis.Redis(port=small.port), "test", SPACE.fingerprint)
        states = folded([f"{i:064d}" for i in range(50_000)], 1)
        with pytest.raises(StoreUnavailable, match="OOM"):
            store.save(states, rows(states))
        small.kill()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            store.load(["a"])


def test_records_in_memory_survive_every_move(folded: Folded) -> None:
    """Records grow and outdated ones make room, many times over."""
    store = MemoryStore(SPACE.fingerprint)
    draw = np.random.default_rng(3)
    newest: dict[str, bytes] = {}
    words: dict[str, int] = {}
    for offset in range(400):
        ids = [f"c{i}" for i in draw.choice(1500, 60, replace=False).tolist()]
        states = folded(ids, offset, store.load(ids))
        assert len(store.save(states, rows(states))) == 0
        newest |= dict(zip(ids, pack(states, SPACE.fingerprint), strict=True))
        words |= {i: in_words(take(states, np.array([row]))) for row, i in enumerate(ids)}
    found = [
        (i, r)
        for s in store.scan()
        for i, r in zip(s.customer_ids, pack(s, SPACE.fingerprint), strict=True)
    ]
    assert found == sorted(newest.items())
    assert store.record_bytes == 4 * sum(words.values())
    assert len(store) == len(newest)
