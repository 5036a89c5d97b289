"""The demo as a user runs it, on a small slice of the real data."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder, decode_propensities
from stream_scorer.demo.report import examples_of


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


def test_the_shown_propensities_of_a_customer_are_its_newest_not_the_last_read() -> None:
    encoder = PropensityEncoder(["bread", "tea"], 2, "m", "0" * 16)
    rows = [("ann", 7, 50, 0.9), ("bob", 3, 10, 0.5), ("ann", 6, 60, 0.1), ("ann", 7, 40, 0.2)]
    values = []
    for customer, offset, as_of, tea in rows:
        values += encoder.encode_all(
            [customer.encode()], np.array([as_of]), 9, [("events", 0)], np.zeros(1, np.int32),
            np.array([offset]), np.array([[0.3, tea]], np.float32),
        )  # fmt: skip
    found = examples_of(decode_propensities(values), ("bread", "tea"), top=1)
    shown = {e.customer_id: e.top[0].as_json() for e in found}
    assert [e.customer_id for e in found] == ["bob", "ann"]
    assert shown["ann"]["probability"] == 0.9
