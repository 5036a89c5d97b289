"""Writer schemas that resolve to ours, random data for any schema, and fastavro as the judge."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
from hypothesis import strategies as st

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.schemas import confluent_prefix, parsed, schema_json
from stream_scorer.core.events.batch import (
    NO_TIMESTAMP,
    DeadLetter,
    EventBatch,
    Reason,
    RecordBatch,
)

OURS = json.loads(schema_json("customer_event"))
FIELDS = {field["name"]: field for field in OURS["fields"]}
EVENT = {
    "event_id": "e1", "customer_id": "Zoë", "event_type": "purchase", "category_id": "ICE",
    "product_id": None, "value": 2.5, "occurred_at": 1_500_000_000_123,
    "attributes": {"basket": "b7"},
}  # fmt: skip
KEY = confluent_prefix(1)
TEXTS = ("event_id", "customer_id", "event_type", "category_id", "product_id")


def writer(*fields: Any, **changed: Any) -> dict[str, Any]:
    """A schema of these fields: a name is ours, with the type `changed` to if given."""
    return {
        "type": "record",
        "name": "CustomerEvent",
        "fields": [
            field
            if isinstance(field, dict)
            else {"name": field, "type": changed.get(field, FIELDS[field]["type"])}
            for field in fields
        ],
    }


def extra(name: str, schema: Any) -> dict[str, Any]:
    return {"name": name, "type": schema}


# fmt: off
SEVERITY = {
    "type": "enum",
    "name": "Severity",
    "symbols": ["low", "higher_than_most_others_are", "top"],
}
MONEY = {
    "type": "record", "name": "Money", "namespace": "shop.types",
    "fields": [extra("units", "long"), extra("currency", ["null", "string"])],
}
TREE = {
    "type": "record", "name": "Tree",
    "fields": [extra("leaf", "int"), extra("children", {"type": "array", "items": "Tree"})],
}

WRITERS: dict[str, Any] = {
    "ours": OURS,
    "other namespace": {**OURS, "namespace": "shop"},
    "reordered": writer(*reversed(list(FIELDS))),
    "only what must be": writer("occurred_at", "event_type", "customer_id", "event_id"),
    "not nullable": writer(*FIELDS, category_id="string", product_id="string", value="double"),
    "unions the other way round": writer(
        *FIELDS, category_id=["string", "null"], value=["double", "null"]
    ),
    "always null": writer(*FIELDS, category_id="null", value="null"),
    "int and float": writer(*FIELDS, occurred_at="int", value="float"),
    "long and null": writer(*FIELDS, occurred_at="long", value=["null", "long", "float"]),
    "int value": writer(*FIELDS, value="int"),
    "bytes for text": writer(
        *FIELDS, event_id="bytes", product_id=["null", "bytes"],
        attributes={"type": "map", "values": "bytes"},
    ),
    "wider unions": writer(
        *FIELDS, event_id=["null", "string"],
        category_id=[{"type": "array", "items": "int"}, "string", "null"],
        attributes={"type": "map", "values": [{"type": "array", "items": "string"}, "string"]},
    ),
    "java strings": writer(
        *FIELDS, customer_id={"type": "string", "avro.java.string": "String"},
    ),
    "primitives to skip": writer(
        extra("a", "boolean"), "event_id", extra("b", "int"), extra("c", "long"), "customer_id",
        extra("d", "float"), "event_type", extra("e", "double"), "category_id", extra("f", "bytes"),
        "product_id", extra("g", "string"), "value", extra("h", "null"), "occurred_at",
        extra("i", ["null", "string", "long"]), "attributes", extra("j", SEVERITY),
    ),
    "containers to skip": writer(
        extra("a", {"type": "map", "values": "string"}), "event_id",
        extra("b", {"type": "fixed", "name": "Hash", "size": 5}), "customer_id", "event_type",
        extra("c", {"type": "array", "items": ["null", MONEY]}), "occurred_at",
        extra("d", "shop.types.Money"), "attributes", extra("e", TREE), "value",
        extra("f", {"type": "map", "values": {"type": "array", "items": "Hash"}}),
    ),
    "our event or nothing": ["null", OURS, MONEY],
}

# fastavro does not take an enum for a string, so it reads these without our schema.
ENUM_WRITERS: dict[str, Any] = {
    "enum event type": writer(*FIELDS, event_type=SEVERITY),
    "enums in unions and maps": writer(
        "customer_id",
        "event_id",
        "occurred_at",
        extra("category_id", ["null", SEVERITY]),
        extra("event_type", "Severity"),
        extra("attributes", {"type": "map", "values": ["Severity", "string"]}),
    ),
}
# fmt: on


def plain(schema: Any) -> Any:
    """The schema without logical types: fastavro then gives integers for times."""
    if isinstance(schema, dict):
        return {k: plain(v) for k, v in schema.items() if k != "logicalType"}
    return [plain(s) for s in schema] if isinstance(schema, list) else schema


def data(  # noqa: PLR0911
    schema: Any, named: dict[str, Any] | None = None, depth: int = 0
) -> Any:
    """Hypothesis strategy of data for any Avro schema."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return st.one_of(_branches(schema, named, depth))
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind in named:
        return data(named[kind], named, depth)
    if isinstance(schema, dict) and "name" in schema:
        namespace = schema.get("namespace")
        named[f"{namespace}.{schema['name']}" if namespace else schema["name"]] = schema
    if kind == "record":
        return st.fixed_dictionaries(
            {f["name"]: data(f["type"], named, depth + 1) for f in schema["fields"]}
        )
    if kind == "array":
        most = 0 if depth > 4 else 3
        return st.lists(
            data(schema["items"], named, depth + 1) if most else st.none(), max_size=most
        )
    simple = {
        "null": st.none(), "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1), "long": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(width=32), "double": st.floats(),
        "bytes": st.one_of(st.binary(max_size=8), st.text(max_size=8).map(str.encode)),
        "string": st.text(max_size=12),
    }  # fmt: skip
    if kind in simple:
        return simple[kind]
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    if kind == "fixed":
        return st.binary(min_size=schema["size"], max_size=schema["size"])
    return st.dictionaries(
        st.text(max_size=6), data(schema["values"], named, depth + 1), max_size=3
    )


