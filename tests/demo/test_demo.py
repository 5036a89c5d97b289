"""The demo as a user runs it, on a small slice of the real data."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder, decode_propensities
from stream_scorer.core.trend import TrendTable
from stream_scorer.demo import scenario
from stream_scorer.demo.report import examples_of
from stream_scorer.live.scoring import Scoring
from stream_scorer.model import artefact


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
        "sample",
    }  # fmt: skip
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["quality"]["log_loss"] < found["prior"]["log_loss"]
    assert found["quality"]["macro_auc"] > 0.6
    assert found["quality"]["recall_at_10"] > found["prior"]["recall_at_10"]
    assert "Traceback" not in ran.stderr


@pytest.mark.mxnet
def test_the_page_shows_what_was_streamed_and_closes_at_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stream_scorer", "demo", "--web", "--households", "60"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout is not None
            found = json.loads(process.stdout.readline())
            url = re.search(r"http://127\.0\.0\.1:\d+/", (tmp_path / "log").read_text())
            assert url is not None
            customer = found["customers"][0]["customer_id"]
            with urllib.request.urlopen(
                f"{url[0]}api/customers/{customer}/propensities?top_k=3", timeout=60
            ) as answer:
                shown = json.loads(answer.read())
            status: dict[str, Any] = {"totals": {"events": {}}}
            until = time.monotonic() + 60
            # The member says what it has done with its next heartbeat.
            while not status["totals"]["events"] and time.monotonic() < until:
                with urllib.request.urlopen(f"{url[0]}api/status", timeout=60) as answer:
                    status = json.loads(answer.read())
                time.sleep(0.1)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert len(shown["propensities"]) == 3
    assert status["totals"]["members"] == 1
    assert status["totals"]["events"]["applied"] <= found["applied"]
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.mxnet
def test_with_a_trend_it_is_trained_on_checked_and_known_from_the_past_when_streaming_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_scorer.demo.run import demo  # noqa: PLC0415 - imports MXNet

    declared = files("stream_scorer.demo").joinpath("demo.toml").read_text()
    if 'kind = "trend"' not in declared:
        declared += (
            '[[features]]\nname = "trend"\nkind = "trend"\non = ["purchase"]\n'
            'by = ["category_id"]\nhalf_lives = ["7d", "60d"]\n'
        )
    (tmp_path / "demo.toml").write_text(declared)
    monkeypatch.setattr(scenario, "files", lambda _package: tmp_path)
    tables: list[TrendTable] = []
    use = Scoring.use

    def noted(scoring: Scoring, table: TrendTable) -> None:
        tables.append(table)
        use(scoring, table)

    monkeypatch.setattr(Scoring, "use", noted)
    assert demo(seconds=0.1, households=60, keep=tmp_path / "kept", as_json=True)
    kept = artefact.load(tmp_path / "kept" / "model")
    card, golden = artefact.card(kept), artefact.golden_batch(kept)
    assert card is not None
    assert card["quality"]["overall"]["log_loss_minus_prior"]["value"] < 0
    assert golden is not None
    for known in (golden.trend, tables[-1]):
        assert known is not None
        assert np.abs(known.contrasts).max() > 0.1


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
