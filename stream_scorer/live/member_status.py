"""What this member says of its work in its heartbeat, from its own metrics.

The metrics are read with each heartbeat, and kept for ten minutes: rates and quantiles are of the
last minute, and the recent past is shown in steps. What it costs is about a millisecond every five
seconds, on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream_scorer.core.recent import Recent, quantile, steps_of_counter, steps_of_level
from stream_scorer.io.readings import Readings
from stream_scorer.io.stores.member_status import (
    MOST_TEXT,
    STEP_SECONDS,
    STEPS,
    ChallengerSaid,
    Latency,
    MemberStatus,
    PartitionLag,
    largest,
    most,
)
from stream_scorer.live.health import Health

MINUTE_MS = 60_000
STEP_MS = 1000 * STEP_SECONDS
LATENCY = "stream_scorer_event_to_propensity_seconds"
STAGE = "stream_scorer_stage_seconds"


@dataclass(frozen=True)
class _Sample:
    events: float
    lag: float
    latency: tuple[tuple[float, float], ...]
    stage_seconds: dict[str, float]
    stage_counts: dict[str, float]


class StatusOfMember:
    """Called with each heartbeat. read: the metrics as they are now. clock_ms: now, since 1970 UTC;
    seconds: of a clock that only grows, as health's."""

    def __init__(
        self,
        read: Callable[[], Readings],
        health: Health,
        clock_ms: Callable[[], int],
        seconds: Callable[[], float],
    ) -> None:
        self._read, self._health = read, health
        self._clock_ms, self._seconds = clock_ms, seconds
        self._recent: Recent[_Sample] = Recent(STEPS * STEP_MS + MINUTE_MS)

    def __call__(self) -> MemberStatus:
        """As of now."""
        readings, now_ms = self._read(), self._clock_ms()
        lag = _lags(readings)
        lag_records = sum(one.records for one in lag.values())
        self._recent.add(now_ms, _sample(readings, lag_records))
        until_ms = now_ms // STEP_MS * STEP_MS
        events = [(at, sample.events) for at, sample in self._recent.samples]
        levels = [(at, sample.lag) for at, sample in self._recent.samples]
        (alive, alive_reason), (ready, ready_reason) = (
            verdict(self._seconds()) for verdict in (self._health.alive, self._health.ready)
        )
        waited = [one.seconds for one in lag.values() if one.seconds is not None]
        return MemberStatus(
            alive=alive, alive_reason=alive_reason[:MOST_TEXT],
            ready=ready, ready_reason=ready_reason[:MOST_TEXT],
            events_per_second=round(self._rate(), 1),
            events=most(readings.by_label("stream_scorer_events_total", "outcome")),
            dead_letters=most(readings.by_label("stream_scorer_dead_letters_total", "reason")),
            ignored_values=most(readings.by_label("stream_scorer_ignored_values_total", "field")),
            propensities=readings.count("stream_scorer_propensities_total"),
            lag=largest(lag), lag_records=lag_records,
            lag_seconds=round(max(waited), 1) if waited else None,
            latency=self._latency(), stage_ms=self._stages(),
            rebalances=most(readings.by_label("stream_scorer_rebalances_total", "kind")),
            waits=most(readings.by_label("stream_scorer_waits_total", "server")),
            store_rewinds=readings.count("stream_scorer_store_rewinds_total"),
            refused_writes=readings.count("stream_scorer_refused_writes_total"),
            evicted_keys=readings.count("stream_scorer_redis_evicted_keys_total"),
            refresh_progress=_rounded(readings.value("stream_scorer_refresh_progress"), 4),
            oldest_score_seconds=_rounded(readings.value("stream_scorer_oldest_score_seconds"), 0),
            challenger=_challenger(readings), drift=_drift(readings) or None,
            memory_bytes=readings.count("process_resident_memory_bytes"),
            recent_until_ms=until_ms,
            recent_events=tuple(
                round(n, 1) for n in steps_of_counter(events, until_ms, STEP_MS, STEPS)
            ),
            recent_lag=tuple(steps_of_level(levels, until_ms, STEP_MS, STEPS)),
        )  # fmt: skip

    def _rate(self) -> float:
        """Events a second, over the last minute or for as long as is known."""
        before = self._recent.before(MINUTE_MS)
        if before is None:
            return 0.0
        at_ms, now = self._recent.samples[-1]
        return 1000 * (now.events - before[1].events) / (at_ms - before[0])

    def _latency(self) -> Latency | None:
        before, now = self._recent.before(MINUTE_MS), self._recent.samples[-1][1]
        if before is None:
            return None
        known = dict(before[1].latency)
        lately = [(bound, count - known.get(bound, 0.0)) for bound, count in now.latency]
        p50, p99 = quantile(lately, 0.5), quantile(lately, 0.99)
        if p50 is None or p99 is None:
            return None
        return Latency(round(1000 * p50, 1), round(1000 * p99, 1), round(lately[-1][1]))

    def _stages(self) -> dict[str, float]:
        before, now = self._recent.before(MINUTE_MS), self._recent.samples[-1][1]
        if before is None:
            return {}
        found = {}
        for stage, count in now.stage_counts.items():
            batches = count - before[1].stage_counts.get(stage, 0.0)
            if batches > 0:
                spent = now.stage_seconds[stage] - before[1].stage_seconds.get(stage, 0.0)
                found[stage] = round(1000 * spent / batches, 2)
        return found