def _branches(union: list[Any], named: dict[str, Any], depth: int) -> list[Any]:
    """Data for each branch, tagged where fastavro could take it for another branch."""
    tagged = [_tag(branch) for branch in union]
    ambiguous = len([tag for tag in tagged if tag]) > 1
    strategies = []
    for branch, tag in zip(union, tagged, strict=True):
        values = data(branch, named, depth)
        if tag and ambiguous:
            values = values.map(lambda value, tag=tag: (tag, value))
        strategies.append(values)
    return strategies


def _tag(branch: Any) -> str | None:
    if isinstance(branch, dict) and branch["type"] == "record":
        return ".".join(part for part in (branch.get("namespace"), branch["name"]) if part)
    return branch if branch in ("int", "long", "float", "double") else None


def encoded(schema: Any, datum: Any) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(plain(schema)), datum)
    return stream.getvalue()


def by_fastavro(writer_schema: Any, body: bytes, resolve: bool = True) -> tuple[Any, int]:
    """What fastavro reads of a parsed writer schema, and how many bytes it took."""
    stream = BytesIO(body)
    reader = parsed("customer_event") if resolve else None
    return fastavro.schemaless_reader(stream, writer_schema, reader), stream.tell()


def as_row(events: EventBatch, row: int) -> dict[str, Any]:
    """One event of a batch as fastavro would give it."""
    fields: dict[str, Any] = {name: getattr(events, name)[row] for name in TEXTS}
    fields["value"] = float(events.value[row]) if events.has_value[row] else None
    fields["occurred_at"] = int(events.occurred_at_ms[row])
    maps = events.attributes
    start, length = int(maps.starts[row]), int(maps.lengths[row])
    stream = BytesIO(maps.buffer[start : start + length].tobytes())
    fields["attributes"] = fastavro.schemaless_reader(
        stream, fastavro.parse_schema(FIELDS["attributes"]["type"]), None
    )
    assert stream.tell() == length
    return fields


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Equal fields; NaN equals NaN, and numbers are compared as doubles."""
    a, b = dict(ours), dict(theirs)
    x, y = a.pop("value"), b.pop("value")
    if x is None or y is None:
        return x is y and a == b
    return np.array_equal(x, float(y), equal_nan=True) and a == b


def records(values: list[bytes | None]) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        values, [b"key"] * n, [("events", 3)], np.zeros(n, np.int32), np.arange(n) + 100,
        np.full(n, NO_TIMESTAMP),
    )  # fmt: skip


def decode(
    values: list[bytes | None], schemas: dict[bytes, Any], max_record_bytes: int = 1000
) -> tuple[EventBatch, list[DeadLetter]]:
    texts = {key: json.dumps(schema) for key, schema in schemas.items()}
    return Decoder(texts.get, max_record_bytes=max_record_bytes).decode(records(values))


def refusal(schema: Any, body: bytes) -> str:
    """Why the one record is undecodable."""
    events, dead_letters = decode([KEY + body], {KEY: schema}, max_record_bytes=10**7)
    assert len(events) == 0
    assert [dead_letter.reason for dead_letter in dead_letters] == [Reason.UNDECODABLE]
    return dead_letters[0].detail
