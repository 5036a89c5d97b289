"""Puts a program together: instructions, jump tables of unions, symbols and labels; with a budget.

What it knows of types is how to read past a value of any of them. Which values are wanted, and
where they go, is resolution.py's part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stream_scorer.core.avro import program as k
from stream_scorer.core.avro.attributes import EMPTY_MAP_BYTES
from stream_scorer.core.avro.writer_schema import (
    SchemaTooLargeError,
    UnusableSchemaError,
    shown,
)

MOST_INSTRUCTIONS = 50_000
# Fields and types that are looked at, each as often as it is looked at.
MOST_COMPILER_STEPS = 200_000


class Assembler:
    """One program under way. named: the named types of the schema, by full name."""

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

    @property
    def field(self) -> str:
        """The field that instructions belong to, for messages."""
        return self._labels[-1]

    def begin_field(self, name: str) -> None:
        """Instructions that follow belong to this field."""
        self._labels.append(name)

    def resolve(self, writer: Any) -> tuple[str, Any]:
        """("union", branches) or (type name, schema), with names looked up."""
        self._steps += 1
        if self._steps > MOST_COMPILER_STEPS:
            raise SchemaTooLargeError("the schema repeats its types too often")
        if isinstance(writer, list):
            return "union", writer
        schema = self._named.get(writer, {"type": writer}) if isinstance(writer, str) else writer
        return schema["type"], schema

    def emit(self, op: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        """One more instruction; its row."""
        if len(self._code) >= MOST_INSTRUCTIONS:
            raise SchemaTooLargeError(
                f"the schema needs more than {MOST_INSTRUCTIONS} instructions to be read"
            )
        self._code.append((op, a, b, c, len(self._labels) - 1))
        return len(self._code) - 1

    def emit_raw(self, slot: int, op: int, a: int, b: int = 0, c: int = 0) -> None:
        """As `emit`, of one that may leave in `slot` what is no text yet."""
        self.emit(op, a, b, c)
        if slot != k.VALUE:
            self._raw_slots[slot] = self.field

    def patch(self, at: int, target: int | None = None) -> None:
        """Make the jump at row `at` lead to `target`, or to what comes next."""
        op, _, b, c, label = self._code[at]
        self._code[at] = (op, len(self._code) if target is None else target, b, c, label)

    def symbols(self, symbols: list[str]) -> int:
        """Where these symbols begin; those of an enum that is used again are there once."""
        if id(symbols) not in self._symbols_at:
            self._symbols_at[id(symbols)] = len(self._symbols)
            self._symbols += [symbol.encode() for symbol in symbols]
        return self._symbols_at[id(symbols)]

    def union(self, branches: list[Any], compile_branch: Callable[[Any], None]) -> None:
        """A jump table and the branches; one that does not resolve refuses the records that use it,
        all that do not resolve refuse the schema."""
        table = len(self._jumps)
        self._jumps += [0] * len(branches)
        self.emit(k.UNION, table, len(branches))
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
                self.emit(k.REFUSE)
                self._labels.append(self._labels[-2])
            ends.append(self.emit(k.JUMP))
        if errors and len(errors) == len(branches):
            raise errors[0]
        for at in ends:
            self.patch(at)

    def skip(self, writer: Any) -> None:
        """Read past one value."""
        kind, schema = self.resolve(writer)
        if kind == "union":
            self.union(schema, self.skip)
        elif kind == "record":
            self._calls.append((self.emit(k.CALL), schema["name"]))
        elif kind in ("array", "map"):
            self.emit(k.BLOCKS)
            head = self.emit(k.NEXT)
            if kind == "map":
                self.emit(k.SKIP_BYTES)
            self.skip(schema["items" if kind == "array" else "values"])
            self.emit(k.JUMP, head)
            self.patch(head)
        elif kind == "fixed":
            if schema["size"]:  # an instruction that takes no bytes would be counted by no budget
                self.emit(k.SKIP_FIXED, schema["size"])
        elif kind == "enum":
            self.emit(k.SKIP_ENUM, 0, len(schema["symbols"]))
        elif kind != "null":
            op, size = {
                "boolean": (k.SKIP_BOOLEAN, 0), "int": (k.SKIP_INT, 0), "long": (k.SKIP_LONG, 0),
                "float": (k.SKIP_FIXED, 4), "double": (k.SKIP_FIXED, 8),
                "bytes": (k.SKIP_BYTES, 0), "string": (k.SKIP_BYTES, 0),
            }[kind]  # fmt: skip
            self.emit(op, size)

    def finished(self) -> k.Program:
        """Close the program and add the nested records that it calls."""
        self.emit(k.END)
        starts_of: dict[str, int] = {}
        while self._calls:
            at, name = self._calls.pop()
            # Compiled once and called, because a record may contain itself.
            if name not in starts_of:
                starts_of[name] = len(self._code)
                for field in self._named[name]["fields"]:
                    self.begin_field(f"{shown(name)}.{shown(field['name'])}")
                    self.skip(field["type"])
                self.emit(k.RETURN)
            self.patch(at, starts_of[name])
        lengths = np.array([len(s) for s in self._symbols], np.int32)
        starts = len(EMPTY_MAP_BYTES) + np.cumsum(lengths, dtype=np.int64) - lengths
        return k.Program(
            np.array(self._code, np.int32), np.array(self._jumps, np.int32), starts, lengths,
            EMPTY_MAP_BYTES + b"".join(self._symbols), tuple(self._labels), self._raw_slots,
        )  # fmt: skip
