"""Events and refreshes of quiet customers interleaved, with members killed in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from harness.rig import Rig, kill_at_random

from stream_scorer.core.avro.propensity_encoder import decode_propensities

pytestmark = [
    pytest.mark.containers,
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

MakeRig = Callable[..., Rig]
EVERY_SECONDS = 2


def asked(rig: Rig, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, result and messages of `stream-scorer refresh`."""
    command = [sys.executable, "-m", "stream_scorer", "refresh", "-c", str(rig.members[0].config)]
    done = subprocess.run(
        [*command, "--json", *options], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_quiet_customers_are_refreshed_in_order_through_kills(
    make_rig: MakeRig, delivery: str
) -> None:
    rig = make_rig(
        seed=11, customers=600,
        settings={
            "kafka": {"delivery": delivery},
            "store": {"time_to_live_seconds": 0},  # the events are years old
            "refresh": {"every": f"{EVERY_SECONDS}s", "least_change": 0},
        },
    )  # fmt: skip
    status, _, said = asked_without_members(rig)
    assert status == 2, said
    assert "no live members" in said
    rig.publish(800)
    rig.start(2)
    rig.feed(200)
    kill_at_random(rig, 2, 11)
    rig.stop_feeding()
    for member in rig.members:
        member.reading()
    rig.caught_up()
    # Now nobody is killed: within a round each customer comes once.
    calm_ms = time.time_ns() // 1_000_000
    status, found, said = asked(rig)
    assert status == 0, said
    assert found["unfinished"] == []
    # Members look once a second whether they were asked. A round of the interval that began in that
    # second may have scored everyone by then, and the request finds all fresh. So what counts is
    # what was published, below.
    assert found["customers"] > 0
    assert found["customers"] >= found["refreshed"]
    asked_ms = time.time_ns() // 1_000_000
    assert asked(rig, "--as-of", "2024-01-01T00:00:00Z")[1]["refreshed"] == 0
    verdict = rig.finish(refreshed=True)
    print(f"{delivery}: {found}; {verdict}")
    verdict.assert_clean()
    values = [m.value() or b"" for m in rig.kafka.read_topic(rig.output, settled=True)]
    published = decode_propensities(values)
    moments = Counter(zip(published.customer_ids, published.as_of_ms.tolist(), strict=True))
    refreshed = Counter(c for c, at in moments if calm_ms <= at <= asked_ms)
    assert refreshed.keys() == set(rig.stored().customer_ids)
    rounds = (asked_ms - calm_ms) // (1000 * EVERY_SECONDS) + 3
    assert max(refreshed.values()) <= rounds
    if delivery == "exactly_once":
        assert verdict.repeats == 0
        assert verdict.backwards == 0


def asked_without_members(rig: Rig) -> tuple[int, dict[str, Any], str]:
    rig.member()  # its config; not started
    found = asked(rig)
    rig.members.clear()
    return found
