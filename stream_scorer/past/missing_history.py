"""What the input topic no longer holds of its own past, and whether a job may do without it.

A vector made from the rest of a log looks like any other, and lacks what its customer did before.
So a job that takes the topic as the whole history is refused where retention or compaction has
removed a part of it, and says what is missing. The rest counts as whole where the job asked for
events from a moment on (`--from`) that every partition still reaches back to: then older events
come from elsewhere, such as a replay of event files into the same namespace.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.settings.connections import KafkaSettings

log = logging.getLogger(__name__)

SHOWN_PARTITIONS = 4
CONFIG_SECONDS = 2.0  # short, because an embedded cluster never answers this question


class HistoryMissingError(InputError):
    """The topic lacks `missing`. complete_from: since when it has all, in words, or ""."""

    def __init__(self, topic: str, missing: str, complete_from: str) -> None:
        super().__init__(
            "topic", topic,
            f"{missing}. Vectors of the rest would lack what came before. Give the event files "
            "instead; or `replay EVENTS --to TIME --into NAMESPACE` first and then the topic with "
            f"--from TIME{complete_from}; or take the rest as if it were all, with "
            "--accept-missing-history",
        )  # fmt: skip
        self.missing, self.complete_from = missing, complete_from


# Of the partitions that have lost their first records, the time of the oldest that is left; None
# where none is left, or where it has no time.
BeginsMs = Mapping[TopicPartition, int | None]


def check_history(
    kafka: KafkaSettings, reader: TopicReader, from_ms: int | None, *, accepted: bool
) -> None:
    """Raises HistoryMissingError where the topic lacks events from from_ms (None: its start) on.

    Where `accepted` it is a warning instead.
    """
    # Each is read from Kafka.
    begins_ms = {
        tp: reader.first_record_ms(tp) for tp, (first, _) in reader.log.items() if first > 0
    }
    deleted = _deleted(reader, begins_ms, from_ms)
    found = [text for text in (_compacted(kafka), deleted) if text]
    if not found:
        return
    missing = "; ".join(found)
    if accepted:
        log.warning("topic %s: %s; what is left is taken as all", kafka.input_topic, missing)
        return
    raise HistoryMissingError(kafka.input_topic, missing, _complete_from(begins_ms))


def _compacted(kafka: KafkaSettings) -> str:
    try:
        topic = KafkaAdmin(kafka.client_properties()).topics([kafka.input_topic], CONFIG_SECONDS)
        config = topic[kafka.input_topic].config if topic else {}
        if config is None:
            log.warning(
                "whether %s is compacted could not be asked: allow this user DescribeConfigs on it",
                kafka.input_topic,
            )
            return ""
    except StreamScorerError as error:
        log.warning("whether %s is compacted could not be asked: %s", kafka.input_topic, error)
        return ""
    policy = config.get("cleanup.policy", "")
    if "compact" not in policy:
        return ""
    return f"cleanup.policy is {policy!r}, so that compaction removes all but the newest events"


def _deleted(reader: TopicReader, begins_ms: BeginsMs, from_ms: int | None) -> str:
    gaps = [(tp, first_ms) for tp, first_ms in begins_ms.items() if not _reaches(first_ms, from_ms)]
    if not gaps:
        return ""
    shown = [
        f"partition {tp[1]} {_beginning(reader, tp, ms)}" for tp, ms in gaps[:SHOWN_PARTITIONS]
    ]
    more = len(gaps) - len(shown)
    others = f", and {more} other partitions begin late" if more else ""
    return f"its oldest events were deleted: {', '.join(shown)}{others}"


def _reaches(first_record_ms: int | None, from_ms: int | None) -> bool:
    """Whether the log goes back to from_ms; one without any record says nothing of its past."""
    return from_ms is not None and first_record_ms is not None and first_record_ms <= from_ms


def _beginning(reader: TopicReader, tp: TopicPartition, first_record_ms: int | None) -> str:
    first, end = reader.log[tp]
    if first == end:
        return f"holds no event any more (next offset {end})"
    at = "" if first_record_ms is None else f" ({np.datetime64(first_record_ms, 'ms')}Z)"
    return f"begins at offset {first}{at}"


def _complete_from(begins_ms: BeginsMs) -> str:
    """The first moment from which on every partition holds all."""
    known = [moment for moment in begins_ms.values() if moment is not None]
    return f", at the earliest {np.datetime64(max(known), 'ms')}Z" if known else ""
