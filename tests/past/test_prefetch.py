"""Reading ahead: the same batches in the same order, errors where they belong, and an early end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch
from stream_scorer.core.events.validation import EventRules
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.errors import EventFileError
from stream_scorer.past.prefetch import past_source

NOW_MS = 1000
SPACE = FeatureSpace.compile([Feature("views")], {})

AHEAD = pytest.mark.parametrize("ahead", [False, True])


def batches(count: int, broken_at: int | None = None) -> Iterator[RecordBatch]:
    for i in range(count):
        if i == broken_at:
            raise EventFileError("events", "x.avro", "cut short")
        event = {"event_id": f"{i}", "customer_id": "a", "event_type": "view", "occurred_at": i}
        yield RecordBatch(
            [*encode_events([event]), b"junk"], [None, None], [("x", 0)], np.zeros(2, np.int32),
            np.array([2 * i, 2 * i + 1]), np.full(2, NO_TIMESTAMP),
        )  # fmt: skip


def preparation() -> Preparation:
    rules = EventRules(frozenset({"view"}), None, False, 0)
    return Preparation(Decoder(lambda _: None, max_record_bytes=1000), rules, SPACE)


@AHEAD
def test_batches_come_in_order_with_their_events(ahead: bool) -> None:
    seen = []
    with past_source(batches(30), preparation(), NOW_MS, ahead=ahead) as source:
        while len(records := source.poll()):
            events = source.prepare(source.owned(records), NOW_MS)
            dead = [letter.offset for letter in events.dead_letters]
            seen.append((events.customer_ids, events.stream.occurred_ms[0], dead))
            source.commit(records.next_offsets())
        assert source.ended
    assert seen == [(["a"], i, [2 * i + 1]) for i in range(30)]


@AHEAD
def test_what_reading_raises_comes_after_what_was_read_before(ahead: bool) -> None:
    with past_source(batches(9, broken_at=5), preparation(), NOW_MS, ahead=ahead) as source:
        for i in range(5):
            assert source.poll().offsets[0] == 2 * i
        with pytest.raises(EventFileError, match="cut short"):
            source.poll()


def test_an_early_end_stops_the_thread_and_closes_what_it_reads() -> None:
    closed = threading.Event()

    def endless() -> Iterator[RecordBatch]:
        try:
            while True:
                yield from batches(3)
        finally:
            closed.set()

    threads = threading.active_count()
    with past_source(endless(), preparation(), NOW_MS, ahead=True) as source:
        source.poll()
    assert closed.is_set()
    assert threading.active_count() == threads
