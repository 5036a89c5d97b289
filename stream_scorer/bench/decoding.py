"""`bench decode`: events a second from Avro bytes to columns, and one at a time by fastavro."""

from __future__ import annotations

import json
from io import BytesIO

import fastavro
import numpy as np

from stream_scorer.bench.timing import Findings, rates
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.schemas import schema_json
from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch

STAGE = "decode"
FRAME_BYTES = 10  # single-object encoding: mark and fingerprint


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    values = _values(sizes.events)
    records = RecordBatch(
        list(values), [None] * len(values), [("events", 0)], np.zeros(len(values), np.int32),
        np.arange(len(values), dtype=np.int64), np.full(len(values), NO_TIMESTAMP, np.int64),
    )  # fmt: skip
    decoder = Decoder(lambda _: None, max_record_bytes=1_000_000)
    found = rates(lambda: decoder.decode(records), len(values), sizes.runs)
    ours = findings.add(STAGE, "columns", "events/s", found)
    schema = fastavro.parse_schema(json.loads(schema_json("customer_event")))
    few = values[: max(1, len(values) // 10)]

    def one_at_a_time() -> None:
        for value in few:
            fastavro.schemaless_reader(BytesIO(value[FRAME_BYTES:]), schema, None)

    theirs = findings.add(
        STAGE, "fastavro, one at a time", "events/s", rates(one_at_a_time, len(few), sizes.runs)
    )
    findings.ratios["decode_vs_fastavro"] = ours / theirs


def _values(count: int) -> list[bytes]:
    draw = np.random.default_rng(3)
    numbers = draw.integers(1_000_000, size=(count, 3)).tolist()
    kinds = ("view", "click", "cart", "purchase")
    return encode_events(
        {
            "event_id": f"{i:032x}", "customer_id": f"customer-{a}", "event_type": kinds[a % 4],
            "category_id": f"category-{b % 2000}", "product_id": f"product-{c}",
            "value": c / 100, "occurred_at": 1_700_000_000_000 + a,
            "attributes": {"channel": "web", "device": "phone"},
        }
        for i, (a, b, c) in enumerate(numbers)
    )  # fmt: skip
