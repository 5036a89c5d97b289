"""Numbers and times at the edges of their types, from Avro bytes to the reason of a dead letter."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from avro_cases import EVENT, FIELDS, KEY, encoded, plain, records, writer

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.events.validation import EventRules, validate

NOW_MS = 1_793_000_000_000  # 2026-10-26
RULES = EventRules(frozenset({"purchase"}), None, False, 300_000, 631_152_000_000)
TOO_LARGE, NOT_FINITE = "value_too_large", "value_not_finite"
FUTURE, EARLY, NEGATIVE, NO = "time_in_future", "time_too_early", "time_negative", "undecodable"
MOST, LEAST = 2**63 - 1, -(2**63)


def outcome(field: str, kind: Any, given: Any) -> tuple[Any, str, str]:
    """The value or time that an event of this type has, or the reason and detail of its refusal."""
    schema = writer(*FIELDS, **{field: kind})
    body = encoded(plain(schema), {**EVENT, field: given})
    batch = records([KEY + body])
    decoder = Decoder(lambda _key: json.dumps(schema), max_record_bytes=10_000)
    events, refused = decoder.decode(batch)
    good, invalid = validate(events, batch, RULES, NOW_MS)
    for dead_letter in refused + invalid:
        assert dead_letter.detail.isprintable()
        return None, dead_letter.reason.value, dead_letter.detail
    return (good.value if field == "value" else good.occurred_at_ms)[0], "", ""


def decimal(scale: int, **more: Any) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": scale} | more


def unscaled(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


NINES = int("9" * 40)


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("double", math.nan, NOT_FINITE), ("double", math.inf, NOT_FINITE),
        ("double", -math.inf, NOT_FINITE), ("float", math.inf, NOT_FINITE),
        ("float", math.nan, NOT_FINITE), ("float", 3e38, TOO_LARGE),
        ("double", 1e308, TOO_LARGE), ("double", math.nextafter(1e15, 2e15), TOO_LARGE),
        ("long", MOST, TOO_LARGE), ("long", LEAST, TOO_LARGE), ("long", 10**15 + 1, TOO_LARGE),
        (decimal(0), unscaled(NINES), TOO_LARGE), (decimal(24), unscaled(-NINES), TOO_LARGE),
        (decimal(0), b"\x7f" * 64, TOO_LARGE), (decimal(0), b"\x7f" * 65, NO),
    ],
)  # fmt: skip
def test_a_value_that_is_no_number_of_a_shop_is_refused_with_its_reason(
    kind: Any, given: Any, reason: str
) -> None:
    value, found, detail = outcome("value", kind, given)
    assert (value, found) == (None, reason)
    assert detail.startswith("value")


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("double", -0.0, -0.0), ("double", 5e-324, 5e-324), ("double", 1e15, 1e15),
        ("long", -(10**15), -1e15), ("int", -(2**31), -(2.0**31)),
        (decimal(40), unscaled(NINES), 1.0),
        (decimal(26), unscaled(NINES), float(Decimal(NINES).scaleb(-26))),
        (decimal(255), unscaled(7), 7e-255), (decimal(2), b"", 0.0), (decimal(2), b"\xff", -0.01),
        # What stands beside the scale has no bearing on the number.
        (decimal(5, precision=2), b"\x01\x06", 0.00262),
        (decimal(2, precision=-5), b"\x01\x06", 2.62),
        (decimal(2, precision=10**9), b"\x01\x06", 2.62),
        (decimal(2, precision="x"), b"\x01\x06", 2.62),
    ],
)  # fmt: skip
def test_a_value_within_the_limit_is_taken_as_it_is(kind: Any, given: Any, expected: float) -> None:
    value, reason, _ = outcome("value", kind, given)
    assert reason == ""
    assert value == pytest.approx(expected, rel=1e-14, abs=0)
    assert math.copysign(1, value) == math.copysign(1, expected)


def _time(unit: str, kind: str = "long") -> dict[str, Any]:
    return {"type": kind, "logicalType": unit}


@pytest.mark.parametrize(
    ("kind", "given", "reason", "says"),
    [
        ("long", MOST, FUTURE, "292278994-08-17"), ("long", LEAST, NEGATIVE, "no time"),
        ("long", -1, NEGATIVE, "1969-12-31T23:59:59.999Z"), ("long", 0, EARLY, "1970-01-01"),
        (_time("timestamp-millis"), 1_792_000_000, EARLY, "seconds?"),
        (_time("timestamp-millis"), 1_792_000_000_000_000, FUTURE, "microseconds?"),
        (_time("timestamp-millis"), 1_792_000_000_000_000_000, FUTURE, "nanoseconds?"),
        (_time("timestamp-millis", "int"), 20_000, EARLY, "days?"),
        (_time("timestamp-micros"), MOST, FUTURE, "294247-01-10"),
        (_time("timestamp-micros"), LEAST, NEGATIVE, "-290308-12-21"),
        (_time("timestamp-nanos"), MOST, FUTURE, "2262-04-11"),
        (_time("timestamp-nanos"), LEAST, NEGATIVE, "1677-09-21"),
        (_time("timestamp-nanos"), NOW_MS, EARLY, "milliseconds in a field of nanoseconds?"),
        (_time("date", "int"), 2**31 - 1, FUTURE, "5881580-07-11"),
        (_time("date", "int"), -(2**31), NEGATIVE, "-5877641-06-23"),
        (_time("date"), 20_000, NO, "a date of type long, not int"),
        *((_time(f"local-timestamp-{unit}"), 0, NO, "has no time zone")
          for unit in ("millis", "micros", "nanos")),
        (_time("time-micros"), 0, NO, "is time-micros, not a timestamp"),
        (_time("time-millis", "int"), 0, NO, "is time-millis, not a timestamp"),
        (_time("uuid"), 0, NO, "is uuid, not a timestamp"),
        ("double", 1.792e9, NO, "write a long of timestamp-millis, or text"),
        ("float", 1.792e9, NO, "write a long of timestamp-millis, or text"),
        ("boolean", True, NO, "write a long of timestamp-millis, or text"),
        (decimal(3), unscaled(1_792_000_000_000), NO, "write a long of timestamp-millis, or text"),
        ("string", "1792000000", NO, "not a time in ISO 8601 with a zone"),
        ("string", "2026-10-14", NO, "not a time in ISO 8601 with a zone"),
        ("string", "2026-10-14T12:00:00", NO, "not a time in ISO 8601 with a zone"),
        ("string", "2016-12-31T23:59:60Z", NO, "not a time in ISO 8601 with a zone"),
        ("string", "", NO, "not a time in ISO 8601 with a zone"),
        ("string", "9999-12-31T23:59:59.999-23:59", FUTURE, "10000-01-01"),
        ("string", "0001-01-01T00:00:00+23:59", NEGATIVE, "0000-12-31"),
    ],
)  # fmt: skip
def test_a_time_that_is_none_is_refused_with_its_reason_and_what_it_may_be(
    kind: Any, given: Any, reason: str, says: str
) -> None:
    value, found, detail = outcome("occurred_at", kind, given)
    assert (value, found) == (None, reason)
    assert "occurred_at" in detail
    assert says in detail


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("long", NOW_MS), (_time("timestamp-millis"), NOW_MS),
        (_time("timestamp-micros"), NOW_MS * 1_000 + 999),
        (_time("timestamp-nanos"), NOW_MS * 1_000_000 + 999_999),
        ("string", "2026-10-26T07:33:20Z"), ("string", "2026-10-26 08:33:20.0009+01:00"),
    ],
)  # fmt: skip
def test_a_plausible_time_is_the_same_in_every_unit(kind: Any, given: Any) -> None:
    assert outcome("occurred_at", kind, given)[0] == NOW_MS
