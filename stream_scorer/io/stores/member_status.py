"""What a member says of its work in its heartbeat, for the status page of its group.

A few kilobytes at most, whatever a member has met: every list is bounded. Another release may say
more or less: what is not known is passed over, and what is missing has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from stream_scorer.result import Result

MOST_PARTITIONS = 32  # of a member's; those with the largest lag
MOST_NAMES = 24  # reasons of dead letters, fields with unknown words, stages
MOST_TEXT = 300  # characters
# Of the recent past: ten minutes.
STEP_SECONDS = 15
STEPS = 40


@dataclass(frozen=True)
class PartitionLag(Result):
    """records: in the topic, not read yet. seconds: at most so long has the oldest of them waited;
    None where that is not known."""

    partition: int
    records: int
    seconds: float | None = None


@dataclass(frozen=True)
class Latency(Result):
    """From the event's record in Kafka to its customer's confirmed propensities, over the last
    minute, in milliseconds; estimated from the buckets of a histogram. count: of how many."""

    p50_ms: float
    p99_ms: float
    count: int


@dataclass(frozen=True)
class ChallengerSaid(Result):
    """mode: "shadow" or "canary". on: False where it failed or is the active model now. overlap: of
    a shadow, the mean share of the top k that both models chose, in its last report."""

    model_version: str
    mode: str
    on: bool
    overlap: float | None = None


@dataclass(frozen=True)
class MemberStatus(Result):
    """What a member says of its work; counts are since it started, lists are bounded.

    alive, ready: as its /healthz and /readyz, with their reasons. events_per_second: over the last
    minute. events: by outcome. dead_letters: by reason. ignored_values: by field, of valid events.
    lag: of the partitions with the largest; lag_records, lag_seconds: of all that it reads.
    latency: None where nothing was published in the last minute. stage_ms: mean time of each stage
    of a micro-batch in the last minute. rebalances: by kind. waits: by the server that did not
    answer. refresh_progress: of the round that runs, 0 to 1; oldest_score_seconds: None until the
    first round has shown it. drift: what is said of it, None where nothing is. recent_until_ms:
    since 1970 UTC, the end of the last of the steps of `STEP_SECONDS` in recent_events (events per
    second) and recent_lag (records), oldest first.
    """

    alive: bool = True
    alive_reason: str = ""
    ready: bool = True
    ready_reason: str = ""
    events_per_second: float = 0.0
    events: Mapping[str, int] | None = None
    dead_letters: Mapping[str, int] | None = None
    ignored_values: Mapping[str, int] | None = None
    propensities: int = 0
    lag: tuple[PartitionLag, ...] = ()
    lag_records: int = 0
    lag_seconds: float | None = None
    latency: Latency | None = None
    stage_ms: Mapping[str, float] | None = None
    rebalances: Mapping[str, int] | None = None
    waits: Mapping[str, int] | None = None
    store_rewinds: int = 0
    refused_writes: int = 0
    evicted_keys: int = 0
    refresh_progress: float | None = None
    oldest_score_seconds: float | None = None
    challenger: ChallengerSaid | None = None
    drift: Mapping[str, float] | None = None
    memory_bytes: int = 0
    recent_until_ms: int = 0
    recent_events: tuple[float, ...] = ()
    recent_lag: tuple[float, ...] = ()

    @classmethod
    def of(cls, said: object) -> MemberStatus | None:
        """From JSON as a member wrote it; None where that is no status."""
        if not isinstance(said, Mapping):
            return None
        known = {f.name: said[f.name] for f in fields(cls) if f.name in said}
        try:
            return cls(**{name: _READ[name](value) for name, value in known.items()})
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def largest(lags: Mapping[int, PartitionLag]) -> tuple[PartitionLag, ...]:
    """At most `MOST_PARTITIONS`, by partition."""
    chosen = sorted(lags.values(), key=lambda lag: -lag.records)[:MOST_PARTITIONS]
    return tuple(sorted(chosen, key=lambda lag: lag.partition))


def most(counts: Mapping[str, float]) -> dict[str, int]:
    """At most `MOST_NAMES`, the largest first, without those that are 0."""
    chosen = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    return {name[:MOST_TEXT]: round(counts[name]) for name in chosen[:MOST_NAMES]}


def _count(value: Any) -> int:
    return int(value)


def _number(value: Any) -> float:
    found = float(value)
    if found - found != 0:
        raise ValueError("not a finite number")
    return found


def _maybe(value: Any) -> float | None:
    return None if value is None else _number(value)


def _yes(value: Any) -> bool:
    return value is True


def _text(value: Any) -> str:
    return str(value)[:MOST_TEXT]


def _counts(value: Any) -> dict[str, int] | None:
    return None if value is None else {_text(k): _count(v) for k, v in _first(value)}


def _numbers(value: Any) -> dict[str, float] | None:
    return None if value is None else {_text(k): _number(v) for k, v in _first(value)}


def _first(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items())[:MOST_NAMES]


def _series(value: Any) -> tuple[float, ...]:
    return tuple(_number(one) for one in value[-STEPS:])


def _lags(value: Any) -> tuple[PartitionLag, ...]:
    return tuple(
        PartitionLag(_count(one["partition"]), _count(one["records"]), _maybe(one.get("seconds")))
        for one in value[:MOST_PARTITIONS]
    )


def _latency(value: Any) -> Latency | None:
    if value is None:
        return None
    return Latency(_number(value["p50_ms"]), _number(value["p99_ms"]), _count(value["count"]))


def _challenger(value: Any) -> ChallengerSaid | None:
    if value is None:
        return None
    return ChallengerSaid(
        _text(value["model_version"]), _text(value["mode"]), _yes(value["on"]),
        _maybe(value.get("overlap")),
    )  # fmt: skip


_READ: dict[str, Any] = {
    "alive": _yes, "alive_reason": _text, "ready": _yes, "ready_reason": _text,
    "events_per_second": _number, "events": _counts, "dead_letters": _counts,
    "ignored_values": _counts, "propensities": _count, "lag": _lags, "lag_records": _count,
    "lag_seconds": _maybe, "latency": _latency, "stage_ms": _numbers, "rebalances": _counts,
    "waits": _counts, "store_rewinds": _count, "refused_writes": _count, "evicted_keys": _count,
    "refresh_progress": _maybe, "oldest_score_seconds": _maybe, "challenger": _challenger,
    "drift": _numbers, "memory_bytes": _count, "recent_until_ms": _count,
    "recent_events": _series, "recent_lag": _series,
}  # fmt: skip
