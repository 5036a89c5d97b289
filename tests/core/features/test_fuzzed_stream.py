"""A stream of which half is spoilt: each record an event or a dead letter, however it is cut.

The same records go through real servers in tests/containers/test_fuzz.py.
"""

from __future__ import annotations

from random import Random

import numpy as np
from fuzz_records import RULES, START_MS, FuzzRecord, account, fuzzed, lookup

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import (
    DeadLetter,
    EventBatch,
    RecordBatch,
    concatenate_events,
)
from stream_scorer.core.events.validation import validate
from stream_scorer.core.features import fold
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state_codec import empty_states, pack

COUNT, HUGE_BYTES = 6000, 20_000
NOW_MS = START_MS + 10**10
SPACE = FeatureSpace.compile(
    [
        Feature("acts", by=("event_type",), half_lives=("2d",)),
        Feature("bought", by=("category_id",)),
    ],
    {"event_type": ("view", "click", "cart", "purchase"), "category_id": ("category-01",)},
)


def decoded(
    records: list[FuzzRecord], sizes: list[int]
) -> tuple[EventBatch, list[tuple[int, DeadLetter]]]:
    """Through one decoder in batches of these sizes; positions count from the first record."""
    decoder = Decoder(lookup, max_record_bytes=HUGE_BYTES + HUGE_BYTES // 20)
    parts, dead_letters, at = [], [], 0
    for size in sizes:
        chosen = records[at : at + size]
        batch = RecordBatch(
            [r.value for r in chosen], [r.key for r in chosen], [("events", 0)],
            np.zeros(len(chosen), np.int32), np.arange(at, at + len(chosen)),
            np.full(len(chosen), NOW_MS),
        )  # fmt: skip
        events, undecodable = decoder.decode(batch)
        events, invalid = validate(events, batch, RULES, NOW_MS)
        parts.append(events)
        dead_letters += [(dead_letter.offset, dead_letter) for dead_letter in undecodable + invalid]
        at += size
    return concatenate_events(parts), sorted(dead_letters, key=lambda pair: pair[0])


def packed(events: EventBatch) -> dict[str, bytes]:
    customer, ids = events.customer_id.intern()
    states = fold.fold_events(empty_states(ids), events, customer, SPACE).states
    return dict(zip(ids, pack(states, SPACE.fingerprint), strict=True))


def test_each_record_is_an_event_or_a_dead_letter_however_the_stream_is_cut() -> None:
    records = fuzzed(7, COUNT, customers=300, huge_bytes=HUGE_BYTES, huge_records=2)
    draw, cuts = Random(8), [0]
    while cuts[-1] < COUNT:
        cuts.append(min(COUNT, cuts[-1] + draw.randint(1, 200)))
    sizes = np.diff(cuts).tolist()
    events, dead_letters = decoded(records, sizes)
    events.record_index[:] = events.offsets
    became = account(records, events, dead_letters)
    assert became.total() == COUNT
    assert COUNT // 2 < became["applied"] < COUNT * 3 // 4
    whole, whole_dead_letters = decoded(records, [COUNT])
    assert whole_dead_letters == dead_letters
    assert packed(whole) == packed(events)
