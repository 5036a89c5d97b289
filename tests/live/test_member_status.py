"""What a member says of its work follows from its metrics, and stays small."""

from __future__ import annotations

import json

import pytest

from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.readings import Readings
from stream_scorer.io.stores.member_status import MOST_NAMES, MOST_PARTITIONS, STEPS, MemberStatus
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.health import Health
from stream_scorer.live.member_status import StatusOfMember

START_MS = 1_800_000_000_000


class Clock:
    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(metrics: Metrics, clock: Clock) -> StatusOfMember:
    health = Health(100)
    health.warmed_up()
    health.joined(0.0)
    health.assigned(3)
    return StatusOfMember(
        lambda: Readings.of(metrics.registry),
        health,
        clock,
        lambda: (clock.now_ms - START_MS) / 1000,
    )


def test_rates_are_of_the_last_minute_and_counts_since_the_start(
    metrics: Metrics, clock: Clock, said: StatusOfMember
) -> None:
    first = said()
    assert (first.events_per_second, first.latency, first.stage_ms) == (0, None, {})
    dead = DeadLetter("t", 0, 0, -1, Reason.UNDECODABLE, "", None, None)
    for _ in range(24):
        clock.now_ms += 5000
        metrics.observe(
            BatchReport(
                records=50, applied=45, duplicates=4, dead_letters=[dead], propensities=40,
                refused_writes=1, seconds={"score": 0.02},
            )
        )  # fmt: skip
        status = said()
    assert status.events_per_second == 10
    assert status.events == {"applied": 1080, "duplicate": 96}
    assert status.dead_letters == {"undecodable": 24}
    assert (status.propensities, status.refused_writes) == (960, 24)
    assert status.stage_ms == {"score": 20}
    assert status.recent_events[-1] == pytest.approx(10, abs=0.1)
    assert len(status.recent_events) == len(status.recent_lag) == STEPS
    assert status.recent_until_ms % 15_000 == 0


def test_an_hour_of_the_past_does_not_show_in_the_rate(
    metrics: Metrics, clock: Clock, said: StatusOfMember
) -> None:
    metrics.observe(BatchReport(records=10, applied=10))
    said()
    clock.now_ms += 3_600_000
    said()
    clock.now_ms += 60_000
    status = said()
    assert status.events_per_second == 0
    assert status.events == {"applied": 10}


def test_lag_is_that_of_the_partitions_read_now(metrics: Metrics, said: StatusOfMember) -> None:
    metrics.observe_lag(
        {("t", p): p for p in range(100)}, {("t", p): 0.5 * p for p in range(100)}, 100
    )
    status = said()
    assert (status.lag_records, status.lag_seconds) == (sum(range(100)), 49.5)
    assert [one.partition for one in status.lag] == list(range(100 - MOST_PARTITIONS, 100))
    assert status.recent_lag[-1] in (0, status.lag_records), "0 before the first step has ended"


def test_health_is_said_with_its_reasons(clock: Clock, said: StatusOfMember) -> None:
    status = said()
    assert (status.alive, status.ready, status.ready_reason) == (
        True,
        True,
        "3 partitions are read",
    )
    clock.now_ms += 101_000
    status = said()
    assert (status.alive, status.ready) == (False, False)
    assert "restart this member" in status.alive_reason


def test_a_challenger_is_said_with_its_agreement(metrics: Metrics, said: StatusOfMember) -> None:
    assert said().challenger is None
    assert said().drift is None
    metrics.challenger_on.labels("v2", "shadow").set(1)
    metrics.challenger_agreement.labels("overlap").set(0.91234)
    found = said().challenger
    assert found is not None
    assert (found.model_version, found.mode, found.on, found.overlap) == (
        "v2",
        "shadow",
        True,
        0.9123,
    )


def test_drift_is_said_by_its_largest_measures(clock: Clock) -> None:
    psi, scores, recall = "feature_psi", "live_scores", "live_recall_at_10"
    shown: dict[str, dict[tuple[tuple[str, str], ...], float]] = {
        psi: {(("block", "purchases"),): 0.05, (("block", "last_purchase"),): 0.31},
        "score_psi": {(("of", "all"),): 0.02, (("of", "worst_category"),): float("nan")},
        "event_psi": {(): float("nan")},
        scores: {(("delay", "1d"), ("model_version", f"v{n}")): float(n) for n in range(3)},
        recall: {(("delay", "1d"), ("model_version", f"v{n}")): n / 10 for n in range(3)},
    }
    readings = Readings({f"stream_scorer_{name}": values for name, values in shown.items()})
    said = StatusOfMember(lambda: readings, Health(100), clock, lambda: 0.0)
    assert said().drift == {"feature_psi": 0.31, "score_psi": 0.02, "live_recall_at_10_1d": 0.2}


def test_what_is_said_is_bounded_and_comes_back_from_json(
    metrics: Metrics, clock: Clock, said: StatusOfMember
) -> None:
    metrics.observe_lag({("t", p): 10**9 + p for p in range(1000)}, {("t", 1): 1e9}, 1000)
    for n in range(200):
        metrics.ignored_values.labels(f"attributes.{n}{'x' * 400}", "unknown_word").inc(10**9)
    for _ in range(STEPS * 4):
        clock.now_ms += 5000
        metrics.events.labels("applied").inc(10**6)
        status = said()
    assert len(status.ignored_values or {}) == MOST_NAMES
    text = json.dumps(status.as_json(), separators=(",", ":"))
    assert len(text) < 16_000
    assert MemberStatus.of(json.loads(text)) == status


@pytest.mark.parametrize(
    "said",
    [None, 3, [], {"lag": 3}, {"lag": [{}]}, {"events": {"a": "x"}}, {"latency": {"p50_ms": 1}},
     {"events_per_second": float("nan")}, {"recent_events": [None]}, {"events": []}],
)  # fmt: skip
def test_what_is_no_status_is_none(said: object) -> None:
    assert MemberStatus.of(said) is None


def test_a_status_of_another_release_is_read_as_far_as_it_is_known() -> None:
    found = MemberStatus.of({"events_per_second": 5, "of_the_future": [1], "lag": []})
    assert found == MemberStatus(events_per_second=5.0)
    assert MemberStatus.of({}) == MemberStatus()
