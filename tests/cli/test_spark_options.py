"""What is reported before Spark starts; needs neither PySpark nor Java."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.errors import ConfigError
from stream_scorer.spark import session

SCORE = ["score", "model", "snapshot", "--out", "scores"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "flink"], "choose local or spark"),
        (["--master", "local[2]"], "give --engine spark"),
        (["--conf", "spark.a=b"], "give --engine spark"),
        (["--engine", "spark", "--conf", "memory=1g"], "write spark.SOMETHING=VALUE"),
        (["--engine", "spark", "--conf", "spark.memory"], "write spark.SOMETHING=VALUE"),
    ],
)
def test_wrong_option_is_one_line_and_status_2(options: list[str], said: str) -> None:
    ran = CliRunner().invoke(cli.app, [*SCORE, *options])
    assert (ran.exit_code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert said in ran.stderr


def test_absent_pyspark_is_reported_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: None)
    ran = CliRunner().invoke(cli.app, [*SCORE, "--engine", "spark"])
    assert ran.exit_code == 2
    assert "pip install 'stream-scorer[spark]'" in ran.stderr


def test_absent_java_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: object())
    monkeypatch.setattr(session.shutil, "which", lambda _: None)  # type: ignore[attr-defined]
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(ConfigError, match="needs Java 17"), session.session():
        pass


def test_replay_on_spark_makes_labelled_snapshots_only() -> None:
    arguments = ["replay", "events", "--out", "out", "--engine", "spark"]
    ran = CliRunner().invoke(cli.app, arguments)
    assert ran.exit_code == 2
    assert "give --cutoffs" in ran.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("An error\n: java.lang.X: gone\n\tat a\nCaused by: b: why\n\tat c", "b: why"),
        ("An error occurred\n: java.lang.X: gone\n\tat a", "java.lang.X: gone"),
        ("[PATH_NOT_FOUND] no such path", "[PATH_NOT_FOUND] no such path"),
        ("", "no reason given"),
    ],
)
def test_a_stack_trace_becomes_one_line(text: str, reason: str) -> None:
    assert session._reason(text) == reason
