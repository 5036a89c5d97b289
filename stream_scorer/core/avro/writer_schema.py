"""A writer's schema from its JSON text, with everything in it checked.

The text comes from whoever may register a schema or write a file, so nothing of it is believed: the
compiled interpreter reads memory at sizes, indices and counts that come from here. Text, nesting
and number of types have limits, so that a hostile schema costs milliseconds. Names are resolved to
full names as Avro 1.11 says; what has no bearing on the bytes of a record (defaults, aliases, docs)
is not looked at, so a schema that is wrong only there is still readable.
"""

from __future__ import annotations

import json
from typing import Any

MOST_SCHEMA_CHARACTERS = 2**20
# Real schemas are less than 20 deep; our own checks and the compiler recurse a few calls a level.
MOST_NESTED_TYPES = 100
MOST_TYPES = 20_000
# Full names are kept for each type, and a symbol's text for each record that has its one byte: with
# names as long as the schema a few bytes would take gigabytes. Real ones have less than 200.
MOST_NAME_CHARACTERS = 1_000
MOST_SHOWN_CHARACTERS = 80
INT32_MAX = 2**31 - 1

PRIMITIVES = frozenset(
    ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
)  # fmt: skip
_NAMED = ("record", "error", "enum", "fixed")
# Attributes of a type that say what its bytes mean, beside those of its kind.
_MEANING = ("logicalType", "connect.name", "connect.parameters", "scale", "precision")


class UnusableSchemaError(Exception):
    """Records of this writer schema can't be read as events; the message says why."""


class SchemaTooLargeError(UnusableSchemaError):
    """The schema needs more work than any schema of events does."""


