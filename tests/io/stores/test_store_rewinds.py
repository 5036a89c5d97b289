"""Redis goes back, is restarted, or is another server, between any two calls: nothing is lost.

Two embedded servers stand for a primary and its replica that lags, and a proxy for the address that
leads to the one and then to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis
from redis_proxy import RedisProxy

from stream_scorer.core.features import fold
from stream_scorer.core.features.fold import stream_of
from stream_scorer.core.features.preparation import PreparedEvents
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state import CustomerStates, source_positions
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import StoreRewound, StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores import redis as redis_store
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer, ServerChanged
from stream_scorer.live.store_fold import StoreFold

SPACE = FeatureSpace.compile([Feature("events", half_lives=("1d", "inf"))], {})
TP = ("events", 0)
CUSTOMERS = [f"customer {i}" for i in range(7)]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[EmbeddedRedis, EmbeddedRedis]]:
    with EmbeddedRedis() as old, EmbeddedRedis() as new:
        yield old, new


@pytest.fixture
def clients(servers: tuple[EmbeddedRedis, EmbeddedRedis]) -> Iterator[list[Any]]:
    """Of the primary and of the one that follows it, both empty."""
    made: list[Any] = [redis.Redis(port=server.port) for server in servers]
    for client in made:
        client.replicaof("NO", "ONE")
        client.config_set("min-replicas-to-write", 0)
        client.flushall()
    yield made
    for client in made:
        client.replicaof("NO", "ONE")
        client.close()


@pytest.fixture
def address(servers: Any, clients: Any) -> Iterator[RedisProxy]:
    with RedisProxy(servers[0].port, keeps_connections=True) as proxy:
        yield proxy


@pytest.fixture
def store(address: RedisProxy) -> Iterator[RedisStore]:
    made = RedisStore(redis.Redis(port=address.port), "test", SPACE.fingerprint)
    yield made
    made.close()


@pytest.fixture
def batch(make_events: Any) -> PreparedEvents:
    """One event of each customer, at offsets 10 to 16."""
    return _batch_from(make_events, 10)


def copy(clients: list[Any]) -> None:
    """The follower holds what the primary holds now."""
    old, new = clients
    new.flushall()
    for key in old.scan_iter():
        new.restore(key, 0, old.dump(key))


def offsets(states: CustomerStates) -> list[int]:
    return list(source_positions(states, [TP])[1].tolist())


def process(store: RedisStore, batch: PreparedEvents, until: int = 17) -> int:
    """Fold and advance as the loop does: again after StoreUnavailable. How often it was tried."""
    folding = StoreFold(store, SPACE)
    for attempt in range(1, 10):
        try:
            folding.fold(batch, BatchReport(len(CUSTOMERS)))
            store.advance({TP: until})
            return attempt
        except StoreUnavailable:
            continue
    raise AssertionError("no attempt succeeded")


COMMANDS_OF_A_BATCH = 1 + 4 + 1  # MGET, four script calls of the save, and `advance`


@pytest.mark.parametrize("failover_after", range(COMMANDS_OF_A_BATCH + 1))
def test_a_failover_between_any_two_calls_of_a_batch_loses_no_event(
    store: RedisStore, address: RedisProxy, servers: Any, clients: list[Any],
    batch: PreparedEvents, monkeypatch: pytest.MonkeyPatch, failover_after: int,
) -> None:  # fmt: skip
    """The follower has what was there before the batch; the client's connection is kept."""
    monkeypatch.setattr(redis_store, "RECORDS_PER_SCRIPT", 2)
    store.begin({TP: 10})
    copy(clients)
    seen: list[bytes] = []

    def before(words: list[bytes]) -> None:
        if words[0] in (b"MGET", b"EVALSHA"):
            if len(seen) == failover_after:
                address.target_port = servers[1].port
            seen.append(words[0])

    for script in (store._save, store._advance):
        for client in clients:
            client.script_load(script.text)
    address.before = before
    attempts = process(store, batch)
    assert attempts <= 3
    assert len(seen) >= COMMANDS_OF_A_BATCH
    address.before = lambda _words: None
    if failover_after == COMMANDS_OF_A_BATCH:  # after the watermark moved: it went back as well
        address.target_port = servers[1].port
        with pytest.raises(StoreRewound) as rewound:
            store.verify()
        assert rewound.value.offsets == {TP: 10}
        return
    assert store.watermarks([TP]) == {TP: 17}
    assert offsets(store.load(CUSTOMERS)) == [10 + i for i in range(7)]


