"""`init`: the starter is whole, its commands run to the end, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.errors import InputError
from stream_scorer.jobs import init as job
from stream_scorer.settings.tree import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent


def test_the_printed_commands_run_on_the_starter_to_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shown = CliRunner().invoke(cli.app, ["init", str(folder), "--json"])
    assert shown.exit_code == 0
    report = json.loads(shown.stdout)
    assert sorted(report) == [
        "categories", "commands", "customers", "directory", "events", "files",
    ]  # fmt: skip
    assert all((folder / name).is_file() for name in report["files"])
    verbs = []
    for command in report["commands"]:
        program, *arguments = command.split()
        assert program == "stream-scorer"
        ran = subprocess.run(
            [sys.executable, "-m", "stream_scorer", *arguments, "--json"],
            cwd=folder, capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        verbs.append((arguments[0], json.loads(ran.stdout)))
    assert [verb for verb, _ in verbs] == ["replay", "replay", "replay", "train", "evaluate"]
    replayed, trained, evaluated = verbs[0][1], verbs[3][1], verbs[4][1]
    assert replayed["events"] == report["events"]
    assert replayed["dead_letters"] == {}
    assert trained["categories"] == report["categories"]
    assert evaluated["metrics"]["log_loss"] < evaluated["baselines"]["prior"]["log_loss"]


def test_people_see_the_same_commands(tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli.app, ["init", str(tmp_path)])
    assert shown.exit_code == 0
    for command in job.commands():
        assert f"  {command}\n" in shown.stdout


def test_every_starter_is_the_same(tmp_path: Path) -> None:
    first, second = (job.init(tmp_path / name) for name in ("a", "b"))
    assert first.files == second.files
    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_starters_settings_are_the_example_with_the_vocabulary_in_a_file(
    tmp_path: Path,
) -> None:
    job.init(tmp_path)
    starter = Settings.load(tmp_path / job.CONFIG_FILE, environment={})
    example = Settings.load(ROOT / "deploy" / "stream_scorer.toml", environment={})
    assert starter.vocabularies == {"category_id": job.CATEGORIES}
    same = {"vocabularies": example.vocabularies, "model": example.model}
    assert starter.model_copy(update=same) == example
    assert example.label_rule().horizon_ms == 14 * 86_400_000


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    taken = tmp_path if kind == "directory" else tmp_path / "precious.txt"
    (tmp_path / "precious.txt").write_text("precious")
    with pytest.raises(InputError, match="not an empty directory"):
        job.init(taken)
    ran = CliRunner().invoke(cli.app, ["init", str(taken)])
    assert ran.exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_a_folder_that_can_not_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        job.init(tmp_path / "file" / "shop")


@pytest.mark.parametrize("folder", ["new", "empty"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("flushes_before", range(6))
def test_an_interrupted_start_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    error: BaseException,
    flushes_before: int,
) -> None:
    """Each of three files is flushed, and then the folder that it is in: six times."""
    (tmp_path / "empty").mkdir()
    left = [flushes_before]
    flush = os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise error
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises((KeyboardInterrupt, InputError)):
        job.init(tmp_path / folder)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["empty"]


def test_a_directory_that_is_there_stays_the_same_directory(tmp_path: Path) -> None:
    """`init .` is run from a shell that stands in it."""
    before = tmp_path.stat().st_ino
    job.init(tmp_path)
    assert tmp_path.stat().st_ino == before


def test_the_package_carries_the_annotated_example() -> None:
    """Installed in place it is read from deploy/; for a wheel the project file has to list it."""
    assert job.example_config() == (ROOT / "deploy" / "stream_scorer.toml").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert "stream_scorer.deploy" in project["packages"]
    assert project["package-dir"]["stream_scorer.deploy"] == "deploy"
    assert project["package-data"]["stream_scorer.deploy"] == ["stream_scorer.toml"]
