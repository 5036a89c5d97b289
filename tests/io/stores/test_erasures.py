"""A customer's record is replaced by the boundary, and nothing that is saved brings it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features import fold
from stream_scorer.core.features.erasure import erased_ms, erased_states
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import NEVER, CustomerStates, topic_hash
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.errors import FingerprintMismatch, InputError
from stream_scorer.io.stores.erasures import CUSTOMERS_PER_SCRIPT, Erasures
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
LIFE_SECONDS = 3600
Folded = Callable[..., CustomerStates]


@pytest.fixture
def store(client: Any) -> RedisStore:
    return RedisStore(client, "test", SPACE.fingerprint, hot_bytes=1_000_000)


@pytest.fixture
def erasures(client: Any) -> Erasures:
    return Erasures(RedisServer(client), "test", SPACE.fingerprint)


@pytest.fixture
def folded(make_events: Any) -> Folded:
    """States of customers after one event each."""

    def fold_one(
        ids: list[str], offset: int, at: int, states: CustomerStates | None = None
    ) -> CustomerStates:
        events = make_events([{"customer": c, "at": at, "offset": offset} for c in ids])
        customer = np.arange(len(ids), dtype=np.int32)
        return fold.fold_events(states or empty_states(ids), events, customer, SPACE).states

    return fold_one


def rows(states: CustomerStates) -> Any:
    return np.arange(len(states))


def test_the_record_goes_and_its_offsets_stay(
    store: RedisStore, erasures: Erasures, folded: Folded
) -> None:
    states = folded(["ann", "bob"], 7, 1000)
    store.save(states, rows(states))
    done = erasures.erase({"ann": 5000})["ann"]
    assert (done.boundary_ms, done.bytes) == (5000, len(pack(states, 1)[0]))
    assert (done.values, done.newest_ms, done.before_ms) == (2, 1000, None)
    assert done.sources == {(topic_hash("events"), 0): 7}
    store.hot.drop()
    left = store.load(["ann", "bob"])
    assert erased_ms(left).tolist() == [5000, NEVER]
    assert left.arrays.newest_ms.tolist() == [NEVER, 1000]
    assert len(left.arrays.sum_column) == 2  # bob's
    assert folded(["ann"], 7, 9000, store.load(["ann"])).arrays.newest_ms[0] == NEVER  # redelivered


def test_who_loaded_before_can_not_write_the_record_back(
    store: RedisStore, erasures: Erasures, folded: Folded
) -> None:
    first = folded(["ann"], 7, 1000)
    store.save(first, rows(first))
    kept = store.load(["ann"])  # from memory: no round trip sees the erasure
    erasures.erase({"ann": 5000})
    late = folded(["ann"], 8, 1001, kept)
    assert store.save(late, rows(late), kept).tolist() == [0]
    again = store.load(["ann"])  # dropped from memory when it was refused
    done = folded(["ann"], 8, 1001, again)
    assert len(store.save(done, rows(done), again)) == 0
    assert store.load(["ann"]).arrays.newest_ms[0] == NEVER


def test_who_loaded_nobody_can_not_write_over_the_boundary(
    store: RedisStore, erasures: Erasures, folded: Folded
) -> None:
    nobody = store.load(["eve"])
    done = erasures.erase({"eve": 5000})["eve"]
    assert (done.bytes, done.newest_ms, done.sources) == (0, None, {})
    states = folded(["eve"], 3, 1000, nobody)
    assert store.save(states, rows(states), nobody).tolist() == [0]


def test_memory_refuses_as_redis_does(folded: Folded) -> None:
    store = MemoryStore(SPACE.fingerprint)
    before = folded(["ann"], 7, 1000)
    boundary = erased_states(["ann"], np.array([5000]))
    store.save(boundary, rows(boundary))
    assert store.save(before, rows(before)).tolist() == [0]
    again = folded(["ann"], 8, 6000, store.load(["ann"]))
    assert len(store.save(again, rows(again))) == 0
    assert erased_ms(store.load(["ann"])).tolist() == [5000]


def test_the_boundary_is_never_before_what_is_stored(
    store: RedisStore, erasures: Erasures, folded: Folded
) -> None:
    ahead = folded(["ann"], 7, 9000)
    store.save(ahead, rows(ahead))
    assert erasures.erase({"ann": 5000})["ann"].boundary_ms == 9000
    again = erasures.erase({"ann": 5000})["ann"]
    assert (again.boundary_ms, again.before_ms, again.values) == (9000, 9000, 0)
    assert erasures.listed() == {"ann": 9000}


def test_a_boundary_does_not_expire(client: Any, erasures: Erasures, folded: Folded) -> None:
    store = RedisStore(client, "test", SPACE.fingerprint, LIFE_SECONDS)
    states = folded(["ann", "bob"], 7, 1000)
    store.save(states, rows(states))
    assert client.pttl("test:c:ann") > 0
    erasures.erase({"ann": 5000})
    assert client.pttl("test:c:ann") == -1
    store.hot.drop()
    before = store.load(["ann"])
    back = folded(["ann"], 8, 6000, before)
    store.save(back, rows(back), before)
    assert client.pttl("test:c:ann") == -1
    assert client.pttl("test:c:bob") > 0


def test_what_a_refresh_noted_goes(client: Any, erasures: Erasures) -> None:
    client.set("test:r:ann", b"x" * 28)
    erasures.erase({"ann": 5000})
    assert client.get("test:r:ann") is None


def test_everybody_is_listed_with_the_highest_boundary(client: Any, erasures: Erasures) -> None:
    assert erasures.listed() == {}
    assert erasures.list_bytes() == 0
    ids = [f"customer {i}" for i in range(CUSTOMERS_PER_SCRIPT + 3)] + ['a\n"b', "zoë"]
    erasures.erase(dict.fromkeys(ids, 5000))
    erasures.erase({"zoë": 7000})
    assert erasures.listed() == dict.fromkeys(ids, 5000) | {"zoë": 7000}
    assert erasures.list_bytes() == len(client.get("test:erased"))


def test_nothing_is_erased_where_one_record_is_of_another_declaration(
    client: Any, erasures: Erasures
) -> None:
    client.set("test:c:bob", b"\x01" + bytes(100))
    with pytest.raises(FingerprintMismatch):
        erasures.erase({"ann": 5000, "bob": 5000})
    assert client.get("test:c:ann") is None
    assert erasures.listed() == {}


def test_a_list_that_another_wrote_is_refused(client: Any, erasures: Erasures) -> None:
    client.set("test:erased", b'[5000,"ann"]\nann\n')
    with pytest.raises(InputError, match="test:erased"):
        erasures.listed()


def test_another_namespace_takes_over_what_it_lacks(erasures: Erasures) -> None:
    assert erasures.add({}) == 0
    assert erasures.add({"ann": 5000, "bob": 6000}) == 2
    before = erasures.list_bytes()
    assert erasures.add({"ann": 5000, "bob": 5999}) == 0
    assert erasures.list_bytes() == before
    assert erasures.add({"ann": 5001}) == 1
    assert erasures.listed() == {"ann": 5001, "bob": 6000}
