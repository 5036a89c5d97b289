"""`models activate|rollback|status -c` and a member that runs: it switches, or says why not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.checks.members import member_findings, problems_of
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.errors import ArtefactError
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.members import Member, Members, MemberSaid
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.jobs import announced_models as job
from stream_scorer.live.consumer import Consumer
from stream_scorer.model import active_link, artefact
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import (
    flip,
    random_model,
    save_with_golden_batch,
    spoil_golden_scores,
)

MOST_SECONDS = 60


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


@pytest.fixture
def models(settings: Settings, tmp_path: Path) -> Path:
    """A folder of models a and b of the config's declaration, and `wider`, of another one."""
    for seed, name in enumerate("ab"):
        save_with_golden_batch(random_model(settings, seed), tmp_path / "models" / name)
    features = tuple(replace(f, half_lives=("9d",)) for f in settings.features)
    other = settings.model_copy(update={"features": features})
    save_with_golden_batch(random_model(other, 5), tmp_path / "models" / "other")
    return tmp_path / "models"


def call(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(cli.app, ["models", *map(str, arguments)])
    return ran.exit_code, ran.output


def server_of(settings: Settings) -> RedisServer:
    return RedisServer(redis.Redis.from_url(settings.redis.url))


def version(path: Path) -> str:
    return artefact.load(path).manifest.model_version


def test_a_model_is_announced_and_rolled_back_with_nobody_there(
    settings: Settings, models: Path, config: Path
) -> None:
    status, said = call("activate", models / "a", "-c", config)
    assert status == 0
    assert said.splitlines()[0].startswith(f"announced: {version(models / 'a')} ({models / 'a'})")
    assert said.splitlines()[1] == "no member runs"
    announcements = Announcements(server_of(settings), settings.store.namespace)
    first = announcements.current()
    assert first is not None
    assert first.previous is not None
    assert first.previous.path == str(settings.model.path)
    call("activate", models / "a", "-c", config)  # again: nothing new
    assert announcements.current() == first
    call("activate", models / "b", "-c", config)
    assert call("rollback", "-c", config)[0] == 0
    back = announcements.current()
    assert back is not None
    assert (back.number, back.model.path) == (3, str(models / "a"))
    assert not (models / "active").is_symlink()


def test_where_the_config_names_the_link_active_it_moves_with_the_announcement(
    settings: Settings, models: Path
) -> None:
    (models / "active").symlink_to("a")
    model = settings.model.model_copy(update={"path": models / "active"})
    linked = settings.model_copy(update={"model": model})
    job.announce(linked, models / "b", 0)
    assert (models / "active").resolve() == models / "b"
    job.roll_back(linked, 0)
    assert (models / "active").resolve() == models / "a"


def test_a_link_that_cannot_be_moved_is_reported_after_the_members_have_switched(
    settings: Settings, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "active").symlink_to("a")
    model = settings.model.model_copy(update={"path": models / "active"})
    linked = settings.model_copy(update={"model": model})

    def refused(link: Path, _name: str) -> None:  # as on a read-only mount, also for root
        raise ArtefactError("models", link, "can't be written: Read-only file system")

    monkeypatch.setattr(active_link, "_point", refused)
    done = job.announce(linked, models / "b", 0)
    assert not done.ok
    assert done.announcement.model.path == str(models / "b")
    assert "can't be written: Read-only file system" in done.link_not_moved
    assert done.link_not_moved in job.in_words(done)
    assert (models / "active").resolve() == models / "a"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("params", "SHA-256 is not the manifest's"),
        ("golden", "scores its rows differently than training did"),
        ("other", "fingerprint"),
        ("link", "name the model itself"),
    ],
)
def test_a_bad_artefact_is_announced_to_nobody(
    settings: Settings, models: Path, config: Path, name: str, reason: str
) -> None:
    job.announce(settings, models / "a", 0)
    model = models / ("other" if name == "other" else "b")
    if name == "params":
        flip(model / artefact.PARAMS_FILE)
    elif name == "golden":
        spoil_golden_scores(model)
    elif name == "link":
        model = models / "active"
        model.symlink_to("a")
    before = {key: server_of(settings).client.get(key) for key in (b"stream-scorer:model",)}
    status, said = call("activate", model, "-c", config)
    assert status == 2
    assert reason in said
    assert len(said.splitlines()) == 1
    assert {key: server_of(settings).client.get(key) for key in before} == before


def test_a_namespace_of_another_declaration_is_refused(settings: Settings, models: Path) -> None:
    server_of(settings).client.set("stream-scorer:fingerprint", "0123456789abcdef")
    with pytest.raises(Exception, match="use the config that its members run with"):
        job.announce(settings, models / "a", 0)


def test_roll_back_wants_the_very_artefact_of_before(settings: Settings, models: Path) -> None:
    with pytest.raises(ArtefactError, match="no model was announced before"):
        job.roll_back(settings, 0)
    job.announce(settings, models / "a", 0)
    job.announce(settings, models / "b", 0)
    (models / "a").rename(models / "moved")
    (models / "b").rename(models / "a")
    with pytest.raises(ArtefactError, match="another artefact than the one that was announced"):
        job.roll_back(settings, 0)


def said_by(settings: Settings, member: str, **more: Any) -> MemberSaid:
    values: dict[str, Any] = {
        "member": member, "client_id": "c", "host": "h", "pid": 1, "partitions": (0,),
        "model_version": "v", "model_path": "/m", "announcement": 1,
        "fingerprint": settings.feature_space().fingerprint_hex, "build": "0.1.0",
        "state": "serving", "reason": "", "started_ms": 0,
    }  # fmt: skip
    return MemberSaid(**(values | more))


