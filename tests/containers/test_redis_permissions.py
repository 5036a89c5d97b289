"""The least rights of the Redis user, on the Redis of the images: its errors have other words than
those of the embedded 6.2 (tests/io/stores/test_redis_refusals.py)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from servers import RedisServer

from stream_scorer.errors import ConfigError
from stream_scorer.io.stores.redis_errors import READ_COMMANDS, RUN_COMMANDS
from stream_scorer.io.stores.redis_health import redis_health
from stream_scorer.io.stores.rehearsal import rehearse

pytestmark = pytest.mark.containers

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-on-your-servers.md"


def test_the_user_of_the_page_is_enough_and_each_missing_command_is_named(
    start_redis: Callable[..., RedisServer],
) -> None:
    server = start_redis()
    (line,) = re.findall(r"^ACL SETUSER scorer (.+)$", PAGE.read_text(), re.MULTILINE)
    rules = line.split()

    def client(without: str = "") -> redis.Redis:
        left = [rule for rule in rules if rule != without]
        server.client.execute_command("ACL", "SETUSER", "scorer", "reset", *left)
        return redis.Redis(port=server.port, username="scorer", password="PASSWORD")

    assert rehearse(client(), "stream-scorer") == []
    assert redis_health(client(), "stream-scorer", "events").product.startswith("Redis 7")
    for command in (*RUN_COMMANDS, *READ_COMMANDS):
        rule = "+" + command.lower().replace(" ", "|")
        if command == "INFO":
            assert rehearse(client(rule), "stream-scorer") == []
            continue
        with pytest.raises(ConfigError) as refused:
            rehearse(client(rule), "stream-scorer")
        shown, _, remedy = str(refused.value).partition("; allow it")
        assert shown.startswith("redis.username: 'scorer': this user may not do what is needed")
        assert f"'{command.partition(' ')[0].lower()}" in shown
        assert command in remedy
    assert server.client.dbsize() == 0
