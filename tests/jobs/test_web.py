"""`web` serves a namespace as it is, joins nothing, and stops when asked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.io.stores.members import Members
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.settings.tree import Settings
from tests.web.fixed_group import member

COMMAND = [sys.executable, "-m", "stream_scorer", "web", "--port", "0"]


def test_web_shows_the_members_of_a_group_and_stops_in_good_order(tmp_path: Path) -> None:
    with EmbeddedRedis() as redis:
        config = tmp_path / "scorer.toml"
        config.write_text(f'[redis]\nurl = "{redis.url}"\n[store]\nnamespace = "shop"\n')
        settings = Settings.load(config, environment={})
        server = RedisServer(redis_client(settings))
        Members(server, "shop").beat(member(1))
        server.close()
        with subprocess.Popen([*COMMAND, "-c", str(config)], stderr=subprocess.PIPE) as process:
            try:
                assert process.stderr is not None
                url = process.stderr.readline().decode().split()[-1]
                with urllib.request.urlopen(f"{url}api/status", timeout=60) as answer:
                    status = json.loads(answer.read())
                with urllib.request.urlopen(f"{url}readyz", timeout=60) as answer:
                    assert json.loads(answer.read()) == {"ok": True, "reason": "Redis answers"}
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    assert [one["client_id"] for one in status["members"]] == ["scorer-1"]
    assert status["totals"]["partitions"] == 4


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ('[web]\ntoken = "short"', [], "web.token: (secret): must have at least 16 characters"),
        ("[web]\nhost_names = ['http://x']", [], "web.host_names[0]: 'http://x': write a host"),
        ("", ["--host", "no such host"], "--port: '0': can't listen on no such host"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, text: str, arguments: list[str], said: str
) -> None:
    config = tmp_path / "scorer.toml"
    config.write_text(text)
    ended = subprocess.run(
        [*COMMAND, "-c", str(config), *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "short" not in ended.stderr.replace("(secret)", "")