def test_activate_waits_for_members_and_lists_those_that_did_not_switch(
    settings: Settings, models: Path
) -> None:
    members = Members(server_of(settings), settings.store.namespace)
    for name in "xy":
        members.beat(said_by(settings, name, announcement=0))
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        time.sleep(0.1)
        members.beat(said_by(settings, "x"))
        members.beat(
            said_by(settings, "y", announcement=0, state="refused", reason="is missing there")
        )

    done = job.announce(settings, models / "a", 0.3, sleep=sleep)
    assert naps
    assert not done.ok
    (line,) = done.not_switched
    assert line.endswith("refused v: is missing there")
    assert not job.status(settings).ok
    members.beat(said_by(settings, "y"))
    assert job.announce(settings, models / "a", 5).ok
    assert job.status(settings).ok


def test_status_and_findings_show_members_and_what_is_wrong(
    settings: Settings, config: Path
) -> None:
    assert call("status", "-c", config) == (
        0,
        "no model is announced: each member serves the model.path of its config\nno member runs\n",
    )
    members = Members(server_of(settings), settings.store.namespace)
    for name in ("v1", "v2"):
        members.beat(said_by(settings, name, announcement=0, model_version=name, partitions=(1, 3)))
    status, said = call("status", "-c", config, "--json")
    assert status == 1
    report = json.loads(said)
    assert [m["model_version"] for m in report["members"]] == ["v1", "v2"]
    assert report["problems"][0].startswith("members serve different models, v1, v2: announce one")
    found = list(member_findings(settings))
    assert found[0].check == "members of stream-scorer"
    assert found[0].found == (
        "member c (host h, process 1): serving v1, partitions 1, 3, version 0.1.0"
    )
    assert [f.check for f in found if not f.ok] == ["models served"]


@pytest.mark.parametrize(
    ("seconds", "state", "number", "problems"),
    [
        (5, "serving", 0, 0), (61, "serving", 0, 1), (61, "loading", 0, 1), (61, "serving", 1, 0),
        (1, "refused", 0, 1),
    ],
)  # fmt: skip
def test_a_member_has_a_minute_for_a_switch(
    settings: Settings, models: Path, seconds: int, state: str, number: int, problems: int
) -> None:
    announcement = job.announce(settings, models / "a", 0).announcement
    values = said_by(settings, "x", state=state, announcement=number).as_json()
    member = Member(**values, silent_seconds=0.0, gone=False)
    now_ms = announcement.announced_ms + 1000 * seconds
    assert len(problems_of(announcement, [member], now_ms)) == problems
    assert problems_of(announcement, [replace(member, gone=True)], now_ms) == ()


def test_folder_and_config_together_or_neither_is_refused(config: Path, models: Path) -> None:
    assert call("rollback")[0] == 2
    assert call("rollback", models, "-c", config)[0] == 2


def test_the_environment_does_not_make_activate_announce(
    settings: Settings, models: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_SCORER_CONFIG", str(config))
    assert call("activate", models / "a")[0] == 0
    assert Announcements(server_of(settings), settings.store.namespace).current() is None


def test_a_member_that_starts_takes_the_announced_model_or_does_not_start(
    settings: Settings, models: Path, kafka: EmbeddedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka.create(settings.kafka.input_topic)
    job.announce(settings, models / "a", 0)
    with Consumer(settings) as consumer:
        assert consumer.scoring.engine.model_version == version(models / "a")
    assert "rather than model.path" in caplog.text
    flip(models / "a" / artefact.PARAMS_FILE)
    with pytest.raises(ArtefactError, match=r"the members of namespace .* serve it"):
        Consumer(settings)


@pytest.fixture
def running(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "stream_scorer", "run", "-c", str(config)]
    with config.with_name("run.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
        yield process
        process.kill()
        process.wait()


def test_a_member_that_runs_switches_refuses_and_rolls_back(
    settings: Settings, models: Path, config: Path, kafka: EmbeddedKafka,
    redis_server: EmbeddedRedis, running: subprocess.Popen[bytes],
) -> None:  # fmt: skip
    kafka.create(settings.kafka.input_topic)

    def members() -> list[Member]:
        found = [m for m in job.status(settings).members if not m.gone]
        assert running.poll() is None, config.with_name("run.log").read_text()
        return found

    wait_until(members)
    assert members()[0].model_version == version(config.parent / "model")
    done = job.announce(settings, models / "a", 20)
    assert done.ok, done
    assert members()[0].model_version == version(models / "a")
    # Spoilt after the activating machine checked it, as a bad copy on another one would be.
    content = (models / "b" / artefact.PARAMS_FILE).read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        announce = Announcements.announce

        def spoilt(*arguments: Any) -> Any:
            flip(models / "b" / artefact.PARAMS_FILE)
            return announce(*arguments)

        patch.setattr(Announcements, "announce", spoilt)
        refused = job.announce(settings, models / "b", 3)
    assert not refused.ok
    (member,) = members()
    assert (member.state, member.model_version) == ("refused", version(models / "a"))
    assert "SHA-256 is not the manifest's" in member.reason
    (models / "b" / artefact.PARAMS_FILE).write_bytes(content)
    wait_until(lambda: members()[0].model_version == version(models / "b"))
    assert job.roll_back(settings, 20).ok
    with redis.Redis(port=redis_server.port) as client:
        client.delete("stream-scorer:model")
        wait_until(lambda: client.get("stream-scorer:model"))
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    assert job.status(settings).members == ()
    log = config.with_name("run.log").read_text()
    assert "Redis lost the announcement of model" in log
    assert log.count(" serving model ") == 3


def wait_until(condition: Any) -> None:
    until = time.monotonic() + MOST_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)
