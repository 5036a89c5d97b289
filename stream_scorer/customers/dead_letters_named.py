"""Dead letters that name a customer: how many there are among the newest of their topic.

A dead letter keeps the key and the bytes of a record that could not be applied. What it was about
is not known, since it could not be read; so it counts for a customer where its key is the id, or
where its bytes hold the id's UTF-8. A short id may be found by accident, so the count says where to
look and proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letter
from stream_scorer.core.events.batch import DeadLetter
from stream_scorer.customers.erasure_receipt import NamedDeadLetters
from stream_scorer.errors import InputError
from stream_scorer.io.kafka.topic_reader import TopicReader
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

MOST_RECORDS = 200_000  # of the newest; each may have half a megabyte
MOST_SEARCHED = 1_000  # ids that are looked for in bytes; of more customers only keys are compared
BATCH_RECORDS = 200


def count_dead_letters(settings: Settings, customer_ids: Sequence[str]) -> NamedDeadLetters:
    """Of these customers, in the dead-letter topic of the settings.

    Raises InputError where there is no such topic, BusUnavailable and Halt.
    """
    kafka = settings.kafka
    wanted = {customer.encode(): customer for customer in customer_ids}
    searched = list(wanted) if len(wanted) <= MOST_SEARCHED else []
    found: Counter[str] = Counter()
    read = 0
    properties = kafka.consumer_properties()
    with closing(
        TopicReader(properties, kafka.dead_letter_topic, batch_records=BATCH_RECORDS)
    ) as reader:
        total = reader.most_records
        each = MOST_RECORDS // max(len(reader.ranges), 1)
        reader.ranges = {
            tp: (max(first, end - each), end) for tp, (first, end) in reader.ranges.items()
        }
        complete = reader.most_records == total
        with progress("dead letters", reader.most_records) as meter:
            for batch in reader:
                read += len(batch)
                for value in batch.values:
                    found.update(wanted[i] for i in _named(value, wanted, searched))
                meter.advance(len(batch))
    return NamedDeadLetters(kafka.dead_letter_topic, read, complete, dict(sorted(found.items())))


def _named(value: bytes | None, wanted: dict[bytes, str], searched: Sequence[bytes]) -> set[bytes]:
    """Whom a record of the topic names."""
    dead_letter = _dead_letter(value)
    if dead_letter is None:
        return set()
    key, content = dead_letter.key or b"", dead_letter.value or b""
    named = {customer for customer in searched if customer in content}
    return named | ({key} & wanted.keys())


def _dead_letter(value: bytes | None) -> DeadLetter | None:
    """None for a mark, and for what is no dead letter."""
    try:
        return None if value is None else decode_dead_letter(value).dead_letter
    except InputError:
        return None
