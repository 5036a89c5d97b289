"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from stream_scorer.io.telemetry.log_lines import log_to_stderr


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


def test_a_text_line_stays_one_line(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr("warning", "text")
    logging.getLogger("x").warning("two\nlines")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("warning two | lines")
