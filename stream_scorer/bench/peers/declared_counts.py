"""Declared features folded into dictionaries, as plain Python does it: what all peers share.

fastavro reads one record at a time, and a customer's vector is a dictionary. The vectors are the
same as ours, from the same declaration (kinds decayed and recency, all that the demo declares), so
that what is compared is how they are kept up to date. This module needs fastavro and xxhash and
nothing of stream_scorer: peers run it in an environment of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import fastavro
import xxhash

Vector = dict[int, tuple[float, int]]  # by column: value, and the ms that it stands for
Declaration = Mapping[str, Any]

PREFIX_BYTES = 10  # of Avro's single-object encoding: two marker bytes and the schema's fingerprint
ATTRIBUTE = "attributes."


class DeclaredCounts:
    """blocks: columns of one (feature, half-life), with the keys `start`, `half_life_ms` (null for
    ever), `kind`, `on`, `value` (a number, or the field that has it), `by` (a field or ""),
    `buckets` and `words` (the vocabulary, where there are no buckets). schema: of the events."""

    def __init__(self, blocks: Sequence[Declaration], schema: Declaration) -> None:
        self._schema = fastavro.parse_schema(dict(schema))
        self._blocks = [
            (
                b["start"], b["half_life_ms"], b["kind"] == "recency", frozenset(b["on"]),
                b["value"], _key_of(b),
            )
            for b in blocks
        ]  # fmt: skip

    def event(self, value: bytes) -> dict[str, Any]:
        """A record's event, its time in ms."""
        record: Any = fastavro.schemaless_reader(BytesIO(value[PREFIX_BYTES:]), self._schema, None)
        record["ms"] = round(record["occurred_at"].timestamp() * 1000)
        return dict(record)

    def touched(self, event: Mapping[str, Any]) -> list[tuple[int, int | None, bool, float]]:
        """Column, half-life in ms, whether it is a recency, and weight of what an event adds."""
        found = []
        for start, half_life, recency, on, value, key_of in self._blocks:
            if on and event["event_type"] not in on:
                continue
            weight = event[value] if isinstance(value, str) else value
            key = key_of(event)
            if weight is not None and key is not None:
                found.append((start + key, half_life, recency, weight))
        return found

    def fold(self, vector: Vector, event: Mapping[str, Any]) -> None:
        """Add an event to its customer's vector."""
        ms = event["ms"]
        for column, half_life, recency, weight in self.touched(event):
            before = vector.get(column)
            if before is None:
                vector[column] = weight, ms
            elif recency:
                vector[column] = weight, max(ms, before[1])
            elif half_life is None:
                vector[column] = before[0] + weight, max(ms, before[1])
            elif ms >= before[1]:
                faded = before[0] * 2.0 ** ((before[1] - ms) / half_life)
                vector[column] = faded + weight, ms
            else:
                faded = weight * 2.0 ** ((ms - before[1]) / half_life)
                vector[column] = before[0] + faded, before[1]


def _key_of(block: Declaration) -> Callable[[Mapping[str, Any]], int | None]:
    """The key of an event in a block: of no field or of one."""
    field, buckets = block["by"], block["buckets"]
    if not field:
        return lambda _event: 0
    if not buckets:
        index = {word: i for i, word in enumerate(block["words"])}
        return lambda event: index.get(event[field])
    known: dict[str, int] = {}
    name = field.removeprefix(ATTRIBUTE)

    def hashed(event: Mapping[str, Any]) -> int | None:
        text = event["attributes"].get(name) if name != field else event[field]
        if text is None:
            return None
        if text not in known:
            known[text] = xxhash.xxh64_intdigest(f"{len(text)}:{text}".encode()) % buckets
        return known[text]

    return hashed
