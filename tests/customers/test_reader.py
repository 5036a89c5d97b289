"""What a reader shows of customers is what members keep and score."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import redis

from stream_scorer.core.events.erased_customers import erased_line
from stream_scorer.core.features import csr
from stream_scorer.core.features.state import CustomerStates, concatenate_states, take
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.id_files import all_ids, read_ids
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.customers.shown_in_words import shown_in_words
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import FingerprintMismatch, InputError, StoreUnavailable
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import open_store, redis_client
from stream_scorer.live.served_model import identity_of
from stream_scorer.model import artefact
from stream_scorer.model.spec import NetworkSpec
from stream_scorer.settings.tree import Settings
from tests.customers.conftest import DAY_MS, NOW_MS, START_MS, Shop, random_model


def open_reader(shop: Shop, now_ms: int = NOW_MS) -> CustomerReader:
    return CustomerReader.open(shop.settings, lambda: now_ms)


def test_the_vector_is_that_of_the_record_newest_first(shop: Shop) -> None:
    with open_reader(shop) as reader:
        found = reader.show("anna")
    store = open_store(shop.settings, shop.settings.feature_space())
    states = store.load(["anna"])
    store.close()
    row = csr.build(states, shop.settings.feature_space(), np.array([NOW_MS]))
    shown = {c.column: c.model_value for c in found.columns}
    assert shown == dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))
    moments = [c.newest_event for c in found.columns if c.newest_event]
    assert all(later >= earlier for later, earlier in pairwise(moments))
    assert found.columns[0].newest_event == found.newest_event == "2022-04-17T00:00:00Z"
    by_name = {c.name: c for c in found.columns}
    soup = by_name["bought@2d[category_id=soup]"]
    assert soup.value == pytest.approx(2**-10 + 2**-5, rel=1e-6)
    assert soup.model_value == pytest.approx(0.5 * np.log1p(soup.value), rel=1e-6)
    assert (
        soup.words == "number of purchase events with category_id soup; each counts half after 2d"
    )
    gap = by_name["gap"]
    assert (gap.value, gap.stored) == (9.0, 3.0)
    assert (gap.first_event, gap.newest_event) == ("2022-03-29T00:00:00Z", "2022-04-16T00:00:00Z")
    since = by_name["since@14d[category_id=soup]"]
    assert since.value == pytest.approx(2 ** (-10 / 14), rel=1e-6)
    assert (since.value_in_words, gap.value_in_words) == ("10.0 days", "9.0 days")
    assert by_name["since@inf[category_id=soup]"].value_in_words == "10.0 days"
    assert [c.kind for c in found.columns[-2:]] == ["calendar", "trend"]
    assert (found.as_of, found.age_seconds) == ("2022-04-18T00:00:00Z", 86_400.0)
    with redis.Redis.from_url(shop.redis.url) as client:
        assert found.record_bytes == client.strlen("shop:c:anna") > 36  # of the head
    assert found.expires_in_seconds is not None


def test_propensities_are_those_of_the_engine(shop: Shop) -> None:
    with open_reader(shop) as reader:
        (found,) = reader.propensities(["anna"])
        shown = reader.show("anna", top_k=2)
    assert found is not None
    assert len(found.entries) == 4  # publish.top_k, 10, is more than there are
    assert shown.propensities == found.entries[:2]
    assert shown.model_version == found.model_version
    probabilities = [entry.probability for entry in found.entries]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {entry.action for entry in found.entries} == {"purchase"}


def test_unknown_and_forgotten_customers_are_said_to_be_so(shop: Shop) -> None:
    ttl_ms = 1000 * shop.settings.store.time_to_live_seconds
    with open_reader(shop, START_MS + DAY_MS + ttl_ms + 1) as reader:
        found = reader.show_all(["nobody", "old", "anna"])
        assert reader.propensities(["nobody", "old"]) == [None, None]
    assert found.not_found == 1
    nobody, old, anna = found.customers
    assert (nobody.found, old.found, anna.found) == (False, True, True)
    assert (old.forgotten, anna.forgotten) == (True, False)
    assert (len(old.propensities), len(anna.propensities)) == (0, 4)
    words = "\n".join(shown_in_words(found))
    assert "customer nobody: not known in namespace shop" in words
    assert "forgotten: silent for longer than store.time_to_live_seconds" in words


def test_who_was_erased_is_said_to_be_so(shop: Shop) -> None:
    settings = shop.settings
    server = RedisServer(redis_client(settings))
    until = NOW_MS - DAY_MS // 4
    erasures = Erasures(server, settings.store.namespace, settings.feature_space().fingerprint)
    erasures.erase({"c7": until})
    with open_reader(shop) as reader:
        found = reader.show_all(["c7"])
        explained = reader.explain("c7")
        assert reader.propensities(["c7"]) == [None]
        # One who has come back since has a vector again: here what another one did.
        store = open_store(settings, settings.feature_space())
        both = concatenate_states(store.load(["c7"]), store.load(["c8"])).arrays
        sources = {name: getattr(both, name) for name in both._fields if name[:7] == "source_"}
        sources["source_at"] = np.array([0, len(both.source_topic)])
        last = take(CustomerStates(["c7", "c8"], both), np.array([1])).arrays
        back = CustomerStates(["c7"], last._replace(**sources))
        assert len(store.save(back, np.array([0]))) == 0
        store.close()
        again = reader.show("c7")
    server.close()
    (one,) = found.customers
    assert (one.found, found.not_found, explained.found) == (False, 1, False)
    assert one.erased_until == explained.erased_until == "2022-04-17T18:00:00Z"
    assert "erased on request" in shown_in_words(found)[0]
    assert (again.found, again.erased_until) == (True, one.erased_until)
    assert all(source.partition >= 0 for source in again.sources)
    assert again.columns


def test_moments_that_no_record_can_show_are_refused(shop: Shop) -> None:
    with open_reader(shop) as reader:
        with pytest.raises(InputError, match="customer anna has had an event at 2022-04-17"):
            reader.show("anna", NOW_MS - 2 * DAY_MS)
        with pytest.raises(InputError, match="lies in the future"):
            reader.show("anna", NOW_MS + 1)
        assert reader.show("anna", NOW_MS - DAY_MS).age_seconds == 0
    # A producer's clock may be ahead of this one.
    with open_reader(shop, NOW_MS - 5 * DAY_MS) as reader:
        assert reader.show("anna").as_of == "2022-04-17T00:00:00Z"


@pytest.mark.parametrize("customer_id", ["", "\udc80", "x" * 1_000_001])
def test_what_can_be_nobodys_id_is_refused(shop: Shop, customer_id: str) -> None:
    with open_reader(shop) as reader, pytest.raises(InputError, match="customer id"):
        reader.show(customer_id)


def test_a_namespace_of_another_declaration_or_of_nothing_is_named(shop: Shop) -> None:
    settings = shop.settings
    other = settings.model_copy(update={"features": settings.features[:-1]})
    with CustomerReader.open(other, lambda: NOW_MS) as reader:
        assert "model" in reader.problem
        with pytest.raises(FingerprintMismatch, match="holds vectors of feature declaration"):
            reader.show("anna")
    empty = settings.store.model_copy(update={"namespace": "empty"})
    with CustomerReader.open(settings.model_copy(update={"store": empty})) as reader:
        found = reader.show_all(["anna"])
    assert not found.namespace_known
    assert "namespace empty holds nothing" in shown_in_words(found)[-1]


def test_vectors_are_shown_without_a_model(shop: Shop, tmp_path: Path) -> None:
    model = shop.settings.model.model_copy(update={"path": tmp_path / "none"})
    with CustomerReader.open(
        shop.settings.model_copy(update={"model": model}), lambda: NOW_MS
    ) as reader:
        found = reader.show_all(["anna"])
        with pytest.raises(InputError, match="no model can be served here"):
            reader.propensities(["anna"])
    assert found.customers[0].columns
    assert found.customers[0].propensities == ()
    assert "there is no model" in found.model_problem


def test_nothing_is_written_and_rights_to_look_are_enough(shop: Shop) -> None:
    with redis.Redis.from_url(shop.redis.url) as client:
        before = {key: client.dump(key) for key in client.keys("shop:*")}
        client.execute_command(
            "ACL", "SETUSER", "looks", "reset", "on", ">word", "~shop:*", "+get", "+mget"
        )
        url = shop.redis.url.replace("redis://", "redis://looks:word@")
        server = shop.settings.redis.model_copy(update={"url": url})
        settings = shop.settings.model_copy(update={"redis": server})
        with CustomerReader.open(settings, lambda: NOW_MS) as reader:
            found = reader.show("anna")
            assert reader.propensities(["anna"])[0] is not None
        assert (found.expiry_known, found.expires_in_seconds) == (False, None)
        assert {key: client.dump(key) for key in client.keys("shop:*")} == before


def announce(settings: Settings, path: Path) -> None:
    server = RedisServer(redis_client(settings))
    Announcements(server, settings.store.namespace).announce(identity_of(path), None)
    server.close()


def test_an_announced_model_is_taken_over_while_it_is_open(shop: Shop, tmp_path: Path) -> None:
    settings = shop.settings
    artefact.save(random_model(settings, 2, NetworkSpec((4,))), tmp_path / "m2")
    try:
        with CustomerReader.open(settings, lambda: NOW_MS) as reader:
            first = reader.show("anna").model_version
            assert not reader.models.look()
            announce(settings, tmp_path / "m2")
            assert reader.models.look()
            second = reader.show("anna").model_version
            assert second != first
            # One that can't be served: the one before goes on, and it is said.
            artefact.save(random_model(settings, 3, NetworkSpec((5,))), tmp_path / "m3")
            announce(settings, tmp_path / "m3")
            (tmp_path / "m3" / artefact.PARAMS_FILE).unlink()
            assert not reader.models.look()
            assert reader.show("anna").model_version == second
            assert artefact.PARAMS_FILE in reader.problem
    finally:
        with redis.Redis.from_url(shop.redis.url) as client:
            client.delete("shop:model")


def test_a_reader_that_follows_takes_over_by_itself(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The announced model, and the shop's trend as Redis has it by then."""
    monkeypatch.setattr("stream_scorer.customers.reader.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("stream_scorer.customers.reader.READ_SECONDS", 0.04)
    settings = shop.settings
    artefact.save(random_model(settings, 2, NetworkSpec((4,))), tmp_path / "m2")
    with redis.Redis.from_url(shop.redis.url) as client:
        trends = {key: client.get(key) for key in client.keys("shop:trend*")}
        assert trends
        client.delete(*trends)
        try:
            with CustomerReader.open(settings, lambda: NOW_MS, follow=True) as reader:
                before = reader.explain("anna", ["soup"], top_inputs=None)
                announce(settings, tmp_path / "m2")
                client.mset(trends)
                until = time.monotonic() + 60
                while time.monotonic() < until:
                    now = reader.explain("anna", ["soup"], top_inputs=None)
                    changed = now.model_version != before.model_version
                    if changed and trend_of(now) != trend_of(before):
                        break
                    time.sleep(0.01)
        finally:
            client.mset(trends)
            client.delete("shop:model")
    assert now.model_version == artefact.load(tmp_path / "m2").manifest.model_version
    assert trend_of(before) == []
    assert trend_of(now)
    assert not [t for t in threading.enumerate() if t.name == "customer reader"]


def trend_of(found: Explanation) -> list[float]:
    """The contrasts that move the logit."""
    return [i.value for i in found.explained[0].inputs if i.column is None]


def test_a_canary_serves_its_customers(shop: Shop, tmp_path: Path) -> None:
    artefact.save(random_model(shop.settings, 2, NetworkSpec((4,))), tmp_path / "m2")
    challenger = shop.settings.challenger.model_copy(
        update={"path": tmp_path / "m2", "mode": "canary", "share": 0.5}
    )
    ids = [f"c{i}" for i in range(50)]
    with CustomerReader.open(
        shop.settings.model_copy(update={"challenger": challenger}), lambda: NOW_MS
    ) as reader:
        found = reader.propensities(ids)
        singly = [reader.propensities([customer])[0] for customer in ids]
    versions = [one.model_version for one in found if one is not None]
    assert found == singly
    assert len(versions) == 50
    assert len(set(versions)) == 2


def test_a_redis_that_is_away_is_said_to_be_so(shop: Shop) -> None:
    server = shop.settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    with pytest.raises(StoreUnavailable):
        CustomerReader.open(shop.settings.model_copy(update={"redis": server}))


def test_a_reader_outlives_a_restart_of_redis(shop: Shop) -> None:
    with EmbeddedRedis() as server:
        url = shop.settings.redis.model_copy(update={"url": server.url})
        settings = shop.settings.model_copy(update={"redis": url})
        with CustomerReader.open(settings, lambda: NOW_MS) as reader:
            assert not reader.show_all(["anna"]).namespace_known
            server.kill()
            with pytest.raises(StoreUnavailable):
                reader.show("anna")
            server.start()
            with (
                redis.Redis.from_url(shop.redis.url) as source,
                redis.Redis.from_url(server.url) as target,
            ):
                for key in (b"shop:fingerprint", b"shop:c:anna"):
                    target.restore(key, 0, source.dump(key))
            assert reader.show("anna").found


def test_json_has_its_keys(shop: Shop) -> None:
    with open_reader(shop) as reader:
        found = json.loads(json.dumps(reader.show_all(["anna"]).as_json()))
    assert list(found) == [
        "namespace", "customers", "not_found", "namespace_known", "model_problem",
    ]  # fmt: skip
    (customer,) = found["customers"]
    assert list(customer) == [
        "customer_id", "found", "as_of", "newest_event", "age_seconds", "forgotten",
        "forgotten_from", "record_bytes", "expires_in_seconds", "expiry_known", "sources",
        "model_version", "propensities", "columns", "erased_until",
    ]  # fmt: skip
    assert list(customer["sources"][0]) == ["topic", "topic_hash", "partition", "offset"]
    assert list(customer["propensities"][0]) == ["category_id", "class", "action", "probability"]
    assert list(customer["columns"][0]) == [
        "column", "name", "words", "kind", "value", "model_value", "stored", "first_event",
        "newest_event", "value_in_words",
    ]  # fmt: skip


def test_ids_come_from_arguments_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes("b\r\n\nä b\nb\r\n".encode("utf-8-sig"))
    assert read_ids(file) == ["b", "ä b"]
    assert all_ids(["c", "b"], file) == ["c", "b", "ä b"]
    file.write_text(erased_line("b", "2026-11-30T02:40:00Z"))
    with pytest.raises(InputError, match="give it with --again"):
        read_ids(file)
    file.write_bytes(b"\n")
    with pytest.raises(InputError, match="has no id"):
        read_ids(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_ids(file)
    with pytest.raises(InputError, match="can't be read"):
        read_ids(tmp_path / "none")
    with pytest.raises(InputError, match="give a customer's id"):
        all_ids([], None)
    monkeypatch.setattr("stream_scorer.customers.id_files.MOST_FILE_BYTES", 3)
    with pytest.raises(InputError, match="has more than 3 bytes"):
        read_ids(Path("/dev/zero"))  # as a pipe, it says that it has no bytes
    file.write_bytes(b"long")
    with pytest.raises(InputError, match="has more than 3 bytes; divide it"):
        read_ids(file)


def test_a_look_up_is_bounded(shop: Shop) -> None:
    with open_reader(shop) as reader, pytest.raises(InputError, match="10,000 customers at most"):
        reader.show_all(["anna"] * 10_001)