@pytest.mark.parametrize(
    "away", [(i, j) for i in range(COMMANDS_OF_A_BATCH) for j in range(i + 1, 7)], ids=str
)
def test_a_failover_and_back_around_any_calls_of_a_batch_loses_no_event(
    store: RedisStore, address: RedisProxy, servers: Any, clients: list[Any],
    make_events: Any, monkeypatch: pytest.MonkeyPatch, away: tuple[int, int],
) -> None:  # fmt: skip
    """The other server lacks what came before the batch. What is loaded there and saved here would
    have the highest offsets, and lack events."""
    monkeypatch.setattr(redis_store, "RECORDS_PER_SCRIPT", 2)
    whole = MemoryStore(SPACE.fingerprint)
    first, second = (_batch_from(make_events, offset) for offset in (3, 10))
    store.begin({TP: 3})
    copy(clients)
    for each in (store, whole):
        StoreFold(each, SPACE).fold(first, BatchReport(7))
        each.advance({TP: 10})
        for script in (store._save, store._advance):
            clients[1].script_load(script.text)
    seen = 0

    def before(words: list[bytes]) -> None:
        nonlocal seen
        if words[0] in (b"MGET", b"EVALSHA"):
            address.target_port = servers[away[0] <= seen < away[1]].port
            seen += 1

    address.before = before
    batches = [(second, 17)]
    while batches:
        try:
            process(store, *batches[0])
            batches.pop(0)
        except StoreRewound:
            batches = [(first, 10), (second, 17)]
    StoreFold(whole, SPACE).fold(second, BatchReport(7))
    address.before = lambda _words: None
    address.target_port = servers[0].port
    stored = [pack(each.load(CUSTOMERS), SPACE.fingerprint) for each in (store, whole)]
    assert stored[0] == stored[1]


def _batch_from(make_events: Any, offset: int) -> PreparedEvents:
    """One event of each customer, from this offset on."""
    rows = [{"customer": c, "at": 1000 + i, "offset": offset + i} for i, c in enumerate(CUSTOMERS)]
    events = make_events(rows)
    customer, ids = events.customer_id.intern()
    stream, _ = stream_of(events, customer, SPACE, fold.REMEMBER_ALL)
    return PreparedEvents(ids, stream, [])


def test_what_an_attempt_in_doubt_wrote_is_written_again(
    store: RedisStore, address: RedisProxy, servers: Any, clients: list[Any], batch: PreparedEvents
) -> None:
    """The first attempt's save happened, though its answer was lost. The second one finds its
    events in the records, and then the server goes back to before the first."""
    store.begin({TP: 10})
    copy(clients)
    StoreFold(store, SPACE).fold(batch, BatchReport(7))
    store._unadvanced = ""  # as after a time-out
    calls = 0

    def before(words: list[bytes]) -> None:
        nonlocal calls
        calls += words[0] == b"EVALSHA"
        if words[0] == b"EVALSHA" and calls == 1:
            address.target_port = servers[1].port

    address.before = before
    process(store, batch)
    assert store.watermarks([TP]) == {TP: 17}
    assert offsets(store.load(CUSTOMERS)) == [10 + i for i in range(7)]


def test_a_second_save_of_a_batch_notices_that_the_first_is_lost(
    store: RedisStore, clients: list[Any], make_events: Any
) -> None:
    """Where records are refused, one batch is saved twice before the watermark moves."""
    store.begin({TP: 10})
    before = {key: clients[0].dump(key) for key in clients[0].scan_iter()}
    ids = ["a", "b"]
    events = make_events([{"customer": c, "at": 5, "offset": 10 + i} for i, c in enumerate(ids)])
    customer = np.arange(2, dtype=np.int32)
    states = fold.fold_events(empty_states(ids), events, customer, SPACE).states
    store.save(states, np.array([0]))
    clients[0].flushall()
    for key, value in before.items():
        clients[0].restore(key, 0, value)
    with pytest.raises(StoreUnavailable, match="lost what it had just confirmed"):
        store.save(states, np.array([1]))
    assert clients[0].get("test:c:b") is None


