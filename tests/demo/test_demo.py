"""The demo as a user runs it, on a small slice of the real data."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream_scorer", "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.mxnet
def test_the_whole_loop_accounts_for_every_event() -> None:
    ran = run("--households", "120", "--json")
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert found["events"] > 5000
    assert found["events"] == found["applied"] + found["duplicates"] + found["dead_letters"]
    assert found["applied"] == found["events"]
    assert found["customers_scored"] == found["propensities_published"] > 100
    assert found["consumer_lag"] == 0
    assert set(found["stages"]) == {
        "poll", "decode", "load", "apply", "save", "csr", "score", "encode", "publish", "commit",
    }  # fmt: skip
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["quality"]["log_loss"] < found["prior"]["log_loss"]
    assert found["quality"]["macro_auc"] > 0.6
    assert found["quality"]["recall_at_10"] > found["prior"]["recall_at_10"]
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("arguments", [("--households", "0"), ("--seconds", "soon")])
def test_a_wrong_argument_is_one_clear_message(arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert ran.returncode == 2
    assert arguments[0] in ran.stderr
    assert "Traceback" not in ran.stderr
