"""Types that Debezium, Kafka Connect and other writers give to the fields of an event."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from avro_cases import (
    EVENT,
    FIELDS,
    KEY,
    OURS,
    as_row,
    by_fastavro,
    encoded,
    extra,
    records,
    refusal,
    writer,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.avro.attributes import attribute
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.batch import EventBatch
from stream_scorer.core.events.moments import EPOCH, parse_iso_8601
from stream_scorer.core.events.numbers_as_text import number_as_text

DEBEZIUM, CONNECT = "io.debezium.time.", "org.apache.kafka.connect.data."
AT_MS = 1_767_225_600_123
DAYS = 20_454
DAY_MS = 86_400_000
UUID = uuid.UUID("6f1c2c3e-8d5a-4b8e-9a57-0123456789ab")


def read(schema: Any, *bodies: bytes) -> EventBatch:
    """Events of the bodies, none of which is refused."""
    decoder = Decoder(lambda _key: json.dumps(schema), max_record_bytes=10**6)
    events, dead_letters = decoder.decode(records([KEY + body for body in bodies]))
    assert not dead_letters, dead_letters[0].detail
    return events


def decimal_type(scale: int, size: int | None = None, **more: Any) -> dict[str, Any]:
    kind = {"type": "bytes"} if size is None else {"type": "fixed", "name": "D", "size": size}
    return {**kind, "logicalType": "decimal", "precision": 30, "scale": scale, **more}


def connect_decimal(scale: object) -> dict[str, Any]:
    name = f"{CONNECT}Decimal"
    return {"type": "bytes", "connect.name": name, "connect.parameters": {"scale": scale}}


def big_endian(unscaled: int, size: int) -> bytes:
    return unscaled.to_bytes(size, "big", signed=True)


@pytest.mark.parametrize(
    ("kind", "given", "ms"),
    [
        ({"type": "long", "connect.name": f"{DEBEZIUM}Timestamp"}, AT_MS, AT_MS),
        ({"type": "long", "connect.name": f"{DEBEZIUM}MicroTimestamp"}, AT_MS * 1000 + 7, AT_MS),
        ({"type": "long", "connect.name": f"{DEBEZIUM}MicroTimestamp"}, -1, -1),
        ({"type": "long", "connect.name": f"{DEBEZIUM}NanoTimestamp"}, AT_MS * 10**6 + 7, AT_MS),
        ({"type": "int", "connect.name": f"{DEBEZIUM}Date"}, DAYS, DAYS * DAY_MS),
        ({"type": "int", "connect.name": f"{DEBEZIUM}Date"}, -(2**31), -(2**31) * DAY_MS),
        ({"type": "int", "logicalType": "date"}, DAYS, DAYS * DAY_MS),
        (
            {"type": "int", "logicalType": "date", "connect.name": f"{CONNECT}Date"},
            DAYS,
            DAYS * DAY_MS,
        ),
        (
            {
                "type": "long",
                "connect.version": 1,
                "connect.name": f"{CONNECT}Timestamp",
                "logicalType": "timestamp-millis",
            },
            AT_MS,
            AT_MS,
        ),
        ({"type": "long", "connect.name": f"{CONNECT}Timestamp"}, AT_MS, AT_MS),
        ({"type": "long", "connect.name": "com.shop.Moment"}, AT_MS, AT_MS),
        (
            {"type": "string", "connect.name": f"{DEBEZIUM}ZonedTimestamp"},
            "2026-01-01T00:00:00.123456Z",
            AT_MS,
        ),
        ("string", "2026-01-01T01:00:00.123+01:00", AT_MS),
    ],
)
@pytest.mark.parametrize("nullable", [False, True])
def test_moments_of_debezium_and_connect_are_read_in_their_units(
    kind: Any, given: Any, ms: int, nullable: bool
) -> None:
    schema = writer(*FIELDS, occurred_at=["null", kind] if nullable else kind)
    events = read(schema, encoded(schema, {**EVENT, "occurred_at": given}))
    assert events.occurred_at_ms.tolist() == [ms]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            {"type": "long", "logicalType": "local-timestamp-micros"},
            "occurred_at has no time zone (local-timestamp-micros); write it as timestamp-millis",
        ),
        (
            {"type": "int", "connect.name": f"{DEBEZIUM}Year"},
            "occurred_at is io.debezium.time.Year",
        ),
        ({"type": "long", "connect.name": f"{DEBEZIUM}MicroTime"}, "MicroTime, not a timestamp"),
        ({"type": "string", "connect.name": f"{DEBEZIUM}ZonedTime"}, "ZonedTime, not a timestamp"),
        ({"type": "long", "connect.name": f"{CONNECT}Time"}, "Time, not a timestamp"),
        ({"type": "long", "logicalType": "date"}, "a date of type long, not int"),
        (
            {
                "type": "long",
                "logicalType": "timestamp-millis",
                "connect.name": f"{DEBEZIUM}MicroTimestamp",
            },
            "occurred_at is both io.debezium.time.MicroTimestamp and timestamp-millis",
        ),
        ({"type": "long", "logicalType": 5}, "occurred_at is 5, not a timestamp"),
    ],
)
def test_times_that_are_no_moment_are_refused_with_their_type(kind: Any, says: str) -> None:
    schema = writer(*FIELDS, occurred_at=kind)
    assert says in refusal(schema, b"")


ZONES = st.sampled_from(["Z", "+00:00", "-03:30", "+14:00", "+01", "+0530"])


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28)), ZONES, st.sampled_from("T "),
    st.sampled_from(["minutes", "seconds", "milliseconds", "microseconds"]),
)  # fmt: skip
def test_a_moment_as_text_is_what_python_reads(
    moment: datetime, zone: str, separator: str, timespec: str
) -> None:
    text = moment.isoformat(separator, timespec) + zone
    schema = writer(*FIELDS, occurred_at="string")
    events = read(schema, encoded(schema, {**EVENT, "occurred_at": text}))
    # Python 3.10 reads no other form of an offset than +01:00.
    padded = {"+01": "+01:00", "+0530": "+05:30"}.get(zone, zone)
    expected = parse_iso_8601(text.removesuffix(zone) + padded)
    assert events.occurred_at_ms.tolist() == [(expected - EPOCH) // timedelta(milliseconds=1)]


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00.Z",
        "2026-13-01T00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-01-31T24:00:00Z",
        "2026-01-31T12:60Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00+", "0000-01-01T00:00Z",
        "2026-01-31T12:00:00+1", "2026-01-31T12:00:00Zx", "2026-01-31T12:00:00+01:",
        "2026-01-31T12:00:00+01:0", "2026-1-31T12:00:00Z..", "2026-01-31T12:00:00+24:00",
        "2026-01-31T1２:00:00Z",
    ],
)  # fmt: skip
def test_text_that_is_no_moment_with_a_zone_is_refused(text: str) -> None:
    schema = writer(*FIELDS, occurred_at="string")
    detail = refusal(schema, encoded(schema, {**EVENT, "occurred_at": text}))
    assert detail.startswith("occurred_at: not a time in ISO 8601 with a zone")


def test_a_moment_may_have_nanoseconds() -> None:
    schema = writer(*FIELDS, occurred_at="string")
    body = encoded(schema, {**EVENT, "occurred_at": "1969-12-31T23:59:59.999999999Z"})
    assert read(schema, body).occurred_at_ms.tolist() == [-1]
    assert datetime(1970, 1, 1, tzinfo=timezone.utc) == EPOCH


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.integers(-(2**53), 2**53), st.integers(0, 16), st.sampled_from([None, 7, 8, 9, 16, 64]))
def test_a_decimal_is_the_double_that_fastavro_and_python_give(
    unscaled: int, scale: int, size: int | None
) -> None:
    # What fits into the shortest of these `fixed`, or fastavro refuses the schema.
    kind = decimal_type(scale, size, precision=16)
    schema = writer("event_id", "customer_id", "event_type", "occurred_at", extra("value", kind))
    body = encoded(schema, {**EVENT, "value": big_endian(unscaled, size or 7)})
    theirs, _ = by_fastavro(fastavro.parse_schema(schema), body, resolve=False)
    events = read(schema, body)
    assert events.has_value.tolist() == [True]
    assert events.value.tolist() == [float(theirs["value"])]


@pytest.mark.parametrize("unscaled", [0, -(2**63), 2**63, 10**29 - 1, -(10**37), 2**511 - 1])
@pytest.mark.parametrize("scale", [0, 2, 30, 255])
def test_a_decimal_of_many_digits_is_right_to_fifteen_of_them(unscaled: int, scale: int) -> None:
    schema = writer(*FIELDS, value=decimal_type(scale))
    body = encoded(schema, {**EVENT, "value": big_endian(unscaled, 64)})
    exact = float(Decimal(unscaled).scaleb(-scale))
    assert read(schema, body).value.tolist() == [pytest.approx(exact, rel=1e-14)]


def test_connects_decimal_and_debezium_s_variable_scale_are_read() -> None:
    connect = {
        "type": "bytes", "scale": 2, "precision": 64, "connect.version": 1,
        "connect.parameters": {"scale": "2"}, "connect.name": f"{CONNECT}Decimal",
        "logicalType": "decimal",
    }  # fmt: skip
    old = {k: connect[k] for k in ("type", "connect.name", "connect.parameters")}
    variable = {
        "type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
        "fields": [extra("scale", "int"), extra("value", "bytes")],
        "connect.name": "io.debezium.data.VariableScaleDecimal",
    }  # fmt: skip
    for kind, number, expected in (
        (connect, b"\x01\x06", 2.62), (old, b"\x01\x06", 2.62), (connect, b"", 0.0),
        (connect_decimal("-2"), b"\x03", 300.0),
        (variable, {"scale": 2, "value": b"\x01\x06"}, 2.62),
        (variable, {"scale": -2, "value": b"\x03"}, 300.0),
    ):  # fmt: skip
        schema = writer(*FIELDS, value=["null", kind])
        body = encoded(schema, {**EVENT, "value": number})
        assert read(schema, body).value.tolist() == [expected]
    schema = writer(*FIELDS, customer_id=variable)
    whole = encoded(schema, {**EVENT, "customer_id": {"scale": -1, "value": b"\x07"}})
    assert read(schema, whole).customer_id[0] == "70"
    for scale in (256, -129):
        body = encoded(schema, {**EVENT, "customer_id": {"scale": scale, "value": b"\x07"}})
        assert "customer_id: a decimal with too many bytes or a scale" in refusal(schema, body)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            decimal_type(-1),
            "value is a decimal whose scale is -1, not a whole number from 0 to 255",
        ),
        (decimal_type(10**9), "not a whole number from 0 to 255"),
        (decimal_type(2) | {"scale": "2"}, "not a whole number from 0 to 255"),
        (decimal_type(2, 65), "value is a decimal of 65 bytes, more than the 64 that can be read"),
        ("bytes", "value is bytes where double or null is wanted"),
        (connect_decimal("9" * 5000), "whose scale is 99999"),  # it ended the consumer
        (connect_decimal("256"), "whose scale is 256, not a whole number from -128 to 255"),
        (connect_decimal("2.0"), "whose scale is 2.0, not a whole number"),  # it was taken for 0
        (connect_decimal("\u0662"), "whose scale is \u0662, not a whole number"),
    ],
)
def test_a_decimal_that_can_t_be_read_is_refused_by_its_schema(kind: Any, says: str) -> None:
    assert says in refusal(writer(*FIELDS, value=kind), b"")


def test_a_decimal_longer_than_its_record_or_than_any_decimal_is_refused() -> None:
    schema = writer("value", *[n for n in FIELDS if n != "value"], value=decimal_type(2))
    assert "ends inside" in refusal(schema, b"\x10abc")
    assert "too many bytes" in refusal(schema, b"\x82\x01" + bytes(65))
    fixed = writer("value", *[n for n in FIELDS if n != "value"], value=decimal_type(2, 9))
    assert "ends inside" in refusal(fixed, b"abc")


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("long", -(2**63), str(-(2**63))),
        ("int", 7, "7"),
        ("double", 7.0, "7"),
        ("float", -0.0, "0"),
        (decimal_type(0), big_endian(2**80, 11), str(2**80)),
        (decimal_type(2, 9), big_endian(1200, 9), "12"),
        ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, UUID.bytes, str(UUID)),
        ({"type": "string", "logicalType": "uuid"}, str(UUID), str(UUID)),
        ({"type": "string", "connect.name": "io.debezium.data.Uuid"}, str(UUID), str(UUID)),
    ],
)
@pytest.mark.parametrize("field", ["event_id", "customer_id", "category_id", "product_id"])
def test_an_id_may_be_a_whole_number_or_a_uuid(
    field: str, kind: Any, given: Any, text: str
) -> None:
    schema = writer(*FIELDS, **{field: ["null", kind, "string"]})
    other = writer(*FIELDS)
    bodies = [
        encoded(schema, {**EVENT, field: given}),
        encoded(schema, {**EVENT, field: "text"}) if kind != "string" else b"",
    ]
    if isinstance(given, str):
        bodies = bodies[:1]
    events = read(schema, *bodies)
    column = getattr(events, field)
    assert [column[i] for i in range(len(events))] == [text, "text"][: len(bodies)]
    expected = as_row(read(other, encoded(other, EVENT)), 0) | {field: text}
    assert as_row(events, 0) == expected


def test_an_id_that_is_no_whole_number_is_one_refused_record() -> None:
    schema = writer(*FIELDS, customer_id=["double", decimal_type(1)], product_id=["null", "double"])
    rows: list[dict[str, Any]] = [
        {**EVENT, "customer_id": value, "product_id": None}
        for value in (1.0, 1.5, 2.0**53, float("nan"), float("inf"), b"\x05", b"\x0a")
    ]
    rows.append({**EVENT, "customer_id": 3.0, "product_id": float("nan")})
    decoder = Decoder(lambda _key: json.dumps(schema), max_record_bytes=10**6)
    bodies = [encoded(schema, row) for row in rows]
    events, dead_letters = decoder.decode(records([KEY + body for body in bodies]))
    assert [events.customer_id[i] for i in range(len(events))] == ["1", "1", "3"]
    assert events.product_id[2] is None
    assert [dead_letter.offset - 100 for dead_letter in dead_letters] == [1, 2, 3, 4, 5]
    assert {dead_letter.detail for dead_letter in dead_letters} == {
        "customer_id: not a whole number; give text or whole numbers"
    }


@pytest.mark.parametrize("size", [None, 2])
def test_attributes_that_are_all_decimals_are_their_numbers_and_not_their_bytes(
    size: int | None,
) -> None:
    """The bytes of 167.05 are UTF-8, and became the attribute "AA"."""
    schema = writer(*FIELDS, attributes={"type": "map", "values": decimal_type(2, size)})
    given = {"price": big_endian(0x4141, 2), "was": big_endian(-1, 2), "none": big_endian(0, 2)}
    events = read(schema, encoded(schema, {**EVENT, "attributes": given}))
    assert as_row(events, 0)["attributes"] == {"price": "167.05", "was": "-0.01", "none": "0"}


def test_attributes_may_be_null_and_have_null_numbers_and_booleans() -> None:
    fixed = decimal_type(3, 4) | {"name": "Price"}
    values = ["null", "string", "boolean", "long", "double", "float", fixed]
    schema = writer(*FIELDS, attributes=["null", {"type": "map", "values": values}])
    given: dict[str, Any] = {
        "none": None, "text": "t", "yes": True, "no": False, "number": -5, "double": 2.5,
        "whole": 3.0, "price": big_endian(1250, 4),
    }  # fmt: skip
    maps = [None, {}, given, {"none": None}, {"nan": float("nan"), "text": "u"}, {"tiny": 1e-7}]
    events = read(schema, *(encoded(schema, {**EVENT, "attributes": m}) for m in maps))
    found = [as_row(events, row)["attributes"] for row in range(len(events))]
    assert found == [
        {}, {},
        {"text": "t", "yes": "true", "no": "false", "number": "-5", "double": "2.5", "whole": "3",
         "price": "1.25"},
        {}, {"text": "u"}, {"tiny": "1e-07"},
    ]  # fmt: skip
    column = attribute(events, "text")
    assert [column[row] for row in range(6)] == [None, None, "t", None, "u", None]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=5),
), max_size=6))  # fmt: skip
def test_attributes_are_the_text_that_other_formats_give(attributes: dict[str, Any]) -> None:
    values = ["null", "boolean", "long", "double", "string"]
    schema = writer(*FIELDS, attributes={"type": "map", "values": values})
    events = read(schema, encoded(schema, {**EVENT, "attributes": attributes}))
    texts = {
        key: value if isinstance(value, str) else number_as_text(value)
        for key, value in attributes.items()
        if value is not None
    }
    expected = {key: text for key, text in texts.items() if text is not None}
    assert as_row(events, 0)["attributes"] == expected


def test_schemas_with_and_without_raw_values_decode_in_one_batch() -> None:
    numbers = writer(*FIELDS, customer_id="long", attributes={"type": "map", "values": "int"})
    other = KEY[:-1] + b"\x02"
    decoder = Decoder(
        lambda key: json.dumps(numbers if key == KEY else OURS), max_record_bytes=10**6
    )
    values: list[bytes | None] = []
    for i in range(40):
        row = {**EVENT, "customer_id": i if i % 2 else f"text-{i}", "attributes": {"n": i}}
        if i % 2 == 0:
            row["attributes"] = {"n": f"t{i}"}
        values.append(KEY + encoded(numbers, row) if i % 2 else other + encoded(OURS, row))
    events, dead_letters = decoder.decode(records(values))
    assert not dead_letters
    for i in range(40):
        row = as_row(events, i)
        assert row["customer_id"] == (str(i) if i % 2 else f"text-{i}")
        assert row["attributes"] == {"n": str(i) if i % 2 else f"t{i}"}
        assert row["event_type"] == "purchase"
