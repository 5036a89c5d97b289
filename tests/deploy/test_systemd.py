"""The systemd units: systemd itself reads them without a complaint, and they hold what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stream_scorer.live.stop import STOP_SECONDS
from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
PROGRAM = "/opt/stream-scorer/bin/stream-scorer"
EXPOSURE = 20  # of 100, by `systemd-analyze security`; a unit without hardening has 96

Call = Callable[..., Any]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is here, and an instance of the template."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for unit in folder.glob("*.service"):
        text = unit.read_text(encoding="utf-8")
        assert PROGRAM in text
        unit.write_text(text.replace(PROGRAM, sys.executable), encoding="utf-8")
    shutil.copy(folder / "stream-scorer@.service", folder / "stream-scorer@1.service")
    return folder


def values(name: str) -> dict[str, list[str]]:
    """The settings of a unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        setting = re.fullmatch(r"(\w+)=(.*)", line)
        if setting:
            found.setdefault(setting[1], []).append(setting[2])
    return found


def test_systemd_has_nothing_to_say_about_them(call: Call, units: Path) -> None:
    named = [path for path in units.iterdir() if path.suffix in (".service", ".target")]
    named = [path for path in named if path.name != "stream-scorer@.service"]
    said = call("systemd-analyze", "verify", "--man=no", *named)
    assert said.stdout + said.stderr == ""


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("RestartSec=5", "RestartSeconds=5", "RestartSeconds"),
        ("Type=exec", "Type=service", "service type"),
        ("[Install]", "[Instal]", "'Instal'"),
    ],
)
def test_a_wrong_unit_is_noticed(
    call: Call, units: Path, right: str, wrong: str, words: str
) -> None:
    unit = units / "stream-scorer@1.service"
    text = unit.read_text(encoding="utf-8")
    assert right in text
    unit.write_text(text.replace(right, wrong), encoding="utf-8")
    assert words in call("systemd-analyze", "verify", "--man=no", unit).stderr


def test_a_member_can_reach_little_of_its_machine(call: Call, units: Path) -> None:
    for unit in units.glob("stream-scorer*.service"):
        if "@." not in unit.name:
            options = ("--offline=true", f"--threshold={EXPOSURE}")
            call("systemd-analyze", "security", *options, unit)


def test_a_stop_has_its_time_and_bad_input_is_not_tried_again() -> None:
    unit = values("stream-scorer@.service")
    assert int(unit["TimeoutStopSec"][0]) >= STOP_SECONDS + 2
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert unit["Type"] == ["exec"]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_their_settings_are_settings_of_the_program(tmp_path: Path) -> None:
    lines = values("stream-scorer@.service")["Environment"]
    secrets = values("stream-scorer@.service.d/secrets.conf")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for line in secrets["LoadCredential"]:
        name, source = line.split(":")
        (credentials / name).write_text("secret\n")
        assert source == f"/etc/stream-scorer/secrets/{name}"
    specifiers = {"%H": "shop-1", "%i": "2", "%C": "/var/cache", "%d": str(credentials)}
    environment = {}
    for line in lines + secrets["Environment"]:
        name, _, value = line.partition("=")
        for specifier, meant in specifiers.items():
            value = value.replace(specifier, meant)
        assert "%" not in value, line
        environment[name] = value
    settings = Settings.load(ROOT / "deploy" / "stream_scorer.toml", environment=environment)
    assert settings.kafka.client_id == settings.kafka.group_instance_id == "stream-scorer-shop-1-2"
    assert settings.telemetry.port == 9102
    assert settings.redis.password_file == credentials / "redis-password"
    assert environment["STREAM_SCORER_KERNEL_CACHE"] == "/var/cache/stream-scorer"


def test_units_of_a_machine_share_its_target_and_what_they_can_reach() -> None:
    member, page = values("stream-scorer@.service"), values("stream-scorer-web.service")
    for unit in (member, page):
        assert unit["PartOf"] == unit["WantedBy"] == ["stream-scorer.target"]
    # The page needs no name, and less memory.
    assert page["Environment"] == [line for line in member["Environment"] if "__" not in line]
    own = {"Description", "ExecStart", "ExecReload", "Environment", "MemoryMax"}
    assert {k: v for k, v in page.items() if k not in own} == (
        {k: v for k, v in member.items() if k not in own}
    )


def test_units_call_verbs_that_there_are() -> None:
    for name in ("stream-scorer@.service", "stream-scorer-web.service"):
        (line,) = values(name)["ExecStart"]
        words = line.removeprefix(PROGRAM).split()
        command = [sys.executable, "-m", "stream_scorer", *words, "--help"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr


def test_the_target_starts_with_the_machine() -> None:
    assert values("stream-scorer.target")["WantedBy"] == ["multi-user.target"]