def _sample(readings: Readings, lag_records: int) -> _Sample:
    return _Sample(
        # What was read and dealt with, whatever became of it.
        readings.total("stream_scorer_events_total")
        + readings.total("stream_scorer_dead_letters_total"),
        lag_records,
        readings.buckets(LATENCY),
        readings.by_label(f"{STAGE}_sum", "stage"),
        readings.by_label(f"{STAGE}_count", "stage"),
    )


def _lags(readings: Readings) -> dict[int, PartitionLag]:
    seconds = readings.by_label("stream_scorer_consumer_lag_seconds", "partition")
    return {
        int(partition): PartitionLag(
            int(partition), round(records), _rounded(seconds.get(partition), 1)
        )
        for partition, records in readings.by_label(
            "stream_scorer_consumer_lag", "partition"
        ).items()
    }


def _challenger(readings: Readings) -> ChallengerSaid | None:
    for labels in readings.labels("stream_scorer_challenger_on"):
        return ChallengerSaid(
            labels["model_version"], labels["mode"],
            bool(readings.value("stream_scorer_challenger_on", **labels)),
            _rounded(readings.value("stream_scorer_challenger_agreement", measure="overlap"), 4),
        )  # fmt: skip
    return None


def _drift(readings: Readings) -> dict[str, float]:
    """By measure the value; of several blocks or fields the largest. What can't be judged is left
    out."""
    found: dict[str, float] = {}
    for measure, series in _LARGEST.items():
        values = [v for v in readings.values.get(series, {}).values() if v - v == 0]
        if values:
            found[measure] = max(values)
    for measure, (series, of) in _OF.items():
        value = readings.value(series, of=of)
        if value is not None:
            found[measure] = value
    version = _most_judged(readings)
    for measure, series in _BY_MODEL.items():
        value = readings.value(series, model_version=version)
        if value is not None:
            found[measure] = value
    recall = "stream_scorer_live_recall_at_10"
    for delay in readings.by_label(recall, "delay"):
        value = readings.value(recall, model_version=version, delay=delay)
        if value is not None:
            found[f"live_recall_at_10_{delay}"] = value
    return {measure: round(value, 5) for measure, value in found.items()}


def _most_judged(readings: Readings) -> str:
    """The model version with the most scores that are judged."""
    scores = readings.by_label("stream_scorer_live_scores", "model_version")
    return max(scores, key=lambda version: scores[version], default="")


_LARGEST = {
    "feature_psi": "stream_scorer_feature_psi",
    "feature_mean_shift": "stream_scorer_feature_mean_shift",
    "event_psi": "stream_scorer_event_psi",
    "unknown_word_share": "stream_scorer_unknown_word_share",
}
_OF = {
    "score_psi": ("stream_scorer_score_psi", "all"),
    "worst_category_psi": ("stream_scorer_score_psi", "worst_category"),
    "mean_score": ("stream_scorer_mean_score", "live"),
    "mean_score_in_training": ("stream_scorer_mean_score", "training"),
}
_BY_MODEL = {
    "live_log_loss": "stream_scorer_live_log_loss",
    "live_calibration_error": "stream_scorer_live_calibration_error",
}


def _rounded(value: float | None, digits: int) -> float | None:
    if value is None or value - value != 0:
        return None
    return round(value, digits)