@pytest.mark.parametrize("now", [None, 40], ids=["gone", "lower"])
def test_a_store_that_goes_back_while_a_partition_is_assigned_is_a_rewind(
    store: RedisStore, clients: list[Any], now: int | None
) -> None:
    clients[0].set("test:watermark:events:0", 100)
    assert store.watermarks([TP]) == {TP: 100}
    clients[0].flushall()
    if now is not None:
        clients[0].set("test:watermark:events:0", now)
    with pytest.raises(StoreRewound) as rewound:
        store.begin({TP: 100})
    assert rewound.value.offsets == {TP: now or 0}
    assert clients[0].get("test:watermark:events:0") == (b"40" if now else None)
    # Asked again, as the source does: a watermark that is gone counts as 0, so that a log which
    # begins later is refused.
    assert store.watermarks([TP]) == {TP: now or 0}
    store.begin({TP: now or 0})
    assert store.watermarks([TP]) == {TP: now or 0}


def test_a_start_above_what_is_stored_is_a_rewind_for_every_partition(
    store: RedisStore, clients: list[Any]
) -> None:
    other = ("events", 1)
    clients[0].set("test:watermark:events:0", 3)  # set by another owner since it was asked for
    with pytest.raises(StoreRewound) as rewound:
        store.begin({TP: 5, other: 7})
    assert rewound.value.offsets == {TP: 3}
    assert clients[0].get("test:watermark:events:1") is None


@pytest.mark.parametrize("now", [None, 40], ids=["gone", "lower"])
def test_a_watermark_is_remembered_across_release_and_assignment(
    store: RedisStore, clients: list[Any], now: int | None
) -> None:
    store.begin({TP: 10})
    store.advance({TP: 90})
    store.release([TP])
    clients[0].flushall()
    if now is not None:
        clients[0].set("test:watermark:events:0", now)
    assert store.watermarks([TP]) == {TP: now or 0}
    with pytest.raises(StoreRewound) as rewound:
        store.begin({TP: now or 0})
    assert rewound.value.offsets == {TP: now or 0}
    store.begin({TP: now or 0})


@pytest.mark.parametrize("ask", ["watermarks", "load", "save", "advance", "begin", "claim"])
def test_a_connection_that_the_pool_replaces_does_not_hide_a_restart(
    ask: str, batch: PreparedEvents
) -> None:
    """The server's end of the idle connection is closed, and redis-py opens another silently."""
    with EmbeddedRedis() as server:
        store = RedisStore(redis.Redis(port=server.port), "test", SPACE.fingerprint)
        store.begin({TP: 10})
        store.advance({TP: 12})
        states = store.load(CUSTOMERS)
        server.kill()
        server.start()
        calls: dict[str, Callable[[], Any]] = {
            "watermarks": lambda: store.watermarks([TP]),
            "load": lambda: store.load(CUSTOMERS),
            "save": lambda: store.save(states, np.arange(2)),
            "advance": lambda: store.advance({TP: 13}),
            "begin": lambda: store.begin({("events", 1): 0}),
            "claim": store.claim,
        }
        with pytest.raises(StoreRewound) as rewound:
            calls[ask]()
        assert rewound.value.offsets == {TP: 0}
        store.close()


def test_a_reader_without_partitions_is_told_of_a_restart_once() -> None:
    with EmbeddedRedis() as server:
        store = RedisStore(redis.Redis(port=server.port), "test", SPACE.fingerprint)
        store.claim()
        assert store.watermarks([TP]) == {}
        server.kill()
        server.start()
        with pytest.raises(ServerChanged, match="restarted, or leads to another server"):
            store.watermarks([TP])
        assert store.watermarks([TP]) == {}
        store.close()


