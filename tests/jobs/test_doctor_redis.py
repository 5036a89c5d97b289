"""`doctor` looks at Redis, and tries what `run` will do with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.checks.clocks import redis_clock_findings
from stream_scorer.checks.finding import Finding
from stream_scorer.checks.redis import redis_findings
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.settings.tree import Settings

Findings = dict[str, Finding]
SECRET = "tr0ub4dor"


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


@pytest.fixture
def admin(redis_server: EmbeddedRedis) -> Iterator[Any]:
    with redis.Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
def findings(settings: Settings) -> Callable[..., Findings]:
    def found(**changes: Any) -> Findings:
        options = type(settings.redis)(**{**settings.redis.model_dump(), **changes})
        changed = settings.model_copy(update={"redis": options})
        return {finding.check: finding for finding in redis_findings(changed)}

    return found


def test_a_server_that_is_fit_is_shown_with_its_version_and_role(
    findings: Callable[..., Findings], admin: Any
) -> None:
    found = findings()
    assert found["redis"].found.endswith("Redis 6.2.14, a primary")
    assert found["redis commands"] == Finding(
        "redis commands", "all that `run` does was tried on keys of its own"
    )
    assert found["redis eviction"] == Finding("redis eviction", "noeviction")
    assert admin.dbsize() == 0


def test_the_clock_of_redis_is_asked_where_it_answers(settings: Settings) -> None:
    (found,) = redis_clock_findings(settings)
    assert found.ok
    away = settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    assert not list(redis_clock_findings(settings.model_copy(update={"redis": away})))


def test_a_missing_permission_is_found_though_only_a_script_needs_it(
    findings: Callable[..., Findings], admin: Any
) -> None:
    admin.execute_command(
        "ACL", "SETUSER", "scorer", "on", f">{SECRET}", "~*", "+@all", "-getrange"
    )  # fmt: skip
    found = findings(username="scorer", password=SECRET)
    assert found["redis commands"].found == "redis.username: scorer"
    assert "'getrange' command" in str(found["redis commands"].remedy)
    assert admin.dbsize() == 0


def test_a_wrong_password_is_named_and_not_shown(
    findings: Callable[..., Findings], admin: Any
) -> None:
    admin.config_set("requirepass", SECRET)
    found = findings(password=SECRET + "!")
    assert set(found) == {"redis"}
    assert found["redis"].found.endswith("redis.password: (secret)")
    assert "correct redis.username, and redis.password" in str(found["redis"].remedy)
    assert SECRET not in f"{found}"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/one", "redis://127.0.0.1:1/0?db=one"])
def test_a_database_that_is_no_number_is_refused(
    findings: Callable[..., Findings], url: str
) -> None:
    found = findings(url=url)["redis"]
    assert "redis.url" in found.found
    assert "redis://HOST:PORT" in str(found.remedy)


def test_a_replica_is_found(findings: Callable[..., Findings], admin: Any) -> None:
    admin.replicaof("127.0.0.1", 1)
    found = findings()
    assert set(found) == {"redis"}
    assert "a replica" in found["redis"].found
    assert "name the primary" in str(found["redis"].remedy)


def test_a_policy_that_evicts_is_found_and_so_is_what_it_did(
    findings: Callable[..., Findings], admin: Any
) -> None:
    admin.config_set("maxmemory-policy", "allkeys-random")
    wrong = findings()["redis eviction"]
    assert wrong.found.startswith("maxmemory-policy is allkeys-random")
    assert "CONFIG SET maxmemory-policy noeviction" in str(wrong.remedy)
    assert "redis.allow_eviction" in str(wrong.remedy)
    assert findings(allow_eviction=True)["redis eviction"].ok
    admin.config_set("maxmemory", admin.info("memory")["used_memory"] + 300_000)
    for i in range(2000):
        admin.set(f"filler {i}", "x" * 1000)
    admin.config_set("maxmemory", 0)
    admin.config_set("maxmemory-policy", "noeviction")
    late = findings()["redis eviction"]
    assert "keys evicted since it started" in late.found
    assert "verify --sample 0" in str(late.remedy)


@pytest.mark.parametrize("verb", ["run", "export", "verify"])
@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("password", SECRET, "redis.password: (secret): redis://127.0.0.1:{port}/0 does not"),
        ("url", "redis://127.0.0.1:{port}/99", "redis.url: 'redis://127.0.0.1:{port}/99': the ser"),
        ("username", "limited", "redis.username: 'limited': this user may not do what is needed"),
    ],
    ids=["password", "database", "permission"],
)
def test_verbs_end_with_one_line_and_status_2(
    config: Path, admin: Any, redis_server: EmbeddedRedis, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, verb: str, setting: str, value: str, line: str,
) -> None:  # fmt: skip
    admin.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", "-set")
    if setting == "password":
        admin.config_set("requirepass", "another")
    if setting == "username":
        monkeypatch.setenv("STREAM_SCORER__REDIS__PASSWORD", "pw")
    name = f"STREAM_SCORER__REDIS__{setting.upper()}"
    monkeypatch.setenv(name, value.format(port=redis_server.port))
    options = ["--out", str(tmp_path / "out")] if verb == "export" else []
    ended = CliRunner().invoke(cli.app, [verb, "-c", str(config), *options])
    assert ended.exit_code == 2
    (shown,) = [text for text in ended.stderr.splitlines() if text.startswith("stream-scorer: ")]
    assert shown.startswith("stream-scorer: " + line.format(port=redis_server.port))
    assert SECRET not in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("verb", ["run", "replay", "export", "verify"])
@pytest.mark.parametrize(
    ("url", "status", "remedy"),
    [
        ("redis://127.0.0.1:1/0", 1, "nothing listens there"),
        ("redis://no-such-host.invalid:1/0", 2, "this host name is unknown here"),
        ("redis://127.0.0.1:0/0", 2, "write redis://HOST:PORT/DATABASE"),
        ("unix://", 2, "write unix:///PATH?db=DATABASE"),
        ("unix:///tmp/none.sock?db=one", 2, "write unix:///PATH?db=DATABASE"),
    ],
    ids=["refused", "host", "port", "path", "database"],
)
def test_verbs_that_can_not_reach_redis_name_setting_value_and_remedy(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, url: str,
    status: int, remedy: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("STREAM_SCORER__REDIS__URL", url)
    (tmp_path / "events.jsonl").write_text("")
    options = {
        "export": ["--out", str(tmp_path / "out")],
        "replay": [str(tmp_path / "events.jsonl"), "--into", "another"],
    }
    ended = CliRunner().invoke(cli.app, [verb, "-c", str(config), *options.get(verb, [])])
    assert ended.exit_code == status
    (line,) = [text for text in ended.stderr.splitlines() if text.startswith("stream-scorer: ")]
    assert line.startswith(f"stream-scorer: redis.url: '{url.partition('?')[0]}")
    assert remedy in line


@pytest.mark.parametrize("verb", ["run", "replay"])
def test_what_writes_vectors_refuses_a_replica(
    config: Path, admin: Any, tmp_path: Path, verb: str
) -> None:
    admin.replicaof("127.0.0.1", 1)
    (tmp_path / "events.jsonl").write_text("")
    options = [str(tmp_path / "events.jsonl"), "--into", "another"] if verb == "replay" else []
    ended = CliRunner().invoke(cli.app, [verb, "-c", str(config), *options])
    assert ended.exit_code == 2
    assert "this is a replica, which takes no writes; name the primary" in ended.stderr
