"""From a writer's Avro schema to the program that reads its records as our events.

It follows Avro 1.11, "Schema Resolution"; our reader schema is schemas/customer_event.avsc.

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

from stream_scorer.core.avro import program as k
from stream_scorer.core.avro.assembler import Assembler
from stream_scorer.core.avro.logical_types import decimal_type, is_uuid, time_divisor
from stream_scorer.core.avro.writer_schema import (
    UnusableSchemaError,
    in_words,
    parse_writer_schema,
    shown,
)

RECORD_NAME = "CustomerEvent"

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


def event_program(schema: str) -> k.Program:
    """Instructions that read records of the writer schema (JSON text) as events.

    Raises UnusableSchemaError.
    """
    writer, named = parse_writer_schema(schema)
    events = _EventResolution(Assembler(named))
    events.event(writer)
    return events.program.finished()


def skip_program(schema: str) -> k.Program:
    """Instructions that only find where a record ends. Raises UnusableSchemaError."""
    writer, named = parse_writer_schema(schema)
    program = Assembler(named)
    program.skip(writer)
    return program.finished()


class _EventResolution:
    """Which of the writer's fields end in which of our columns."""

    def __init__(self, program: Assembler) -> None:
        self.program = program

    def event(self, writer: Any) -> None:
        """The whole program's first part: one record of ours, or a union with one."""
        kind, schema = self.program.resolve(writer)
        if kind == "union":
            self.program.union(schema, self.event)
        elif kind == "record":
            self._record(schema)
        else:
            raise UnusableSchemaError(f"the schema is {in_words(writer)}, not a record")

    def _record(self, schema: Any) -> None:
        name = schema["name"].rpartition(".")[2]
        if name != RECORD_NAME:
            raise UnusableSchemaError(f"the record is named {shown(name)}, not {RECORD_NAME}")
        missing = dict(_FIELDS)
        for field in schema["fields"]:
            self.program.begin_field(shown(field["name"]))
            target = missing.pop(field["name"], None)
            if target is None:
                self.program.skip(field["type"])
            else:
                self._read(field["type"], target)
        for name, target in missing.items():
            if not target.has_default:
                raise UnusableSchemaError(
                    f"the schema lacks the field {name}, which has no default"
                )
            self._null(target)

    def _null(self, target: _Target) -> None:
        if target.kind == "map":
            self.program.emit(k.EMPTY_MAP)
        elif target.kind == "value":
            self.program.emit(k.NULL_VALUE)
        else:
            self.program.emit(k.NULL_STRING, target.slot)

    def _read(self, writer: Any, target: _Target) -> None:
        """One value of the writer's type into the target's column."""
        kind, schema = self.program.resolve(writer)
        if kind == "union":
            self.program.union(schema, lambda branch: self._read(branch, target))
        elif kind == "null" and target.nullable:
            self._null(target)
        elif target.kind == "string":
            self._text(writer, kind, schema, target)
        elif target.kind == "value" and kind in _VALUE_OPS:
            self.program.emit(_VALUE_OPS[kind])
        elif target.kind == "value" and self._decimal(kind, schema, k.VALUE):
            pass
        elif target.kind == "time" and kind in ("int", "long", "string"):
            divisor = time_divisor(kind, schema, self.program.field)
            if divisor is None:
                self.program.emit(k.MOMENT)
            else:
                self.program.emit(k.TIME, divisor, int(kind == "int"))
        elif target.kind == "map" and kind == "map":
            self._attributes(schema["values"])
        else:
            self._mismatch(writer, target)

    def _text(self, writer: Any, kind: str, schema: Any, target: _Target) -> None:
        """A value as text: of an id, an event type, a category, or an attribute."""
        slot, program = target.slot, self.program
        if self._decimal(kind, schema, slot):
            pass
        elif kind in ("string", "bytes"):
            program.emit(k.STRING, slot)
        elif kind == "enum":
            symbols = schema["symbols"]
            program.emit(k.ENUM, program.symbols(symbols), len(symbols), slot)
        elif kind == "boolean" and target is _MAP_VALUE:
            program.emit(k.BOOLEAN_TEXT, program.symbols(_BOOLEANS), 0, slot)
        elif kind in ("int", "long"):
            program.emit_raw(slot, k.LONG_TEXT, slot, int(kind == "int"))
        elif kind in _RAW_NUMBERS or is_uuid(kind, schema):
            size, what = _RAW_NUMBERS.get(kind, (16, k.RAW_UUID))
            program.emit_raw(slot, k.RAW_BYTES, slot, size, what)
        else:
            self._mismatch(writer, target)

    def _decimal(self, kind: str, schema: Any, slot: int) -> bool:
        """Read a decimal into a slot or into `VALUE`; False where the type is none."""
        found = decimal_type(kind, schema, self.program.field)
        if found is None:
            return False
        if found.scale == k.SCALE_READ:
            self.program.emit(k.SCALE, 0, 1)
        self.program.emit_raw(slot, k.DECIMAL, slot, found.size, found.scale)
        return True

    def _attributes(self, values: Any) -> None:
        """The fast way for a canonical map of strings, then the general loop."""
        program, fast = self.program, None
        kind, schema = program.resolve(values)
        # The bytes of a decimal may be UTF-8 by chance, and would be taken for text.
        is_text = kind in ("string", "bytes") and not decimal_type(kind, schema, program.field)
        if is_text:
            fast = program.emit(k.MAP)
        program.emit(k.EMPTY_MAP)  # until a key comes
        program.emit(k.BLOCKS)
        head = program.emit(k.NEXT)
        program.emit(k.KEY)
        self._read(values, _MAP_VALUE)
        program.emit(k.PAIR)
        program.emit(k.JUMP, head)
        program.patch(head)
        if fast is not None:
            program.patch(fast)

    def _mismatch(self, writer: Any, target: _Target) -> None:
        remedy = "; write a long of timestamp-millis, or text" if target.kind == "time" else ""
        raise UnusableSchemaError(
            f"{self.program.field} is {in_words(writer)} where {target.wanted} is wanted{remedy}"
        )
