"""What /metrics shows, read by Prometheus's own parser and judged by its rules for names."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.exposition import exposition
from stream_scorer.io.telemetry.metrics import Metrics

pytestmark = pytest.mark.deploy


def check(promtool: str, text: bytes) -> subprocess.CompletedProcess[bytes]:
    """promtool's verdict: exit status 0, and not a word, where all is well."""
    return subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )


def test_promtool_finds_nothing_wrong_with_any_metric(tool: Callable[[str], str]) -> None:
    metrics = Metrics()
    for metric in vars(metrics).values():
        if getattr(metric, "_labelnames", ()):
            metric.labels(*metric._labelnames)  # each has a series, so that all of it is shown
    metrics.observe(BatchReport(records=3, waited_seconds=np.array([0.5])))
    _, text = exposition(metrics.registry, "")
    found = check(tool("promtool"), text)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_promtool_would_find_a_wrong_name(tool: Callable[[str], str]) -> None:
    wrong = b"# HELP a_milliseconds x\n# TYPE a_milliseconds counter\na_milliseconds 1\n"
    found = check(tool("promtool"), wrong)
    assert found.returncode != 0
    assert b"_total" in found.stderr + found.stdout
