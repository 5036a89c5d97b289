"""The command line: exit status, stdout and stderr, help."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.bench.workload import Sizes
from stream_scorer.cli.application import moment_ms, verb
from stream_scorer.errors import BusUnavailable, ConfigError, Halt, InputError, StreamScorerError
from stream_scorer.jobs.score import score

VERBS = [
    ["demo"], ["init"], ["run"], ["publish"], ["topics", "create"], ["topics", "check"],
    ["dead-letters", "list"], ["dead-letters", "replay"], ["export"],
    ["replay"], ["verify"], ["backtest"],
    ["train"], ["evaluate"], ["score"], ["doctor"], ["bench"], ["plan"], ["warm"],
    ["models", "list"], ["models", "verify"], ["models", "activate"], ["models", "rollback"],
    ["customer", "show"], ["customer", "explain"], ["customer", "forget"], ["customer", "history"],
]  # fmt: skip
AWAY = "[kafka]\nbootstrap_servers = '127.0.0.1:1'\n[redis]\nurl = 'redis://127.0.0.1:1/0'\n"


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_scorer", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_help_has_an_example_that_names_the_verb(words: list[str]) -> None:
    shown = CliRunner().invoke(cli.app, [*words, "--help"])
    assert shown.exit_code == 0
    assert f"Example: stream-scorer {' '.join(words)}" in shown.stdout


def examples(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from examples(inner, (*words, name))
    if command.epilog:
        yield words, command.epilog.removeprefix("Example: stream-scorer ")


EXAMPLES = list(examples(typer.main.get_command(cli.app)))


@pytest.mark.parametrize(("words", "example"), EXAMPLES, ids=str)
def test_an_example_is_what_the_verb_takes_and_names_the_config_of_init(
    words: tuple[str, ...], example: str
) -> None:
    command: Any = typer.main.get_command(cli.app)
    for word in words:
        command = command.commands[word]
    arguments = cli.spread(shlex.split(example))
    assert tuple(arguments[: len(words)]) == words
    context = command.make_context(words[-1], arguments[len(words) :])  # parsed, and not run
    assert context.params.get("config") in (None, Path("stream_scorer.toml"), Path("new.toml"))


def test_help_lists_the_verbs_of_a_newcomer_first() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).stdout.partition("Commands:")[2].split("\n")
    names = [line.split()[0] for line in shown if line.startswith("  ") and line[2] != " "]
    assert names[:5] == ["demo", "init", "features", "replay", "train"]


@pytest.mark.parametrize(
    ("words", "option", "default"),
    [
        (["score"], "model_engine", inspect.signature(score).parameters["model_engine"].default),
        (["bench"], "customers", Sizes.customers),
        (["bench"], "runs", None),  # 5, of the stage peers 3
    ],
    ids=str,
)
def test_an_option_has_the_default_of_what_it_sets(
    words: list[str], option: str, default: object
) -> None:
    command = typer.main.get_command(cli.app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert {p.name: p.default for p in command.params}[option] == default


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom stream_scorer.cli import app\n"
        "app(args=['--help'], standalone_mode=False)\n"
        "print([m for m in ('numpy', 'numba', 'mxnet', 'pydantic') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a.b", 3, "make it 4"), 2),
        (BusUnavailable("Kafka is away"), 1),
        (Halt("look here"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_error_of_ours_is_one_line_and_a_status(error: BaseException, status: int) -> None:
    app = typer.Typer()

    @app.command()
    @verb
    def fails() -> None:
        raise error

    ran = CliRunner().invoke(app, [])
    assert ran.exit_code == status
    ours = isinstance(error, StreamScorerError)
    assert ran.stderr == f"stream-scorer: {error if ours else 'interrupted before it was done'}\n"
    assert ran.stdout == ""


def test_wrong_setting_is_reported_in_one_line_with_status_2(tmp_path: Path) -> None:
    config = tmp_path / "scorer.toml"
    config.write_text("[batch]\nmax_events = 0\n")
    ran = call("run", "-c", str(config))
    assert ran.returncode == 2
    assert ran.stderr == "stream-scorer: batch.max_events: '0': must be greater than 0\n"


@pytest.mark.parametrize("arguments", [["bogus"], ["publish"], ["train", "x"], ["run", "--bogus"]])
def test_wrong_usage_has_status_2(arguments: list[str]) -> None:
    ran = call(*arguments)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_missing_model_is_one_line_with_status_2(tmp_path: Path) -> None:
    config = tmp_path / "scorer.toml"
    config.write_text(AWAY + "[vocabularies]\ncategory_id = ['a']\n[[features]]\nname = 'x'\n")
    ran = call("run", "-c", str(config))
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "there is no model" in ran.stderr


def test_missing_event_file_is_one_line_with_status_2(tmp_path: Path) -> None:
    ran = call("publish", str(tmp_path / "no.avro"))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)


@pytest.mark.mxnet
def test_doctor_prints_one_json_object_and_fails_where_something_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "scorer.toml"
    config.write_text(AWAY)
    ran = call("doctor", "--json", STREAM_SCORER_CONFIG=str(config))
    report = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert report["ok"] is False
    wrong = {f["check"]: f["remedy"] for f in report["findings"] if not f["ok"]}
    assert set(wrong) == {"features", "kafka", "redis", "model"}
    assert all(wrong.values())


def test_interrupt_leaves_with_130_and_no_traceback(tmp_path: Path) -> None:
    """Whatever a verb is doing."""
    code = (
        "import os, signal, sys\nfrom stream_scorer import cli\n"
        "cli.streaming.load_settings = lambda _c: os.kill(os.getpid(), signal.SIGINT) or input()\n"
        "sys.argv = ['stream-scorer', 'doctor']\ncli.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert ran.returncode == 130
    assert ran.stderr.splitlines()[-1] == "stream-scorer: interrupted before it was done"
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("train a b --out m", "train a b --out m"),
        ("train a --validation c d --out m", "train a --validation c --validation d --out m"),
        ("train --validation c --validation d", "train --validation c --validation d"),
        ("train a --out m --validation c", "train a --out m --validation c"),
    ],
)
def test_validation_takes_several_snapshots(given: str, understood: str) -> None:
    assert cli.spread(given.split()) == understood.split()


@pytest.mark.parametrize("text", ["2026-11-24", "yesterday", "2026-11-24T08:00:00"])
def test_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="ISO 8601 with a zone"):
        moment_ms("--as-of", text)


def test_times_are_iso_8601_with_a_zone() -> None:
    assert moment_ms("--as-of", "1970-01-01T01:00:00.001+01:00") == 1
    assert moment_ms("--as-of", "1970-01-01T00:00:02Z") == 2000
