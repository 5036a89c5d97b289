"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from stream_scorer.io.telemetry.log_lines import log_to_stderr
from stream_scorer.log_events import event


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers, root.level = handlers, level


def test_a_log_line_is_one_json_object(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr("info", "json")
    logging.getLogger("x").info("two\nlines %d", 3)
    logging.getLogger("x").debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("info", "x", "two\nlines 3")
    assert found["time"].endswith("Z")
    assert list(found) == ["time", "level", "logger", "message", "event"]
    assert found["event"] is None


def test_an_event_has_its_name_and_its_fields_beside_the_message_and_no_secret(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr("info", "json")
    said = event("model_announced", model_version="7", announcement=3, path="s3://me:pw@host/m")
    logging.getLogger("x").info("model %s", 7, extra=said)
    logging.getLogger("of.another.package").info("its own", extra={"event": 5})
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    del ours["time"]
    assert ours == {
        "level": "info", "logger": "x", "message": "model 7", "event": "model_announced",
        "model_version": "7", "announcement": 3, "path": "s3://***@host/m",
    }  # fmt: skip
    assert theirs["event"] is None


def test_a_text_line_is_the_same_with_an_event_and_without(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr("info", "text")
    logging.getLogger("x").info("it moves", extra=event("keys_evicted", keys=3))
    logging.getLogger("x").info("it moves")
    one, two = capsys.readouterr().err.splitlines()
    assert one.split(" ", 1)[1] == two.split(" ", 1)[1] == "info    it moves"


def test_a_text_line_stays_one_line(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr("warning", "text")
    logging.getLogger("x").warning("two\nlines")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("warning two | lines")


@pytest.mark.parametrize("character", ["\r", "\x1b", "\x0b", "\x85", "\u2028", "\x00"])
def test_an_id_with_a_control_character_begins_no_line_and_moves_no_terminal(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str], character: str
) -> None:
    log_to_stderr("warning", "text")
    try:
        raise ValueError(f"customer ann{character}[2K is no customer")
    except ValueError:
        logging.getLogger("x").exception("customer ann%sFAKE", character)
    text = capsys.readouterr().err
    assert character not in text
    escaped = character.encode("unicode_escape").decode()
    first, *_, last = text.splitlines()
    assert first.endswith(f"customer ann{escaped}FAKE")
    assert last == f"ValueError: customer ann{escaped}[2K is no customer"


def test_a_json_line_is_json_whatever_its_fields_are(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr("info", "json")
    fields: dict[str, Any] = {
        "delay_seconds": float("nan"), "server": ["redis://u:pw@host", "kafka"],
        "error": ValueError("odd"),
    }  # fmt: skip
    logging.getLogger("x").info("an\u2028id", extra={"event": "server_awaited", "fields": fields})
    (line,) = capsys.readouterr().err.splitlines()

    def no_constant(text: str) -> None:
        pytest.fail(f"{text} is no JSON")

    found = json.loads(line, parse_constant=no_constant)
    assert found["delay_seconds"] is None
    assert found["server"] == ["redis://***@host", "kafka"]
    assert found["error"] == "odd"
