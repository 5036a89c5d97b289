"""Customers forgotten on request while events flow: whatever happens then, they stay forgotten."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness.member import wait_until
from harness.rig import Rig
from harness.stream import SPACE
from harness.verdict import judge, single_pass
from servers import RedisServer

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.features.erasure import erased_and_gone, erased_ms
from stream_scorer.core.features.state import NEVER, take
from stream_scorer.model import artefact
from stream_scorer.model.engines.native import NativeEngine

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

BACK, GONE, UNKNOWN = "customer-0000", "customer-0001", "not-seen-yet"
FORGOTTEN = (BACK, GONE, UNKNOWN)
BY_HTTP, TOKEN = "customer-0003", "a-token-of-enough-characters"


def command(rig: Rig, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, result and messages of a verb with the first member's config."""
    line = [sys.executable, "-m", "stream_scorer", *words, "-c", str(rig.members[0].config)]
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def last_words(rig: Rig) -> dict[str, bytes | None]:
    """By customer the value of the last record in the output topic."""
    messages = rig.kafka.read_topic(rig.output, settled=True)
    return {(m.key() or b"").decode(): m.value() for m in messages}


def come_back(rig: Rig, customer: str) -> None:
    """One event of now."""
    event: dict[str, Any] = {
        "event_id": "back", "customer_id": customer, "event_type": "view",
        "category_id": "category-03", "product_id": None, "value": None,
        "occurred_at": time.time_ns() // 1_000_000, "attributes": {},
    }  # fmt: skip
    (value,) = encode_events([event])
    rig.kafka.produce(rig.input, [(customer.encode(), value)])


def forget(rig: Rig, *options: str) -> dict[str, Any]:
    status, done, said = command(rig, "customer", "forget", "--yes", *options)
    assert status == 0, said + json.dumps(done)
    return done


