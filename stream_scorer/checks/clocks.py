"""Whether this machine's clock agrees with those of others: times decide what is an event of the
future, which record is forgotten, and which member is gone."""

from __future__ import annotations

from collections.abc import Iterator

from stream_scorer.checks.finding import Finding
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import clock_ms, redis_client
from stream_scorer.settings.tree import Settings

MOST_SKEW_MS = 5_000
SYNCHRONISE = "synchronise the clocks (chrony, systemd-timesyncd or the like)"


def redis_clock_findings(settings: Settings) -> Iterator[Finding]:
    """This machine's clock beside that of Redis; nothing where Redis does not answer."""
    server = None
    try:
        server = RedisServer(redis_client(settings))
        before_ms = clock_ms()
        seconds, microseconds = server.ask(server.client.time)
        after_ms = clock_ms()
    except StreamScorerError:
        return  # said by the checks of Redis, or this user may not run TIME, which `run` needs not
    finally:
        if server is not None:
            server.close()
    theirs_ms = seconds * 1000 + microseconds // 1000
    yield clock_finding("clock of redis", theirs_ms, before_ms, after_ms)


def clock_finding(check: str, theirs_ms: int, before_ms: int, after_ms: int) -> Finding:
    """theirs_ms: what the other clock said between before_ms and after_ms of this one."""
    ahead_ms = max(theirs_ms - after_ms, 0) or min(theirs_ms - before_ms, 0)
    if abs(ahead_ms) <= MOST_SKEW_MS:
        return Finding(check, "agrees with this machine's within 5 s")
    how = "ahead of" if ahead_ms > 0 else "behind"
    return Finding(check, f"is {abs(ahead_ms) / 1000:,.0f} s {how} this machine's", SYNCHRONISE)


def record_clock_findings(records: RecordBatch, now_ms: int, check: str) -> Iterator[Finding]:
    """Records that Kafka holds with a time that has not come yet by this machine's clock."""
    ahead_ms = records.timestamps_ms - now_ms
    late = int((ahead_ms > MOST_SKEW_MS).sum())
    if late:
        yield Finding(
            check,
            f"{late:,} of the newest {len(records):,} have a time of the record in the future, up "
            f"to {int(ahead_ms.max()) / 1000:,.0f} s by this machine's clock",
            f"{SYNCHRONISE} of producers, brokers and this machine",
        )
