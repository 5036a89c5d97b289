"""Records to fuzz a consumer with: half of them good, half spoilt in a named way, from a seed.

`fuzzed` makes them, `account` holds what became of each against what must become of it. Where a
spoilt record may still be an event (a flipped bit in a name), fastavro is the judge.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from random import Random
from typing import Any

import fastavro

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.schemas import (
    confluent_prefix,
    fingerprint_prefix,
    parsed,
    schema_json,
    single_object_prefix,
)
from stream_scorer.core.events.batch import DeadLetter, EventBatch, Reason
from stream_scorer.core.events.validation import EventRules

START_MS = 1_700_000_000_000
EVENT_TYPES = ("view", "click", "cart", "purchase")
CATEGORIES = tuple(f"category-{i:02d}" for i in range(12))
RULES = EventRules(frozenset(EVENT_TYPES), frozenset(CATEGORIES), False, 300_000, 631_152_000_000)

OURS = single_object_prefix("customer_event")
# A producer's own schema: a tree of any depth, which the decoder has to skip, before our fields.
_TREE = {
    "type": "record", "name": "Tree",
    "fields": [
        {"name": "leaf", "type": "int"},
        {"name": "children", "type": {"type": "array", "items": "Tree"}},
    ],
}  # fmt: skip
_FIELDS = json.loads(schema_json("customer_event"))["fields"]
NESTED_SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "CustomerEvent",
        "fields": [{"name": "tree", "type": _TREE}, *_FIELDS],
    }
)
NESTED = fingerprint_prefix(NESTED_SCHEMA)
WRITERS = {
    OURS: parsed("customer_event"),
    NESTED: fastavro.parse_schema(json.loads(NESTED_SCHEMA.replace("timestamp-millis", "none"))),
}


@dataclass(frozen=True, slots=True)
class FuzzRecord:
    """kind names how it was spoilt, or "valid"; event: what it says, where it was not spoilt."""

    kind: str
    key: bytes | None
    value: bytes | None
    event: dict[str, Any] | None = None


def lookup(key: bytes) -> str | None:
    """The schema of NESTED, as a schema directory would give it."""
    return NESTED_SCHEMA if key == NESTED else None


def made_up_event(draw: Random, number: int, customer: str) -> dict[str, Any]:
    """A good event."""
    return {
        "event_id": f"event-{number}",
        "customer_id": customer,
        "event_type": draw.choice(EVENT_TYPES),
        "category_id": draw.choice(CATEGORIES) if draw.random() < 0.9 else None,
        "product_id": f"product-{draw.randrange(1000)}" if draw.random() < 0.5 else None,
        "value": round(draw.random() * 50, 2) if draw.random() < 0.7 else None,
        "occurred_at": START_MS + 1000 * number - draw.randrange(10**8),
        "attributes": {"channel": draw.choice(("web", "app"))} if draw.random() < 0.5 else {},
    }


def nested(event: dict[str, Any], depth: int) -> bytes:
    """The event in the producer's own schema, its tree `depth` levels deep."""
    (framed,) = encode_events([event])
    return NESTED + b"\x00\x02" * depth + b"\x00\x00" + b"\x00" * depth + framed[len(OURS) :]


