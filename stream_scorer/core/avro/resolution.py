"""From a writer's Avro schema to the instructions that read its records as our events.

It follows Avro 1.11, "Schema Resolution"; our reader schema is schemas/customer_event.avsc. The
instructions are run by interpreter.py.

The writer's fields are taken in their order. One that we know is compiled to instructions that end
in its column, any other to instructions that skip it. Beside Avro's promotions (int to long,
numbers to double, bytes to string) an enum is taken for a string, a number or a UUID for the text
of an id or an attribute, a decimal for a number, null for empty attributes; and occurred_at may be
in other units than milliseconds, or ISO 8601 text. What can't resolve fails here for every record
of the schema, or, where it is one branch of a union, when a record uses that branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_scorer.core.avro import interpreter as k
from stream_scorer.core.avro.attributes import EMPTY_MAP_BYTES
from stream_scorer.core.avro.writer_schema import (
    SchemaTooLargeError,
    UnusableSchemaError,
    parse_writer_schema,
)
from stream_scorer.core.events.batch import Int32, Int64

RECORD_NAME = "CustomerEvent"
MOST_INSTRUCTIONS = 50_000
# Fields and types that the compiler looks at, each as often as it is looked at.
MOST_COMPILER_STEPS = 200_000

_DAY_MS = 86_400_000
_CONNECT = "org.apache.kafka.connect.data."
_DEBEZIUM = "io.debezium.time."
# Divisor to milliseconds of each type that is a moment, or minus a factor. Debezium and Kafka
# Connect say what a number means in "connect.name", Debezium there alone.
TIME_DIVISORS = {
    "timestamp-millis": 1, "timestamp-micros": 1_000, "timestamp-nanos": 1_000_000,
    "date": -_DAY_MS,
    f"{_DEBEZIUM}Timestamp": 1, f"{_DEBEZIUM}MicroTimestamp": 1_000,
    f"{_DEBEZIUM}NanoTimestamp": 1_000_000, f"{_DEBEZIUM}Date": -_DAY_MS,
    f"{_CONNECT}Timestamp": 1, f"{_CONNECT}Date": -_DAY_MS,
}  # fmt: skip
_TIME_TEXTS = (f"{_DEBEZIUM}ZonedTimestamp", f"{_DEBEZIUM}IsoTimestamp")
_VARIABLE_SCALE_DECIMAL = "io.debezium.data.VariableScaleDecimal"

_VALUE_OPS = {
    "double": k.DOUBLE, "float": k.FLOAT, "long": k.LONG_VALUE, "int": k.INT_VALUE,
}  # fmt: skip
_BOOLEANS = ["false", "true"]
_RAW_NUMBERS = {"double": (8, k.RAW_DOUBLE), "float": (4, k.RAW_FLOAT)}


@dataclass(frozen=True, slots=True)
class _Target:
    """One of our fields. kind "string", "value", "time" or "map"; slot for strings."""

    kind: str
    nullable: bool = False
    has_default: bool = False
    slot: int = -1

    @property
    def wanted(self) -> str:
        name = {
            "string": "string", "value": "double", "time": "timestamp", "map": "map of strings",
        }[self.kind]  # fmt: skip
        return f"{name} or null" if self.nullable else name


_FIELDS = {
    "event_id": _Target("string", slot=k.EVENT_ID),
    "customer_id": _Target("string", slot=k.CUSTOMER_ID),
    "event_type": _Target("string", slot=k.EVENT_TYPE),
    "category_id": _Target("string", nullable=True, has_default=True, slot=k.CATEGORY_ID),
    "product_id": _Target("string", nullable=True, has_default=True, slot=k.PRODUCT_ID),
    "value": _Target("value", nullable=True, has_default=True),
    "occurred_at": _Target("time"),
    "attributes": _Target("map", nullable=True, has_default=True),
}
# A map's value that is null is left out, as JSON's null is.
_MAP_VALUE = _Target("string", nullable=True, slot=k.MAP_VALUE)


@dataclass(frozen=True, slots=True)
class Program:
    """What interpreter.run runs. Symbols of enums and defaults are spans of `constants`, which must
    stand in the buffer; labels name fields in messages. raw_slots: the slots that may be given what
    is no text yet, such as whole numbers, each with the name of its field."""

    code: Int32
    jumps: Int32
    symbol_starts: Int64
    symbol_lengths: Int32
    constants: bytes
    labels: tuple[str, ...]
    raw_slots: dict[int, str]

    def tables(self, constants_at: int) -> k.Tables:
        """The program for a buffer that holds `constants` at constants_at."""
        return k.Tables(
            self.code, self.jumps, self.symbol_starts + constants_at, self.symbol_lengths,
            constants_at,
        )  # fmt: skip


def event_program(schema: str) -> Program:
    """Instructions that read records of the writer schema (JSON text) as events.

    Raises UnusableSchemaError.
    """
    return _compiled(schema, skip_all=False)


def skip_program(schema: str) -> Program:
    """Instructions that only find where a record ends. Raises UnusableSchemaError."""
    return _compiled(schema, skip_all=True)


def _compiled(schema: str, *, skip_all: bool) -> Program:
    writer, named = parse_writer_schema(schema)
    compiler = _Compiler(named)
    if skip_all:
        compiler.skip(writer)
    else:
        compiler.event(writer)
    return compiler.finished()


class _Compiler:
    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._code: list[tuple[int, int, int, int, int]] = []
        self._jumps: list[int] = []
        self._symbols: list[bytes] = []
        self._symbols_at: dict[int, int] = {}  # by the identity of the list of symbols
        self._labels = [""]
        self._calls: list[tuple[int, str]] = []
        self._raw_slots: dict[int, str] = {}
        self._steps = 0

    def event(self, writer: Any) -> None:
        """The whole program's first part: one record of ours, or a union with one."""
        kind, schema = self._resolve(writer)
        if kind == "union":
            self._union(schema, self.event)
        elif kind == "record":
            self._record(schema)
        else:
            raise UnusableSchemaError(f"the schema is {_schema_in_words(writer)}, not a record")

    def skip(self, writer: Any) -> None:
        """Read past one value."""
        kind, schema = self._resolve(writer)
        if kind == "union":
            self._union(schema, self.skip)
        elif kind == "record":
            self._calls.append((self._emit(k.CALL), schema["name"]))
        elif kind in ("array", "map"):
            self._emit(k.BLOCKS)
            head = self._emit(k.NEXT)
            if kind == "map":
                self._emit(k.SKIP_BYTES)
            self.skip(schema["items" if kind == "array" else "values"])
            self._emit(k.JUMP, head)
            self._patch(head)
        elif kind == "fixed":
            if schema["size"]:  # an instruction that takes no bytes would be counted by no budget
                self._emit(k.SKIP_FIXED, schema["size"])
        elif kind == "enum":
            self._emit(k.SKIP_ENUM, 0, len(schema["symbols"]))
        elif kind != "null":
            op, size = {
                "boolean": (k.SKIP_BOOLEAN, 0), "int": (k.SKIP_INT, 0), "long": (k.SKIP_LONG, 0),
                "float": (k.SKIP_FIXED, 4), "double": (k.SKIP_FIXED, 8),
                "bytes": (k.SKIP_BYTES, 0), "string": (k.SKIP_BYTES, 0),
            }[kind]  # fmt: skip
            self._emit(op, size)

    def finished(self) -> Program:
        """Close the program and add the nested records that it calls."""
        self._emit(k.END)
        starts_of: dict[str, int] = {}
        while self._calls:
            at, name = self._calls.pop()
            # Compiled once and called, because a record may contain itself.
            if name not in starts_of:
                starts_of[name] = len(self._code)
                for field in self._named[name]["fields"]:
                    self._labels.append(f"{name}.{field['name']}")
                    self.skip(field["type"])
                self._emit(k.RETURN)
            self._patch(at, starts_of[name])
        lengths = np.array([len(s) for s in self._symbols], np.int32)
        starts = len(EMPTY_MAP_BYTES) + np.cumsum(lengths, dtype=np.int64) - lengths
        return Program(
            np.array(self._code, np.int32), np.array(self._jumps, np.int32), starts, lengths,
            EMPTY_MAP_BYTES + b"".join(self._symbols), tuple(self._labels), self._raw_slots,
        )  # fmt: skip

    def _record(self, schema: Any) -> None:
        name = schema["name"].rpartition(".")[2]
        if name != RECORD_NAME:
            raise UnusableSchemaError(f"the record is named {name}, not {RECORD_NAME}")
        missing = dict(_FIELDS)
        for field in schema["fields"]:
            self._labels.append(field["name"])
            target = missing.pop(field["name"], None)
            if target is None:
                self.skip(field["type"])
            else:
                self._read(field["type"], target)
        for name, target in missing.items():
            if not target.has_default:
                raise UnusableSchemaError(
                    f"the schema lacks the field {name}, which has no default"
                )
            self._emit_null(target)

    def _emit_null(self, target: _Target) -> None:
        if target.kind == "map":
            self._emit(k.EMPTY_MAP)
        elif target.kind == "value":
            self._emit(k.NULL_VALUE)
        else:
            self._emit(k.NULL_STRING, target.slot)

    def _read(self, writer: Any, target: _Target) -> None:
        """One value of the writer's type into the target's column."""
        kind, schema = self._resolve(writer)
        if kind == "union":
            self._union(schema, lambda branch: self._read(branch, target))
        elif kind == "null" and target.nullable:
            self._emit_null(target)
        elif target.kind == "string":
            self._text(writer, kind, schema, target)
        elif target.kind == "value" and kind in _VALUE_OPS:
            self._emit(_VALUE_OPS[kind])
        elif target.kind == "value" and self._decimal(kind, schema, k.VALUE):
            pass
        elif target.kind == "time" and kind in ("int", "long", "string"):
            self._moment(kind, schema)
        elif target.kind == "map" and kind == "map":
            self._attributes(schema["values"])
        else:
            self._mismatch(writer, target)

    def _text(self, writer: Any, kind: str, schema: Any, target: _Target) -> None:
        """A value as text: of an id, an event type, a category, or an attribute."""
        slot = target.slot
        is_uuid = kind == "fixed" and schema["size"] == 16 and schema.get("logicalType") == "uuid"
        if self._decimal(kind, schema, slot):
            self._raw_slots[slot] = self._labels[-1]
        elif kind in ("string", "bytes"):
            self._emit(k.STRING, slot)
        elif kind == "enum":
            self._emit(k.ENUM, self._symbols_of(schema["symbols"]), len(schema["symbols"]), slot)
        elif kind == "boolean" and target is _MAP_VALUE:
            self._emit(k.BOOLEAN_TEXT, self._symbols_of(_BOOLEANS), 0, slot)
        elif kind in ("int", "long"):
            self._emit(k.LONG_TEXT, slot, int(kind == "int"))
            self._raw_slots[slot] = self._labels[-1]
        elif kind in _RAW_NUMBERS or is_uuid:
            self._emit(k.RAW_BYTES, slot, *_RAW_NUMBERS.get(kind, (16, k.RAW_UUID)))
            self._raw_slots[slot] = self._labels[-1]
        else:
            self._mismatch(writer, target)

    def _symbols_of(self, symbols: list[str]) -> int:
        """Where these symbols begin; those of an enum that is used again are there once."""
        if id(symbols) not in self._symbols_at:
            self._symbols_at[id(symbols)] = len(self._symbols)
            self._symbols += [symbol.encode() for symbol in symbols]
        return self._symbols_at[id(symbols)]

    def _decimal(self, kind: str, schema: Any, slot: int) -> bool:
        """Read a decimal into a slot or into `VALUE`; False where the type is none."""
        if kind == "record" and _is_variable_scale_decimal(schema):
            self._emit(k.SCALE, 0, 1)
            self._emit(k.DECIMAL, slot, -1, k.SCALE_READ)
            return True
        name = schema.get("connect.name")
        is_decimal = schema.get("logicalType") == "decimal" or name == f"{_CONNECT}Decimal"
        if kind not in ("bytes", "fixed") or not is_decimal:
            return False
        size = schema["size"] if kind == "fixed" else -1
        if size > k.MOST_DECIMAL_BYTES:
            raise UnusableSchemaError(
                f"{self._labels[-1]} is a decimal of {size} bytes, more than the "
                f"{k.MOST_DECIMAL_BYTES} that can be read"
            )
        self._emit(k.DECIMAL, slot, size, self._scale(schema))
        return True

    def _scale(self, schema: Any) -> int:
        scale = schema.get("scale")
        if scale is None:
            parameters = schema.get("connect.parameters")
            given = parameters.get("scale") if isinstance(parameters, dict) else None
            scale = int(given) if isinstance(given, str) and given.isdecimal() else 0
        is_number = isinstance(scale, int) and not isinstance(scale, bool)
        if not is_number or not 0 <= scale <= k.MOST_SCALE:
            raise UnusableSchemaError(
                f"{self._labels[-1]} is a decimal whose scale is not a whole number from 0 to "
                f"{k.MOST_SCALE}"
            )
        return int(scale)

    def _moment(self, kind: str, schema: Any) -> None:
        field = self._labels[-1]
        logical, name = schema.get("logicalType"), schema.get("connect.name")
        if isinstance(logical, str) and logical.startswith("local-timestamp"):
            raise UnusableSchemaError(
                f"{field} has no time zone ({logical}); write it as timestamp-millis or "
                "timestamp-micros, in UTC"
            )
        # Names of a shop's own say nothing of the unit.
        if not isinstance(name, str) or not name.startswith((_CONNECT, _DEBEZIUM)):
            name = None
        given = [known for known in (name, logical) if known is not None]
        if kind == "string":
            if name not in (None, *_TIME_TEXTS):
                raise UnusableSchemaError(f"{field} is {name}, not a timestamp")
            self._emit(k.MOMENT)
            return
        divisors = set()
        for known in given:
            if not isinstance(known, str) or known not in TIME_DIVISORS:
                raise UnusableSchemaError(f"{field} is {known}, not a timestamp")
            divisors.add(TIME_DIVISORS[known])
        if len(divisors) > 1:
            raise UnusableSchemaError(f"{field} is both {name} and {logical}")
        divisor = divisors.pop() if divisors else 1
        if divisor < 0 and kind != "int":
            raise UnusableSchemaError(f"{field} is a date of type {kind}, not int")
        self._emit(k.TIME, divisor, int(kind == "int"))

    def _attributes(self, values: Any) -> None:
        """The fast way for a canonical map of strings, then the general loop."""
        fast = None
        if self._resolve(values)[0] in ("string", "bytes"):
            fast = self._emit(k.MAP)
        self._emit(k.EMPTY_MAP)  # until a key comes
        self._emit(k.BLOCKS)
        head = self._emit(k.NEXT)
        self._emit(k.KEY)
        self._read(values, _MAP_VALUE)
        self._emit(k.PAIR)
        self._emit(k.JUMP, head)
        self._patch(head)
        if fast is not None:
            self._patch(fast)

    def _union(self, branches: list[Any], compile_branch: Any) -> None:
        """A jump table and the branches; one that does not resolve refuses the records that use it,
        all that do not resolve refuse the schema."""
        table = len(self._jumps)
        self._jumps += [0] * len(branches)
        self._emit(k.UNION, table, len(branches))
        ends: list[int] = []
        errors: list[UnusableSchemaError] = []
        for i, branch in enumerate(branches):
            start = self._jumps[table + i] = len(self._code)
            try:
                compile_branch(branch)
            except SchemaTooLargeError:
                raise
            except UnusableSchemaError as error:
                errors.append(error)
                # What the branch emitted goes, with its calls; nothing refers to its symbols and
                # jumps any more.
                del self._code[start:]
                while self._calls and self._calls[-1][0] >= start:
                    self._calls.pop()
                # An instruction takes the newest label: the reason for REFUSE, then the field's own
                # again.
                self._labels.append(str(error))
                self._emit(k.REFUSE)
                self._labels.append(self._labels[-2])
            ends.append(self._emit(k.JUMP))
        if errors and len(errors) == len(branches):
            raise errors[0]
        for at in ends:
            self._patch(at)

    def _mismatch(self, writer: Any, target: _Target) -> None:
        raise UnusableSchemaError(
            f"{self._labels[-1]} is {_schema_in_words(writer)} where {target.wanted} is wanted"
        )

    def _resolve(self, writer: Any) -> tuple[str, Any]:
        """("union", branches) or (type name, schema), with names looked up."""
        self._steps += 1
        if self._steps > MOST_COMPILER_STEPS:
            raise SchemaTooLargeError("the schema repeats its types too often")
        if isinstance(writer, list):
            return "union", writer
        schema = self._named.get(writer, {"type": writer}) if isinstance(writer, str) else writer
        return schema["type"], schema

    def _emit(self, op: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        if len(self._code) >= MOST_INSTRUCTIONS:
            raise SchemaTooLargeError(
                f"the schema needs more than {MOST_INSTRUCTIONS} instructions to be read"
            )
        self._code.append((op, a, b, c, len(self._labels) - 1))
        return len(self._code) - 1

    def _patch(self, at: int, target: int | None = None) -> None:
        """Make the jump at row `at` lead to `target`, or to what comes next."""
        op, _, b, c, label = self._code[at]
        self._code[at] = (op, len(self._code) if target is None else target, b, c, label)


def _is_variable_scale_decimal(schema: Any) -> bool:
    """Debezium's record of a scale and a number, for columns whose rows differ in scale."""
    if _VARIABLE_SCALE_DECIMAL not in (schema["name"], schema.get("connect.name")):
        return False
    kinds = [
        (field["name"], type_["type"] if isinstance(type_ := field["type"], dict) else type_)
        for field in schema["fields"]
    ]
    return kinds == [("scale", "int"), ("value", "bytes")]


def _schema_in_words(writer: Any) -> str:
    """A schema in a few words, for messages."""
    if isinstance(writer, list):
        shown = ", ".join(_schema_in_words(branch) for branch in writer[:10])
        return f"a union of {shown}" + (", ..." if len(writer) > 10 else "")
    if isinstance(writer, dict):
        return str(writer.get("name", writer["type"]))[:80]
    return str(writer)[:80]
