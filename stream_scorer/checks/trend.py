"""What `stream-scorer doctor` looks at of the shop's trend: its records in Redis."""

from __future__ import annotations

from collections.abc import Iterator

from stream_scorer.checks.finding import Finding
from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.state import NEVER
from stream_scorer.core.trend_record import TrendPlan, TrendRecord
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.io.stores.trend_store import TrendStore
from stream_scorer.live.consumer import open_store
from stream_scorer.live.shop_trend import BEHIND_DAYS, behind_partitions
from stream_scorer.live.trend_keeper import MISSED_REMEDY
from stream_scorer.settings.tree import Settings

MOST_PARTITIONS = 1024  # of the input topic, whose watermarks are asked for


def trend_findings(settings: Settings) -> Iterator[Finding]:
    """Whether each partition has its record, how new it is, and whether events are missing in it.
    Nothing where no trend is declared."""
    check = "shop's trend"
    try:
        space = settings.feature_space()
        plan = TrendPlan.of(space)
        if plan is None:
            return
        store = open_store(settings, space)
        trends = TrendStore(store.server, settings.store.namespace, plan)
        records = trends.load(trends.partitions())
        topic = settings.kafka.input_topic
        partitions = [(topic, p) for p in range(MOST_PARTITIONS)]
        marks, starts = store.watermarks(partitions), store.starts(partitions)
    except InputError as error:
        if error.field == "stored trend":
            yield Finding(check, f"{error.value}", error.remedy)
        return  # said by another check
    except StreamScorerError:
        return  # said by another check
    lacking = [tp for tp, mark in marks.items() if mark > starts.get(tp, 0) and tp not in records]
    if lacking:
        yield Finding(
            check, f"there is no record of partitions {_numbers(lacking)}",
            "whoever reads these partitions writes it when it begins; where it was deleted "
            "since, start their member again: it counts them anew from Kafka's log",
        )  # fmt: skip
    missed = [tp for tp, record in records.items() if record.missed]
    if missed:
        offsets = sum(records[tp].missed for tp in missed)
        found = f"partitions {_numbers(missed)} lack {offsets:,} offsets that could not be counted"
        yield Finding(check, found, MISSED_REMEDY, warning=True)
    behind = behind_partitions(records, topic)
    if behind:
        yield Finding(
            check,
            f"the newest events of partitions {_numbers(behind)} are more than {BEHIND_DAYS} days "
            "older than those of others",
            "see whether these partitions are read (consumer lag), and get events",
            warning=True,
        )
    yield Finding(check, _summary(records))


def _summary(records: dict[TopicPartition, TrendRecord]) -> str:
    newest = max((record.newest_ms for record in records.values()), default=NEVER)
    if newest == NEVER:
        return "no events are counted yet"
    return f"records of {len(records):,} partitions, up to {moment_text(newest)}"


def _numbers(partitions: list[TopicPartition] | frozenset[TopicPartition]) -> str:
    return ", ".join(str(p) for _, p in sorted(partitions))