def test_a_listing_does_not_go_on_at_another_server() -> None:
    """A cursor of SCAN means nothing to it, so customers would be left out silently."""
    with EmbeddedRedis() as server:
        store = RedisStore(redis.Redis(port=server.port), "test", SPACE.fingerprint)
        with redis.Redis(port=server.port) as client:
            client.mset({f"test:c:{i}": "x" for i in range(500)})
        pages = store.customer_pages(0, 10)
        next(pages)
        server.kill()
        server.start()
        with pytest.raises(StoreUnavailable):
            next(pages)
        store.close()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_the_client_retries_nothing_whatever_the_url_says(scheme: str) -> None:
    place = "/run/redis.sock" if scheme == "unix" else "user:pw@example.org:7000/3"
    options = "health_check_interval=1&retry_on_timeout=true&decode_responses=true"
    given = redis.Redis.from_url(f"{scheme}://{place}?{options}")
    server = RedisServer(given)
    pool = server.client.connection_pool
    assert pool.connection_class is given.connection_pool.connection_class
    connection = pool.make_connection()
    assert connection.retry.get_retries() == 0
    assert connection.retry_on_error == []
    assert connection.health_check_interval == 0
    assert not connection.encoder.decode_responses
    assert server.address == {
        "redis": "redis://example.org:7000/3", "rediss": "rediss://example.org:7000/3",
        "unix": "unix:///run/redis.sock?db=0",
    }[scheme]  # fmt: skip


def test_without_info_a_replaced_connection_counts_as_another_server(folder_of_acl: Any) -> None:
    options = ("--aclfile", str(folder_of_acl))
    with EmbeddedRedis(*options) as server:
        client = redis.Redis(port=server.port, username="quiet", password="secret")
        store = RedisStore(client, "test", SPACE.fingerprint)
        store.begin({TP: 10})
        store.advance({TP: 12})
        store.verify()
        server.kill()
        server.start()
        with pytest.raises(StoreRewound):
            store.watermarks([TP])
        store.close()


@pytest.fixture
def folder_of_acl(tmp_path: Any) -> Any:
    path = tmp_path / "users.acl"
    path.write_text("user default on nopass ~* +@all\nuser quiet on >secret ~* +@all -info\n")
    return path


@pytest.mark.parametrize(
    "refusal", ["READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING", "CLUSTERDOWN", "MISCONF"]
)
def test_a_server_that_refuses_is_left_for_where_the_address_leads_by_then(
    servers: Any, clients: list[Any], batch: PreparedEvents, refusal: str
) -> None:
    """The old primary answers on the open connection for ever; the address leads to the new one."""
    old, new = clients
    with RedisProxy(servers[0].port, keeps_connections=False) as address:
        store = RedisStore(redis.Redis(port=address.port), "test", SPACE.fingerprint)
        store.begin({TP: 10})
        copy(clients)
        first = address.opened
        if refusal == "READONLY":
            old.replicaof("127.0.0.1", servers[1].port)
        elif refusal == "MASTERDOWN":
            old.config_set("replica-serve-stale-data", "no")
            old.replicaof("127.0.0.1", 1)
        elif refusal == "NOREPLICAS":
            old.config_set("min-replicas-to-write", 1)
        else:
            address.before = lambda _words: (
                f"-{refusal} made up\r\n".encode() if address.opened == first else None
            )
        with pytest.raises(StoreUnavailable):
            store.save(store.load(CUSTOMERS), np.arange(7))
        address.target_port = servers[1].port
        assert process(store, batch) <= 2
        assert new.get("test:watermark:events:0") == b"17"
        old.config_set("replica-serve-stale-data", "yes")
        store.close()


def test_a_server_that_the_address_no_longer_leads_to_is_left_within_a_minute(
    servers: Any, clients: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes writes still, so no error shows it: the connection is made anew now and then."""
    with RedisProxy(servers[0].port, keeps_connections=False) as address:
        store = RedisStore(redis.Redis(port=address.port), "test", SPACE.fingerprint)
        store.begin({TP: 10})
        copy(clients)
        address.target_port = servers[1].port
        store.advance({TP: 12})  # to the old one
        store.verify()
        store._reconnect_at = 0.0
        with pytest.raises(StoreRewound) as rewound:
            store.verify()
        assert rewound.value.offsets == {TP: 10}
        store.close()