def fuzzed(
    seed: int, count: int, *, customers: int, huge_bytes: int, huge_records: int
) -> list[FuzzRecord]:
    """`count` records, every second one spoilt; of each kind of _HUGE `huge_records`.

    huge_bytes: about how long those are. Keys are customer ids, but for some of the spoilt ones.
    """
    draw = Random(seed)
    kinds = list(_SPOILS)
    huge = [kind for kind in _HUGE for _ in range(huge_records)]
    at_huge = dict(zip(draw.sample(range(1, count, 2), len(huge)), huge, strict=True))
    out = []
    for number in range(count):
        event = made_up_event(draw, number, f"customer-{draw.randrange(customers):05d}")
        key = event["customer_id"].encode()
        if number in at_huge:
            kind = at_huge[number]
            out.append(FuzzRecord(kind, key, _HUGE[kind](draw, event, huge_bytes)))
        elif number % 2 == 0:
            deep = draw.random() < 0.2
            value = nested(event, draw.randrange(60)) if deep else encode_events([event])[0]
            out.append(FuzzRecord("valid", key, value, event))
        else:
            out.append(_spoilt(draw, kinds[number // 2 % len(kinds)], key, event))
    return out


def _spoilt(draw: Random, kind: str, key: bytes, event: dict[str, Any]) -> FuzzRecord:
    if kind == "null key":
        # Customers of their own: they come from several partitions, so in no fixed order.
        event["customer_id"] = f"keyless-{draw.randrange(100)}"
        return FuzzRecord(kind, None, encode_events([event])[0], event)
    spoilt_key: bytes | None = key
    if draw.random() < 0.1:
        spoilt_key = draw.choice((None, b"", draw.randbytes(20), b"\xff" * 3))
    return FuzzRecord(kind, spoilt_key, _SPOILS[kind](draw, event))


def _whole(draw: Random, event: dict[str, Any]) -> bytes:
    if draw.random() < 0.25:
        return nested(event, draw.randrange(60))
    return encode_events([event])[0]


def _bit_flip(draw: Random, event: dict[str, Any]) -> bytes:
    out = bytearray(_whole(draw, event))
    for _ in range(draw.randint(1, 3)):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def _truncation(draw: Random, event: dict[str, Any]) -> bytes:
    whole = _whole(draw, event)
    return whole[: draw.randint(1, len(whole) - 1)]


def _huge_varint(draw: Random, event: dict[str, Any]) -> bytes:
    whole = _whole(draw, event)
    at = draw.randint(len(OURS), len(whole))
    long = draw.choice((b"\xff" * 9 + b"\x01", b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 12,
                        b"\x80" * 30 + b"\x01", b"\xff\xff\xff\xff\x0f"))  # fmt: skip
    return whole[:at] + long + whole[at + draw.choice((0, 1)) :]


def _splice(draw: Random, event: dict[str, Any]) -> bytes:
    whole = _whole(draw, event)
    at, length = draw.randrange(len(whole)), draw.randint(1, 9)
    return draw.choice(
        (whole[:at] + whole[at + length :], whole[: at + length] + whole[at:],
         whole[:at] + draw.randbytes(length) + whole[at:], whole + draw.randbytes(length))
    )  # fmt: skip


def _wrong_schema(draw: Random, event: dict[str, Any]) -> bytes:
    body = encode_events([event])[0][len(OURS) :]
    # A few ids come often, as from a producer ahead of its registry; most come once.
    number = draw.randrange(5) if draw.random() < 0.5 else draw.randrange(2**32)
    return draw.choice((confluent_prefix(number), OURS[:2] + draw.randbytes(8))) + body


def _deep_nesting(draw: Random, event: dict[str, Any]) -> bytes:
    return nested(event, 150_000 if draw.random() < 0.002 else draw.randint(200, 2000))


def _invalid_utf8(draw: Random, event: dict[str, Any]) -> bytes:
    field = draw.choice(("event_id", "customer_id", "event_type", "product_id", "category_id"))
    (whole,) = encode_events([event | {field: "#####"}])
    bad = draw.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80"))
    return whole.replace(b"#####", bad + b"#" * (5 - len(bad)))


def _many_items(draw: Random, event: dict[str, Any]) -> bytes:
    """An attributes map that claims more entries, or another size, than it has."""
    whole = encode_events([event | {"attributes": {}}])[0][:-1]
    claim = draw.choice(
        (b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01", b"\xfe\xff\xff\xff\x0f",
         b"\x01\xfe\xff\xff\xff\x0f", b"\x03\x01")
    )  # fmt: skip
    return whole + claim + draw.randbytes(draw.randrange(6))


def _foreign(draw: Random, event: dict[str, Any]) -> bytes:
    return draw.choice(
        (draw.randbytes(draw.randint(1, 200)), json.dumps(event).encode(), b"\x00", b"\xc3",
         b"\xc3\x01\x02", b"Obj\x01" + draw.randbytes(30))
    )  # fmt: skip


def _changed(field: str, *values: Any) -> Callable[[Random, dict[str, Any]], bytes]:
    return lambda draw, event: encode_events([event | {field: draw.choice(values)}])[0]


_SPOILS: dict[str, Callable[[Random, dict[str, Any]], bytes | None]] = {
    "bit flip": _bit_flip,
    "truncation": _truncation,
    "huge varint": _huge_varint,
    "splice": _splice,
    "wrong schema": _wrong_schema,
    "deep nesting": _deep_nesting,
    "invalid UTF-8": _invalid_utf8,
    "many items": _many_items,
    "foreign bytes": _foreign,
    "empty value": lambda _draw, _event: b"",
    "tombstone": lambda _draw, _event: None,
    "null key": _whole,
    "no customer": _changed("customer_id", ""),
    "unknown type": _changed("event_type", "sneeze", "", "VIEW", "view\x00"),
    "not finite": _changed("value", float("nan"), float("inf"), -float("inf")),
    "before 1970": _changed("occurred_at", -1, -(2**63)),
    "in the future": _changed("occurred_at", 2**63 - 1, 10**13),
}
_HUGE: dict[str, Callable[[Random, dict[str, Any], int], bytes]] = {
    "huge but good": lambda draw, event, size: encode_events(
        [event | {"attributes": {"channel": "web", "blob": draw.randbytes(size // 2).hex()}}]
    )[0],
    "huge customer id": lambda draw, event, size: encode_events(
        [event | {"customer_id": draw.randbytes(size // 8).hex()}]
    )[0],
    "huge noise": lambda draw, _event, size: OURS + draw.randbytes(size),
    "huge and cut": lambda draw, event, size: encode_events(
        [event | {"event_id": draw.randbytes(size // 2).hex()}]
    )[0][: size - 9],
    "more than allowed": lambda draw, _event, size: OURS + draw.randbytes(size + size // 10),
}
# What must become of a kind. Any other may be an event or undecodable, as fastavro says.
_GOOD = {"valid", "null key", "huge but good", "huge customer id"}
_BAD = {
    "wrong schema": {Reason.UNKNOWN_SCHEMA},
    "deep nesting": {Reason.UNDECODABLE, Reason.OVERSIZED},
    "invalid UTF-8": {Reason.UNDECODABLE},
    "many items": {Reason.UNDECODABLE},
    "empty value": {Reason.EMPTY_VALUE},
    "tombstone": {Reason.EMPTY_VALUE},
    "no customer": {Reason.MISSING_CUSTOMER_ID},
    "unknown type": {Reason.UNKNOWN_EVENT_TYPE},
    "not finite": {Reason.VALUE_NOT_FINITE},
    "before 1970": {Reason.TIME_NEGATIVE},
    "in the future": {Reason.TIME_IN_FUTURE},
    "foreign bytes": {Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA},
    "huge noise": {Reason.UNDECODABLE},
    "huge and cut": {Reason.UNDECODABLE},
    "more than allowed": {Reason.OVERSIZED},
}  # fmt: skip


def account(
    records: Sequence[FuzzRecord],
    events: EventBatch,
    dead_letters: Sequence[tuple[int, DeadLetter]],
) -> Counter[str]:
    """Every record is an event or a dead letter, rightly; how many are which ("applied", reasons).

    events.record_index, and the numbers beside the dead letters, are positions in `records`.
    """
    became: Counter[str] = Counter(applied=len(events))
    dead = dict(dead_letters)
    rows = {int(position): row for row, position in enumerate(events.record_index.tolist())}
    assert len(dead) == len(dead_letters)
    assert dead.keys().isdisjoint(rows)
    assert len(dead) + len(rows) == len(records)
    for position, record in enumerate(records):
        dead_letter = dead.get(position)
        if dead_letter is None:
            assert record.kind not in _BAD, f"record {position}, {record.kind}, was applied"
            decoded = as_row(events, rows[position])
            assert same(decoded, _by_fastavro(record.value or b"")), (
                f"record {position}, {record.kind}"
            )
            assert record.event is None or same(decoded, record.event), f"record {position}"
            continue
        assert record.kind not in _GOOD, (
            f"record {position}, {record.kind}: {dead_letter.detail[:200]}"
        )
        allowed = _BAD.get(record.kind)
        assert allowed is None or dead_letter.reason in allowed, (
            f"{record.kind}: {dead_letter.reason}"
        )
        assert (dead_letter.key, dead_letter.value) == (record.key, record.value)
        assert dead_letter.detail
        became[dead_letter.reason.value] += 1
    return became


def as_row(events: EventBatch, row: int) -> dict[str, Any]:
    """One event of a batch as fastavro would give it."""
    texts = ("event_id", "customer_id", "event_type", "category_id", "product_id")
    fields: dict[str, Any] = {name: getattr(events, name)[row] for name in texts}
    fields["value"] = float(events.value[row]) if events.has_value[row] else None
    fields["occurred_at"] = int(events.occurred_at_ms[row])
    spans = events.attributes
    start, length = int(spans.starts[row]), int(spans.lengths[row])
    stream = BytesIO(spans.buffer[start : start + length].tobytes())
    fields["attributes"] = fastavro.schemaless_reader(stream, _ATTRIBUTES, None)
    return fields


def same(decoded: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal in all our fields."""
    return all(decoded[name] == other[name] for name in decoded)


def _by_fastavro(value: bytes) -> dict[str, Any]:
    stream = BytesIO(value[len(OURS) :])
    reader = parsed("customer_event")
    row: Any = fastavro.schemaless_reader(stream, WRITERS[value[: len(OURS)]], reader)
    assert stream.tell() == len(value) - len(OURS), "bytes are left over"
    return dict(row)


_ATTRIBUTES = fastavro.parse_schema({"type": "map", "values": "string"})
