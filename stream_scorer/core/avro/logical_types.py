"""What the attributes of a writer's types say of their bytes: decimals, moments, UUIDs.

Avro has its logical types for that; Debezium and Kafka Connect say it in "connect.name", Debezium
there alone. A name that is no meaning of ours leaves the type what it is without the name.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from stream_scorer.core.avro.program import (
    LEAST_SCALE,
    MOST_DECIMAL_BYTES,
    MOST_SCALE,
    SCALE_READ,
)
from stream_scorer.core.avro.writer_schema import UnusableSchemaError, shown

_DAY_MS = 86_400_000
_CONNECT = "org.apache.kafka.connect.data."
_DEBEZIUM = "io.debezium.time."
# Divisor to milliseconds of each type that is a moment, or minus a factor.
TIME_DIVISORS = {
    "timestamp-millis": 1, "timestamp-micros": 1_000, "timestamp-nanos": 1_000_000,
    "date": -_DAY_MS,
    f"{_DEBEZIUM}Timestamp": 1, f"{_DEBEZIUM}MicroTimestamp": 1_000,
    f"{_DEBEZIUM}NanoTimestamp": 1_000_000, f"{_DEBEZIUM}Date": -_DAY_MS,
    f"{_CONNECT}Timestamp": 1, f"{_CONNECT}Date": -_DAY_MS,
}  # fmt: skip
_TIME_TEXTS = (f"{_DEBEZIUM}ZonedTimestamp", f"{_DEBEZIUM}IsoTimestamp")
_VARIABLE_SCALE_DECIMAL = "io.debezium.data.VariableScaleDecimal"


class DecimalType(NamedTuple):
    """size: in bytes, -1 where a length precedes them. scale: SCALE_READ where it precedes them."""

    size: int
    scale: int


def decimal_type(kind: str, schema: Any, field: str) -> DecimalType | None:
    """How decimals of the type are written; None where it is none.

    Raises UnusableSchemaError, which names `field`.
    """
    if kind == "record" and _is_variable_scale_decimal(schema):
        return DecimalType(-1, SCALE_READ)
    name = schema.get("connect.name")
    is_decimal = schema.get("logicalType") == "decimal" or name == f"{_CONNECT}Decimal"
    if kind not in ("bytes", "fixed") or not is_decimal:
        return None
    size = schema["size"] if kind == "fixed" else -1
    if size > MOST_DECIMAL_BYTES:
        raise UnusableSchemaError(
            f"{field} is a decimal of {size} bytes, more than the {MOST_DECIMAL_BYTES} that can be "
            "read"
        )
    return DecimalType(size, _scale(schema, field))


def is_uuid(kind: str, schema: Any) -> bool:
    """Whether it is a UUID as 16 bytes."""
    return kind == "fixed" and schema["size"] == 16 and schema.get("logicalType") == "uuid"


def time_divisor(kind: str, schema: Any, field: str) -> int | None:
    """Divisor to milliseconds since 1970, or minus a factor, of a type of kind int, long or string;
    None where it is text.

    Raises UnusableSchemaError, which names `field`.
    """
    logical, name = schema.get("logicalType"), schema.get("connect.name")
    if isinstance(logical, str) and logical.startswith("local-timestamp"):
        raise UnusableSchemaError(
            f"{field} has no time zone ({shown(logical)}); write it as timestamp-millis or "
            "timestamp-micros, in UTC"
        )
    # Names of a shop's own say nothing of the unit.
    if not isinstance(name, str) or not name.startswith((_CONNECT, _DEBEZIUM)):
        name = None
    if kind == "string":
        if name not in (None, *_TIME_TEXTS):
            raise UnusableSchemaError(f"{field} is {shown(name)}, not a timestamp")
        return None
    divisors = set()
    for known in (name, logical):
        if known is None:
            continue
        if not isinstance(known, str) or known not in TIME_DIVISORS:
            raise UnusableSchemaError(f"{field} is {shown(known)}, not a timestamp")
        divisors.add(TIME_DIVISORS[known])
    if len(divisors) > 1:
        raise UnusableSchemaError(f"{field} is both {name} and {logical}")
    divisor = divisors.pop() if divisors else 1
    if divisor < 0 and kind != "int":
        raise UnusableSchemaError(f"{field} is a date of type {kind}, not int")
    return divisor


def _scale(schema: Any, field: str) -> int:
    scale, least = schema.get("scale"), 0
    parameters = schema.get("connect.parameters")
    if scale is None and isinstance(parameters, dict) and "scale" in parameters:
        # Text, and Connect's decimals may have zeros before the point that are not written.
        scale, least = parameters["scale"], LEAST_SCALE
        is_text = isinstance(scale, str) and re.fullmatch(r"-?[0-9]{1,3}", scale)
        scale = int(scale) if is_text else scale
    scale = 0 if scale is None else scale
    is_number = isinstance(scale, int) and not isinstance(scale, bool)
    if not is_number or not least <= scale <= MOST_SCALE:
        raise UnusableSchemaError(
            f"{field} is a decimal whose scale is {shown(scale)}, not a whole number from {least} "
            f"to {MOST_SCALE}"
        )
    return int(scale)


def _is_variable_scale_decimal(schema: Any) -> bool:
    """Debezium's record of a scale and a number, for columns whose rows differ in scale."""
    if _VARIABLE_SCALE_DECIMAL not in (schema["name"], schema.get("connect.name")):
        return False
    kinds = [
        (field["name"], type_["type"] if isinstance(type_ := field["type"], dict) else type_)
        for field in schema["fields"]
    ]
    return kinds == [("scale", "int"), ("value", "bytes")]
