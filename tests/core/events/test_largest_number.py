"""One limit for numbers: within it they are taken as they are, beyond it they are never clipped."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import LARGEST_NUMBER, NO_TIMESTAMP, Reason, RecordBatch
from stream_scorer.core.events.validation import EventRules, validate
from stream_scorer.core.features.keys import EventColumns

RULES = EventRules(frozenset({"purchase"}), None, False, 0)
BEYOND = math.nextafter(LARGEST_NUMBER, math.inf)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_number_is_taken_and_the_next_one_is_not(sign: int) -> None:
    numbers = [sign * LARGEST_NUMBER, sign * BEYOND]
    rows = [
        {
            "event_id": "1", "customer_id": "ann", "event_type": "purchase", "occurred_at": 5,
            "value": number, "attributes": {"price": repr(number)},
        }
        for number in numbers
    ]  # fmt: skip
    records = RecordBatch(
        encode_events(rows), [None] * 2, [("events", 0)], np.zeros(2, np.int32), np.arange(2),
        np.full(2, NO_TIMESTAMP),
    )  # fmt: skip
    events, _ = Decoder(lambda _: None, max_record_bytes=10_000).decode(records)
    good, dead_letters = validate(events, records, RULES, 10)
    assert [(d.offset, d.reason) for d in dead_letters] == [(1, Reason.VALUE_TOO_LARGE)]
    assert EventColumns(good).numbers("value").tolist() == numbers[:1]
    first, second = EventColumns(events).numbers("attributes.price").tolist()
    assert first == numbers[0]
    assert math.isnan(second)
