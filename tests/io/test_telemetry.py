"""Metrics as Prometheus reads them, and log lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.features.ignored_values import IgnoredCount
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.exposition import exposition
from stream_scorer.io.telemetry import Metrics, log_to_stderr


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers, root.level = handlers, level


def read(metrics: Metrics) -> dict[str, float]:
    _, text = exposition(metrics.registry, "")
    lines = text.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_a_batch_is_counted_once() -> None:
    metrics = Metrics()
    dead_letter = DeadLetter("t", 0, 0, -1, Reason.UNDECODABLE, "", None, None)
    report = BatchReport(
        records=10, applied=7, duplicates=2, customers=5, propensities=5,
        dead_letters=[dead_letter], seconds={"poll": 0.5},
        ignored=[IgnoredCount("category_id", "unknown_word", 4, "brot")],
    )  # fmt: skip
    metrics.observe(report)
    found = read(metrics)
    assert found['stream_scorer_events_total{outcome="applied"}'] == 7
    assert found['stream_scorer_events_total{outcome="duplicate"}'] == 2
    assert found['stream_scorer_dead_letters_total{reason="undecodable"}'] == 1
    ignored = 'stream_scorer_ignored_values_total{field="category_id",problem="unknown_word"}'
    assert found[ignored] == 4
    assert found['stream_scorer_stage_seconds_sum{stage="poll"}'] == 0.5
    assert found["stream_scorer_batch_customers_sum"] == 5
    assert found["stream_scorer_propensities_total"] == 5


def test_lag_of_a_partition_given_up_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.observe_lag({("t", 0): 3, ("t", 1): 4})
    metrics.observe_lag({("t", 1): 5})
    lag = {k: v for k, v in read(metrics).items() if "consumer_lag" in k}
    assert lag == {'stream_scorer_consumer_lag{partition="1",topic="t"}': 5.0}


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
