"""From a writer's Avro schema to the instructions that read its records as our events.

It follows Avro 1.11, "Schema Resolution"; our reader schema is schemas/customer_event.avsc. The
instructions are run by interpreter.py.

The writer's fields are taken in their order. One that we know is compiled to instructions that end
in its column, any other to instructions that skip it. Beside Avro's promotions (int to long,
numbers to double, bytes to string) an enum is taken for a string, and occurred_at may be in other
units than milliseconds. What can't resolve fails here for every record of the schema, or, where it
is one branch of a union, when a record uses that branch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastavro.schema import parse_schema

from stream_scorer.core.avro import interpreter as k
from stream_scorer.core.avro.attributes import EMPTY_MAP_BYTES
from stream_scorer.core.events.batch import Int32, Int64

RECORD_NAME = "CustomerEvent"
TYPES = (
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
    "record", "enum", "fixed", "array", "map",
)  # fmt: skip
INT32_MAX = 2**31 - 1

# Divisor to milliseconds of each logical type that is a moment.
TIME_DIVISORS = {
    None: 1,
    "timestamp-millis": 1, "timestamp-micros": 1_000, "timestamp-nanos": 1_000_000,
    "local-timestamp-millis": 1, "local-timestamp-micros": 1_000,
    "local-timestamp-nanos": 1_000_000,
}  # fmt: skip

_VALUE_OPS = {
    "double": k.DOUBLE, "float": k.FLOAT, "long": k.LONG_VALUE, "int": k.INT_VALUE,
}  # fmt: skip


class UnusableSchemaError(Exception):
    """Records of this writer schema can't be read as events; the message says why."""


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
    "attributes": _Target("map", has_default=True),
}
_MAP_VALUE = _Target("string", slot=k.MAP_VALUE)


@dataclass(frozen=True, slots=True)
class Program:
    """What interpreter.run runs. Symbols of enums and defaults are spans of `constants`, which must
    stand in the buffer; labels name fields in messages."""

    code: Int32
    jumps: Int32
    symbol_starts: Int64
    symbol_lengths: Int32
    constants: bytes
    labels: tuple[str, ...]

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
    named: dict[str, Any] = {}
    try:
        writer = parse_schema(json.loads(schema), named_schemas=named)
        compiler = _Compiler(named)
        if skip_all:
            compiler.skip(writer)
        else:
            compiler.event(writer)
        return compiler.finished()
    except UnusableSchemaError:
        raise
    except Exception as error:  # fastavro raises almost anything for an invalid schema
        raise UnusableSchemaError(f"not a valid Avro schema: {error!r:.200}") from error


class _Compiler:
    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._code: list[tuple[int, int, int, int, int]] = []
        self._jumps: list[int] = []
        self._symbols: list[bytes] = []
        self._labels = [""]
        self._calls: list[tuple[int, str]] = []

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
            # Instructions are int32; a record is never as long, so it ends as cut short either way.
            self._emit(k.SKIP_FIXED, min(schema["size"], INT32_MAX))
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
            EMPTY_MAP_BYTES + b"".join(self._symbols), tuple(self._labels),
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
            self._emit_default(target)

    def _emit_default(self, target: _Target) -> None:
        if target.kind == "map":
            self._emit(k.EMPTY_MAP)
        else:
            self._emit_null(target)

    def _emit_null(self, target: _Target) -> None:
        self._emit(*((k.NULL_VALUE,) if target.kind == "value" else (k.NULL_STRING, target.slot)))

    def _read(self, writer: Any, target: _Target) -> None:
        """One value of the writer's type into the target's column."""
        kind, schema = self._resolve(writer)
        if kind == "union":
            self._union(schema, lambda branch: self._read(branch, target))
        elif kind == "null" and target.nullable:
            self._emit_null(target)
        elif target.kind == "string" and kind in ("string", "bytes"):
            self._emit(k.STRING, target.slot)
        elif target.kind == "string" and kind == "enum":
            self._emit(k.ENUM, len(self._symbols), len(schema["symbols"]), target.slot)
            self._symbols += [s.encode() for s in schema["symbols"]]
        elif target.kind == "value" and kind in _VALUE_OPS:
            self._emit(_VALUE_OPS[kind])
        elif target.kind == "time" and kind in ("int", "long"):
            self._emit(k.TIME, self._time_divisor(schema), int(kind == "int"))
        elif target.kind == "map" and kind == "map":
            self._attributes(schema["values"])
        else:
            self._mismatch(writer, target)

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

    def _time_divisor(self, schema: Any) -> int:
        logical = schema.get("logicalType") if isinstance(schema, dict) else None
        if logical not in TIME_DIVISORS:
            raise UnusableSchemaError(f"occurred_at is {logical}, not a timestamp")
        return TIME_DIVISORS[logical]

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
            except UnusableSchemaError as error:
                errors.append(error)
                # What the branch emitted goes, with its calls; nothing refers to its symbols and
                # jumps any more.
                del self._code[start:]
                self._calls = [call for call in self._calls if call[0] < start]
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
        """("union", branches) or (type name, schema) with names and wrappers looked through."""
        schema = writer
        while True:
            if isinstance(schema, list):
                return "union", schema
            kind = schema["type"] if isinstance(schema, dict) else schema
            if isinstance(kind, (dict, list)):
                schema = kind
            elif kind in self._named:
                schema = self._named[kind]
            # In an Avro protocol a record that may be thrown has the type "error".
            elif kind == "error":
                return "record", schema
            elif kind in TYPES:
                return kind, schema
            else:
                raise UnusableSchemaError(f"the type {kind!r} is not known")

    def _emit(self, op: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        self._code.append((op, a, b, c, len(self._labels) - 1))
        return len(self._code) - 1

    def _patch(self, at: int, target: int | None = None) -> None:
        """Make the jump at row `at` lead to `target`, or to what comes next."""
        op, _, b, c, label = self._code[at]
        self._code[at] = (op, len(self._code) if target is None else target, b, c, label)


def _schema_in_words(writer: Any) -> str:
    """A schema in a word or two, for messages."""
    if isinstance(writer, list):
        return "a union of " + ", ".join(_schema_in_words(branch) for branch in writer)
    if isinstance(writer, dict):
        return str(writer.get("name", writer["type"]))
    return str(writer)
