"""A namespace remembers with which rules it was read: what was left out stays left out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import InputError
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live.counting_rules import bind_rules, changed_rules, rules_text
from stream_scorer.settings.tree import Settings

FEATURES = [{"name": "n"}]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as started:
        yield started


@pytest.fixture
def store(server: EmbeddedRedis) -> Iterator[RedisStore]:
    client: Any = redis.Redis(port=server.port)
    client.flushall()
    opened = RedisStore(client, "ns", 1)
    yield opened
    opened.close()


def settings(ignored: tuple[str, ...] = (), **store: int) -> Settings:
    overrides = {
        "features": FEATURES, "store": store, "vocabularies": {"category_id": ["a"]},
        "events": {"ignored_customer_ids": list(ignored)},
    }  # fmt: skip
    return Settings.load(None, overrides=overrides, environment={})


def test_a_customer_who_is_no_longer_ignored_is_named_at_each_start(
    store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        bind_rules(store, settings(("guest", "test")))
        bind_rules(store, settings(("guest", "test", "more")))
        assert caplog.messages == []
        for _ in range(2):
            bind_rules(store, settings(("test",)))
    first, again = caplog.messages
    assert first == again
    assert first.startswith("events.ignored_customer_ids no longer has 'guest', 'more': this names")
    assert first.endswith("replay the events into a new namespace")
    assert changed_rules(store, settings(("guest", "test", "more"))) == ()


@pytest.mark.parametrize("back", [False, True])
def test_another_time_to_live_is_reported_also_where_it_was_changed_back(
    store: RedisStore, caplog: pytest.LogCaptureFixture, back: bool
) -> None:
    bind_rules(store, settings(time_to_live_seconds=100))
    now = settings(time_to_live_seconds=200)
    bind_rules(store, now)
    if back:
        bind_rules(store, now := settings(time_to_live_seconds=100))
    (line,) = changed_rules(store, now)
    words = "is 100, and this namespace was read with 200" if back else "is 200, and"
    assert line.startswith(f"store.time_to_live_seconds {words}")
    assert caplog.messages[-1] == line


def test_an_emptied_namespace_is_bound_to_the_rules_of_now(store: RedisStore) -> None:
    """It is read again from its beginning, with these alone."""
    bind_rules(store, settings(time_to_live_seconds=100))
    store.server.client.flushall()
    store.claim(rules_text(settings(time_to_live_seconds=200)))
    assert changed_rules(store, settings(time_to_live_seconds=200)) == ()


@pytest.mark.parametrize("junk", ["", "junk", "[]", "{}", '{"store.time_to_live_seconds": 1}'])
def test_rules_that_another_program_wrote_are_one_line(store: RedisStore, junk: str) -> None:
    store.change_rules(junk)
    with pytest.raises(InputError, match=r"stored rules: 'ns:rules': .*delete this key"):
        bind_rules(store, settings())


def test_a_namespace_of_an_older_release_is_bound_without_a_word(
    store: RedisStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.claim()
    assert changed_rules(store, settings()) == ()
    with caplog.at_level(logging.WARNING):
        bind_rules(store, settings())
    assert caplog.messages == []
    assert set(json.loads(store.rules())) == {
        "store.time_to_live_seconds", "events.remember_event_ids", "events.ignored_customer_ids",
    }  # fmt: skip