def forget_by_http(rig: Rig, customer: str) -> dict[str, Any]:
    """The receipt of a member that was asked."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{rig.members[0].port}/api/customers/{customer}/forget",
        method="POST", headers={"Authorization": f"Bearer {TOKEN}"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        receipt: dict[str, Any] = json.load(answer)
    return receipt


def test_forgotten_customers_stay_forgotten(
    make_rig: Callable[..., Rig], start_redis: Callable[..., RedisServer], tmp_path: Path,
    model: Path,
) -> None:  # fmt: skip
    server = start_redis()
    rig = make_rig(
        redis_url=server.url, seed=5, customers=60,
        settings={
            "store": {"time_to_live_seconds": 0},  # the events are years old
            "refresh": {"every": "2s", "least_change": 0},
        },
    )  # fmt: skip
    rig.redis = server
    rig.under_load(per_second=200, backlog=800)
    copy = server.backup(tmp_path / "copy")
    rig.more_is_done(100)

    receipt = tmp_path / "receipt.json"
    done = forget(rig, *FORGOTTEN, "--scan-dead-letters", "--receipt", str(receipt))
    assert json.loads(receipt.read_text()) == done
    assert [c["known"] for c in done["customers"]] == [True, True, False]
    assert all(c["tombstone"] for c in done["customers"])
    assert {i: last_words(rig)[i] for i in FORGOTTEN} == dict.fromkeys(FORGOTTEN)

    # Late events, and events that are read again after a kill.
    rig.more_is_done(100)
    rig.members[0].kill()
    rig.members[0].start()
    rig.more_is_done(100)
    states = rig.stored()
    rows = [states.customer_ids.index(i) for i in FORGOTTEN]
    assert erased_and_gone(states)[rows].all()
    assert {i: last_words(rig)[i] for i in FORGOTTEN} == dict.fromkeys(FORGOTTEN)

    # A backup of before is restored: members know whom it brings back.
    rig.members[0].reading()  # a member that starts without a Redis ends
    server.kill()
    server.restore(copy)
    server.start()
    wait_until(
        "the erasures are restored",
        lambda: any("Redis lost that 3 customers" in m.whole_log() for m in rig.members), 60,
    )  # fmt: skip
    rig.more_is_done(100)
    # What was published of them between the loss and this.
    forget(rig, "--again", str(receipt))

    come_back(rig, BACK)
    rig.stop_feeding()
    rig.caught_up()
    rig.stop()
    stored = rig.stored()
    at = {i: stored.customer_ids.index(i) for i in FORGOTTEN}
    assert (erased_ms(stored)[list(at.values())] != NEVER).all()
    assert erased_and_gone(stored)[[at[GONE], at[UNKNOWN]]].all()
    back = take(stored, np.array([at[BACK]])).arrays
    assert len(back.stamp_column) == 1  # of its one event
    words = last_words(rig)
    assert words[BACK] is not None
    assert words[GONE] is None
    assert words[UNKNOWN] is None

    others_leave_them_out(rig, tmp_path)
    others_are_right(rig, model)


def others_leave_them_out(rig: Rig, tmp_path: Path) -> None:
    """What reads the namespace or the log, with the config alone."""
    status, verified, said = command(rig, "verify", "--sample", "0")
    assert status == 0, said + json.dumps(verified)
    assert verified["forgotten_on_request"] == len(FORGOTTEN)
    status, _, said = command(rig, "export", "--out", str(tmp_path / "exported"))
    assert status == 0, said
    ids = set(pq.read_table(tmp_path / "exported", columns=["customer_id"])[0].to_pylist())
    assert ids & set(FORGOTTEN) == {BACK}
    status, replayed, said = command(rig, "replay", "topic", "--out", str(tmp_path / "replayed"))
    assert status == 0, said
    assert replayed["erased_events"] > 100
    table = pq.read_table(tmp_path / "replayed" / "propensities.parquet")
    assert set(table["customer_id"].to_pylist()) & set(FORGOTTEN) == {BACK}


def others_are_right(rig: Rig, model: Path) -> None:
    """Nobody else lost anything by it."""
    output = rig.kafka.read_topic(rig.output, settled=True)
    verdict = judge(
        single_pass(rig.kafka.read_topic(rig.input)), rig.stream, rig.stored(),
        [m for m in output if m.value() is not None],
        rig.kafka.read_topic(rig.dead, settled=True),
        NativeEngine(artefact.load(model, SPACE.fingerprint), threads=1), refreshed=True,
    )  # fmt: skip
    wrong = [
        f for f in verdict.findings if f.customer not in (*FORGOTTEN, "all")
    ]  # one record is not the stream's
    assert not wrong, wrong[:5]


def test_the_last_word_is_a_tombstone_under_exactly_once(make_rig: Callable[..., Rig]) -> None:
    settings = {
        "kafka": {"delivery": "exactly_once"}, "web": {"token": TOKEN, "forget": True},
    }  # fmt: skip
    rig = make_rig(seed=6, customers=4, settings=settings)
    rig.under_load(members=1, per_second=300, backlog=300)
    _, planned, _ = command(rig, "customer", "forget", BACK, GONE, UNKNOWN)
    assert (planned["customers"], planned["known"]) == (3, 2)
    assert command(rig, "customer", "forget", "--list")[1]["customers"] == {}
    done = forget(rig, BACK, GONE)
    listed = command(rig, "customer", "forget", "--list")[1]["customers"]
    assert listed == {c["customer_id"]: c["forgotten_at"] for c in done["customers"]}
    by_http = forget_by_http(rig, BY_HTTP)
    assert (by_http["done"], by_http["problem"]) == (True, "")
    done["customers"] += by_http["customers"]
    rig.more_is_done(200)
    rig.stop_feeding()
    rig.caught_up()
    rig.stop()
    words = last_words(rig)
    assert (words[BACK], words[GONE], words[BY_HTTP]) == (None, None, None)
    assert words["customer-0002"] is not None
    sent = {c["customer_id"]: c["tombstone"] for c in done["customers"]}
    found = {
        (m.key() or b"").decode(): (m.partition(), m.offset())
        for m in rig.kafka.read_topic(rig.output, settled=True)
        if m.value() is None
    }
    assert found == {i: (t["partition"], t["offset"]) for i, t in sent.items()}
