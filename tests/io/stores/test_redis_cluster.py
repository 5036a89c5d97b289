"""A namespace on a Redis Cluster: what a node loses is noticed and read again.

One cluster of three primaries and three replicas for the whole module, of Redis and then of Valkey.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import redis
from as_the_loop import SPACE, TP, process, read_on, same_as_in_memory, until_there
from redis.crc import key_slot
from redis_clusters import PRIMARIES, RedisClusterRig, valkey_server, wait_for

from stream_scorer.checks.redis import redis_findings
from stream_scorer.core.features.state_codec import pack
from stream_scorer.demo import embedded
from stream_scorer.errors import ConfigError, StoreRewound, StoreUnavailable, StreamScorerError
from stream_scorer.io.stores.announcements import Announcements, ModelIdentity
from stream_scorer.io.stores.cluster_keys import TAGS, placed, tag_name, tag_of
from stream_scorer.io.stores.customer_records import CustomerRecords
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_memory import EvictionWatch
from stream_scorer.io.stores.redis_server import RedisServer, ServerChanged
from stream_scorer.io.stores.refresh_store import RefreshStore
from stream_scorer.io.stores.sharded import ShardedStore
from stream_scorer.live.consumer import open_store, redis_client
from stream_scorer.settings.tree import Settings

CUSTOMERS = [f"customer {i}" for i in range(200)]
BATCH = len(CUSTOMERS)
NS = "stream-scorer"


@pytest.fixture(scope="module", params=["Redis 6.2", "Valkey 9.1"])
def rig(request: pytest.FixtureRequest) -> Iterator[RedisClusterRig]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param.startswith("Valkey"):
            patch.setattr(embedded, "_redis_server", valkey_server)
        with RedisClusterRig() as made:
            yield made


def settings_of(rig: RedisClusterRig, **more: Any) -> Settings:
    url = f"redis://127.0.0.1:{rig.nodes[0].port}/0"
    others = ",".join(f"127.0.0.1:{node.port}" for node in rig.nodes[1:])
    wanted = {"url": url, "mode": "cluster", "other_addresses": others, "timeout_seconds": 2.0}
    overrides = {"redis": wanted | more}
    return Settings.load(None, environment={}, overrides=overrides)


@pytest.fixture
def store(rig: RedisClusterRig) -> Iterator[ShardedStore]:
    """Of an empty cluster whose nodes all run; it has begun at offset 0."""
    wait_for(rig.is_whole)
    for client in rig.clients:
        if client.info("replication")["role"] == "master":
            client.flushall()
    made = open_store(settings_of(rig), SPACE)
    assert isinstance(made, ShardedStore)
    made.claim()
    made.begin({TP: 0})
    yield made
    made.close()


def keys(rig: RedisClusterRig) -> dict[bytes, int]:
    """Each key and the primary that has it."""
    return {
        key: at
        for at, client in enumerate(rig.clients)
        if client.info("replication")["role"] == "master"
        for key in client.scan_iter(count=1000)
    }


def follow(rig: RedisClusterRig, at: int) -> None:
    """The replicas of this node have all that was written."""
    wait_for(lambda: rig.clients[at].wait(1, 1000) == 1)


def test_records_watermarks_and_marks_of_a_tag_share_a_slot_and_all_primaries_have_some(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    read_on(store, make_events, CUSTOMERS, 0, 2 * BATCH)
    assert same_as_in_memory(store, make_events, CUSTOMERS, 0, 2 * BATCH)
    assert store.watermarks([TP, ("events", 1)]) == {TP: 2 * BATCH}
    assert store.starts([TP]) == {TP: 0}
    found = keys(rig)
    assert len(set(found.values())) == PRIMARIES
    assert store.count() == len(found)
    of_tags: dict[bytes, set[int]] = {}
    for key in found:
        tag, name = placed(key)
        assert name == key
        of_tags.setdefault(tag, set()).add(key_slot(key))
    assert len(of_tags) == TAGS
    assert all(len(slots) == 1 for slots in of_tags.values())
    assert {f"{NS}:{tag_name(tag_of(c))}:c:{c}".encode() for c in CUSTOMERS} <= found.keys()


def test_a_record_that_another_wrote_is_refused_in_its_part_alone(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    read_on(store, make_events, CUSTOMERS, 0, BATCH)
    old = store.load(CUSTOMERS)
    other = open_store(settings_of(rig), SPACE)
    other.begin({TP: 0})
    process(other, make_events, CUSTOMERS[:3], BATCH)
    refused = store.save(old, np.arange(BATCH)[::-1])
    assert sorted(refused.tolist()) == [0, 1, 2]
    other.close()


def test_a_script_that_one_primary_forgot_is_loaded_there_again(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 0)
    rig.clients[rig.primary_of(b"{s00}")].script_flush()
    assert process(store, make_events, CUSTOMERS, BATCH) == 1
    assert same_as_in_memory(store, make_events, CUSTOMERS, 0, 2 * BATCH)


def test_a_primary_that_is_killed_is_followed_by_its_replica_and_lost_writes_are_read_again(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 0)
    at = rig.primary_of(b"{s05}")
    follow(rig, at)
    replica = rig.replica_of(at)
    rig.nodes[replica]._process.send_signal(signal.SIGSTOP)
    # From here on nothing is sent to it, not even into its socket.
    rig.clients[at].execute_command("CLIENT", "KILL", "TYPE", "replica")
    process(store, make_events, CUSTOMERS, BATCH)
    rig.nodes[at].kill()
    rig.nodes[replica]._process.send_signal(signal.SIGCONT)
    again = read_on(store, make_events, CUSTOMERS, 2 * BATCH, 4 * BATCH)
    rig.nodes[at].start()
    assert again == [BATCH]
    assert rig.primary_of(b"{s05}") == replica
    assert same_as_in_memory(store, make_events, CUSTOMERS, 0, 4 * BATCH)
    assert store.watermarks([TP]) == {TP: 4 * BATCH}


@pytest.mark.parametrize("when", ["after save", "between batches"])
def test_what_one_part_loses_is_noticed_by_its_mark_or_its_watermark(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any, when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    process(store, make_events, CUSTOMERS, 0)
    at = rig.primary_of(b"{s07}")

    def lose() -> None:
        for key in rig.clients[at].scan_iter(match=f"{NS}:{{s07}}:*"):
            rig.clients[at].delete(key)

    if when == "after save":
        advance, lost = store.advance, list[bool]()

        def after_a_loss(*arguments: Any) -> None:
            if not lost:
                lose()
                lost.append(True)
            advance(*arguments)

        monkeypatch.setattr(store, "advance", after_a_loss)
    else:
        lose()
    assert read_on(store, make_events, CUSTOMERS, BATCH, 2 * BATCH) == [0]
    assert same_as_in_memory(store, make_events, CUSTOMERS, 0, 2 * BATCH)


def test_marks_show_a_loss_that_watermarks_do_not(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    """The records and the mark of a tag go back to before the save, its watermark had not moved."""
    states = store.load(CUSTOMERS)
    store.save(states, np.arange(BATCH), states)
    at = rig.primary_of(b"{s07}")
    (mark,) = rig.clients[at].scan_iter(match=f"{NS}:{{s07}}:saved:*")
    rig.clients[at].delete(mark)
    with pytest.raises(StoreUnavailable, match="lost what it had just confirmed"):
        store.advance({TP: 1})
    assert store.watermarks([TP]) == {TP: 0}, "one part has not moved"
    assert process(store, make_events, CUSTOMERS, 0) == 1


def test_a_slot_that_is_moved_while_the_store_works_loses_nothing(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 0)
    at = rig.primary_of(b"{s09}")
    to = another_primary(rig, at)
    rig.move(b"{s09}", to)
    with pytest.raises(StoreUnavailable):
        store.load(CUSTOMERS)
    with pytest.raises(ServerChanged, match="1 of the 64 parts"):
        store.load(CUSTOMERS)
    assert read_on(store, make_events, CUSTOMERS, BATCH, 2 * BATCH) == []
    assert same_as_in_memory(store, make_events, CUSTOMERS, 0, 2 * BATCH)
    rig.move(b"{s09}", at)


def another_primary(rig: RedisClusterRig, at: int) -> int:
    of_tags = (rig.primary_of(b"{s%02d}" % tag) for tag in range(TAGS))
    return next(other for other in of_tags if other != at)


def test_all_customers_are_looked_through_primary_by_primary(
    store: ShardedStore, make_events: Any
) -> None:
    read_on(store, make_events, CUSTOMERS, 0, BATCH)
    pages = list(store.customer_pages(0, 10))
    assert len(pages) > PRIMARIES
    assert sorted({i for ids, _ in pages for i in ids}) == sorted(CUSTOMERS)
    assert [cursor for _, cursor in pages][-1] is None
    # From a cursor on, as an export does that goes on after it was interrupted.
    at = len(pages) // 2
    rest = {i for ids, _ in pages[:at] for i in ids}
    rest |= {i for ids, _ in store.customer_pages(pages[at - 1][1] or 0, 10) for i in ids}
    assert rest == set(CUSTOMERS)
    scanned = {i: bytes(record) for states in store.scan(50)
               for i, record in zip(states.customer_ids, pack(states, SPACE.fingerprint),
                                    strict=True)}  # fmt: skip
    loaded = pack(store.load(CUSTOMERS), SPACE.fingerprint)
    assert scanned == dict(zip(CUSTOMERS, loaded, strict=True))


def test_a_slot_that_moves_while_all_customers_are_looked_through_is_noticed(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    read_on(store, make_events, CUSTOMERS, 0, BATCH)
    run, at = store.server_run(), rig.primary_of(b"{s09}")
    pages = store.customer_pages(0, 10)
    next(pages)
    rig.move(b"{s09}", another_primary(rig, at))
    with pytest.raises(StoreUnavailable, match="some may be missing"):
        list(pages)
    assert until_there(store.server_run) != run
    rig.move(b"{s09}", at)
    with suppress(StoreUnavailable, ServerChanged):
        store.load(CUSTOMERS)
    assert until_there(store.server_run) != run, "there and back is another one, too"


def test_nobody_is_looked_for_while_a_slot_is_on_two_primaries(
    rig: RedisClusterRig, store: ShardedStore
) -> None:
    slot, at = key_slot(b"{s09}"), rig.primary_of(b"{s09}")
    near = rig.clients[at]
    near.execute_command(
        "CLUSTER", "SETSLOT", slot, "MIGRATING", rig.node_id(another_primary(rig, at))
    )
    with pytest.raises(StoreUnavailable, match="a slot of the cluster is being moved"):
        next(store.customer_pages(0))
    near.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    assert until_there(lambda: list(store.customer_pages(0))) is not None


def test_a_refresh_reads_and_notes_as_on_one_server(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    read_on(store, make_events, CUSTOMERS, 0, BATCH)
    refreshing = RefreshStore(store, NS, TP[0])
    cursor, mine = 0, set()
    while cursor is not None:
        page = refreshing.page(cursor, [0])
        mine |= set(page.mine)
        assert page.sourceless == []
        cursor = page.cursor  # type: ignore[assignment]
    assert mine == set(CUSTOMERS)
    assert refreshing.page(0, [1]).mine == []
    states, marks, stored = refreshing.load(CUSTOMERS)
    assert set(marks) == {None}
    assert stored == {TP: BATCH}
    noted = [bytes([i % 256]) * 28 for i in range(len(CUSTOMERS))]
    assert refreshing.note(states, noted, 0, 60_000) == []
    assert refreshing.load(CUSTOMERS)[1] == noted
    # Of a part that lost writes nothing is published.
    tag = tag_of(CUSTOMERS[0])
    of_tag = rig.clients[rig.primary_of(tag_name(tag).encode())]
    of_tag.set(f"{NS}:{tag_name(tag)}:watermark:events:0", 1)
    with pytest.raises(StoreRewound):
        refreshing.load(CUSTOMERS)


def test_a_slot_between_two_primaries_is_waited_for(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 0)
    slot, at = key_slot(b"{s09}"), rig.primary_of(b"{s09}")
    to = another_primary(rig, at)
    near, far = rig.clients[at], rig.clients[to]
    far.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", rig.node_id(at))
    near.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", rig.node_id(to))
    stranger = next(f"stranger {i}" for i in range(9999) if tag_of(f"stranger {i}") == 9)
    with pytest.raises(StoreUnavailable, match="the cluster is being changed") as waits:
        store.load([stranger])
    assert "CLUSTER NODES" in (waits.value.remedy or "")
    for client in (near, far):
        client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    assert process(store, make_events, CUSTOMERS, BATCH) == 1


def test_a_primary_that_is_suspended_loses_its_tags_and_what_it_does_later_changes_nothing(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 0)
    at = rig.primary_of(b"{s05}")
    follow(rig, at)
    replica = rig.replica_of(at)
    rig.nodes[at]._process.send_signal(signal.SIGSTOP)
    try:
        again = read_on(store, make_events, CUSTOMERS, BATCH, 2 * BATCH)
    finally:
        rig.nodes[at]._process.send_signal(signal.SIGCONT)
    assert again == []
    assert rig.primary_of(b"{s05}") == replica
    assert read_on(store, make_events, CUSTOMERS, 2 * BATCH, 3 * BATCH) in ([], [2 * BATCH])
    wait_for(rig.is_whole)
    until_there(store.verify)
    assert same_as_in_memory(store, make_events, CUSTOMERS, 0, 3 * BATCH)


def test_a_beginning_that_broke_off_is_gone_on_with_and_a_lost_part_is_read_from_0(
    rig: RedisClusterRig, store: ShardedStore
) -> None:
    other = ("events", 1)
    store.begin({other: 70})
    server = rig.clients[rig.primary_of(b"{s07}")]
    for kind in ("watermark", "start"):
        server.delete(f"{NS}:{{s07}}:{kind}:events:1")
    later = open_store(settings_of(rig), SPACE)
    assert later.watermarks([other]) == {other: 70}, "nobody has moved since it was begun"
    later.begin({other: 70})
    later.advance({other: 90})
    assert store.watermarks([other]) == {other: 90}
    server.delete(f"{NS}:{{s07}}:watermark:events:1")
    later.close()
    last = open_store(settings_of(rig), SPACE)
    assert last.watermarks([other]) == {other: 0}
    last.close()
    with pytest.raises(StoreRewound) as lost:
        store.begin({other: 0})
    assert lost.value.offsets == {other: 0}


def test_what_there_is_once_in_a_namespace_works_beside_the_records(
    rig: RedisClusterRig, store: ShardedStore, make_events: Any
) -> None:
    process(store, make_events, CUSTOMERS, 0)
    settings = settings_of(rig)
    server = RedisServer(redis_client(settings))
    announced = Announcements(server, NS)
    announced.announce(ModelIdentity("v", "path", "digest"), None)
    assert announced.current() is not None
    shown = CustomerRecords(server, NS, SPACE.fingerprint).load([*CUSTOMERS[:9], "stranger"])
    assert pack(shown.states, 1) == pack(store.load([*CUSTOMERS[:9], "stranger"]), 1)
    assert shown.namespace_known
    watch = EvictionWatch(server, allowed=False)
    watch.refuse()
    at = rig.clients[rig.primary_of(b"{s05}")]
    at.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match="allkeys-lru"):
        watch.refuse()
    at.config_set("maxmemory-policy", "noeviction")
    store.keep_identity()
    assert store.stored_identity() == store.identity
    with pytest.raises(ConfigError, match=r"redis\.mode: 'cluster'.*does not work"):
        Erasures(server, NS, SPACE.fingerprint).erase({"a": 1, "b": 2})
    server.close()
    # The embedded Redis is 6.2, and keeps no files.
    expected = {"redis persistence", "redis version"}
    assert {f.check for f in redis_findings(settings) if not f.ok} <= expected


def test_a_namespace_of_another_declaration_in_one_part_is_refused(
    rig: RedisClusterRig, store: ShardedStore
) -> None:
    rig.clients[rig.primary_of(b"{s07}")].set(f"{NS}:{{s07}}:fingerprint", "0" * 16)
    with pytest.raises(StreamScorerError, match=r"parts of it hold vectors of.*0000"):
        store.claim()


def test_one_node_without_the_mode_is_refused_with_the_remedy(rig: RedisClusterRig) -> None:
    plain = RedisStore(redis.Redis(port=rig.nodes[0].port), "test", 1)
    with pytest.raises(ConfigError, match=r'redis\.mode to "cluster"'):
        EvictionWatch(plain.server, allowed=False).refuse()
    plain.close()


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("NS:c:a", b"NS:{s%02d}:c:a" % tag_of("a")),
        ("NS:c:x:{s01}:y", b"NS:{s%02d}:c:x:{s01}:y" % tag_of("x:{s01}:y")),
        ("NS:r:zo\u00eb", "NS:{{s{:02d}}}:r:zo\u00eb".format(tag_of("zo\u00eb")).encode()),
        ("NS:{s07}:c:{a}", b"NS:{s07}:c:{a}"),
        ("NS:members", b"NS:{s00}:members"),
        ("NS:topic:c:a", b"NS:{s00}:topic:c:a"),
    ],
)
def test_each_key_has_one_place(key: str, found: bytes) -> None:
    assert placed(key)[1] == found
    assert placed(found) == placed(key), "its place stays"


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("redis://a/3", r"redis\.url: .*no database but 0"),
        ("unix:///tmp/r", r"redis\.url: .*name a Sentinel or a node"),
    ],
    ids=["database", "socket"],
)
def test_settings_that_a_cluster_can_t_have_are_one_line(url: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        Settings.load(None, environment={}, overrides={"redis": {"mode": "cluster", "url": url}})