def parse_writer_schema(text: str) -> tuple[Any, dict[str, Any]]:
    """The schema of JSON text, and its named types by full name.

    A type is the name of a primitive or of a named type, a list of types (a union), or a dictionary
    whose "type" is a primitive, "record", "enum", "fixed", "array" or "map", with what belongs to
    that kind and nothing that was not checked. Raises UnusableSchemaError.
    """
    if len(text) > MOST_SCHEMA_CHARACTERS:
        raise SchemaTooLargeError(
            f"the schema has {len(text)} characters, more than the {MOST_SCHEMA_CHARACTERS} allowed"
        )
    try:
        schema = json.loads(text)
        # Names and symbols must be text that can be written as UTF-8; JSON also allows halves of
        # surrogate pairs.
        json.dumps(schema, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{type(error).__name__}: {error}") from error
    parser = _Parser()
    return parser.type_of(schema, "", 0), parser.named


class _Parser:
    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self._types = 0

    def type_of(  # noqa: PLR0911
        self, schema: Any, namespace: str, depth: int
    ) -> Any:
        self._types += 1
        if self._types > MOST_TYPES:
            raise SchemaTooLargeError(f"the schema has more than {MOST_TYPES} types")
        if depth > MOST_NESTED_TYPES:
            raise SchemaTooLargeError(f"its types are nested more than {MOST_NESTED_TYPES} deep")
        if isinstance(schema, str):
            return self._reference(schema, namespace)
        if isinstance(schema, list):
            if not schema:
                raise _invalid("a union without branches")
            if any(isinstance(branch, list) for branch in schema):
                raise _invalid("a union directly in a union")
            return [self.type_of(branch, namespace, depth + 1) for branch in schema]
        if not isinstance(schema, dict):
            raise _invalid(f"{shown(schema)} is no type")
        kind = schema.get("type")
        if isinstance(kind, (dict, list)):
            return self.type_of(kind, namespace, depth + 1)
        if kind in _NAMED:
            return self._definition(kind, schema, namespace, depth)
        if kind in ("array", "map"):
            part = "items" if kind == "array" else "values"
            if part not in schema:
                raise _invalid(f"{kind} without {part}")
            return {"type": kind, part: self.type_of(schema[part], namespace, depth + 1)}
        if kind in PRIMITIVES:
            return {"type": kind} | _meaning(schema)
        if isinstance(kind, str):
            return self._reference(kind, namespace)
        raise _invalid(f"{shown(kind)} is no type")

    def _reference(self, name: str, namespace: str) -> str:
        if name in PRIMITIVES:
            return name
        for full_name in (f"{namespace}.{name}", name):
            if full_name in self.named:
                return full_name
        raise _invalid(f"the type {shown(name)} is not known")

    def _definition(self, kind: str, schema: Any, namespace: str, depth: int) -> Any:
        name, inside = _full_name(schema, namespace)
        if name in self.named:
            raise _invalid(f"the type {shown(name)} is defined twice")
        # In an Avro protocol a record that may be thrown has the type "error".
        kind = "record" if kind == "error" else kind
        # Known before its fields are looked at, because a record may contain itself.
        found = self.named[name] = {"type": kind, "name": name} | _meaning(schema)
        if kind == "record":
            found["fields"] = self._fields(schema, name, inside, depth)
        elif kind == "enum":
            found["symbols"] = _symbols(schema, name)
        else:
            found["size"] = _whole_number(schema, "size", name, INT32_MAX)
        return found

    def _fields(self, schema: Any, name: str, namespace: str, depth: int) -> list[Any]:
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise _invalid(f"the record {shown(name)} has no list of fields")
        found: dict[str, Any] = {}
        for field in fields:
            if not isinstance(field, dict) or not isinstance(field.get("name"), str):
                raise _invalid(f"a field of {shown(name)} has no name")
            if field["name"] in found:
                raise _invalid(f"the field {shown(field['name'])} of {shown(name)} comes twice")
            if "type" not in field:
                raise _invalid(f"the field {shown(field['name'])} of {shown(name)} has no type")
            found[field["name"]] = self.type_of(field["type"], namespace, depth + 1)
        return [{"name": name, "type": type_} for name, type_ in found.items()]


def _full_name(schema: Any, namespace: str) -> tuple[str, str]:
    """The full name of a definition, and the namespace inside of it."""
    name, given = schema.get("name"), schema.get("namespace")
    given = namespace if given is None else given
    if not isinstance(name, str) or not name:
        raise _invalid(f"a {schema['type']} has no name")
    if not isinstance(given, str):
        raise _invalid(f"the namespace of {shown(name)} is not text")
    if len(name) + len(given) >= MOST_NAME_CHARACTERS:
        raise _too_long("the full name", f"{given}.{name}".lstrip("."))
    if "." in name:
        return name, name.rpartition(".")[0]
    if name in PRIMITIVES or name in (*_NAMED, "array", "map"):
        raise _invalid(f"a type may not be named {name}")
    return (f"{given}.{name}" if given else name), given


def _symbols(schema: Any, name: str) -> list[str]:
    symbols = schema.get("symbols")
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise _invalid(f"the enum {shown(name)} has no list of symbols")
    for symbol in symbols:
        if len(symbol) > MOST_NAME_CHARACTERS:
            raise _too_long("a symbol", symbol)
    if len(set(symbols)) < len(symbols):
        raise _invalid(f"a symbol of the enum {shown(name)} comes twice")
    return symbols


def _whole_number(schema: Any, part: str, name: str, most: int) -> int:
    number = schema.get(part)
    # To Python a bool is an int.
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        raise _invalid(
            f"the {part} of {shown(name)} is {shown(number)}, not a whole number from 0 to {most}"
        )
    return number


def _meaning(schema: Any) -> dict[str, Any]:
    return {part: schema[part] for part in _MEANING if part in schema}


def _too_long(what: str, name: str) -> SchemaTooLargeError:
    return SchemaTooLargeError(
        f"{what} {shown(name)} has {len(name)} characters, more than the {MOST_NAME_CHARACTERS} "
        "allowed"
    )


def _invalid(what: str) -> UnusableSchemaError:
    return UnusableSchemaError(f"not a valid Avro schema: {what:.300}")


def shown(value: object) -> str:
    """A piece of the schema for a message: short, and without characters that move the cursor."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = str(value)
    text = text if len(text) <= MOST_SHOWN_CHARACTERS else text[:MOST_SHOWN_CHARACTERS] + "..."
    return text if text.isprintable() else repr(text)[1:-1]


def in_words(writer: Any) -> str:
    """A schema, of those that `parse_writer_schema` gives, in a few words for messages."""
    if isinstance(writer, list):
        parts = ", ".join(in_words(branch) for branch in writer[:10])
        return f"a union of {parts}" + (", ..." if len(writer) > 10 else "")
    return shown(writer.get("name", writer["type"]) if isinstance(writer, dict) else writer)
