"""JSON Schemas of what results print, made from their types."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from stream_scorer.result import Result

SIMPLE = {
    int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"},
    bool: {"type": "boolean"}, type(None): {"type": "null"}, Any: {},
}  # fmt: skip
# A key of JSON that can't be the name of a field.
RENAMED = {"class_index": "class"}


def schemas_of(*results: type[Result]) -> dict[str, Any]:
    """By name the schema of each result, and of each that it is made of."""
    found: dict[str, Any] = {}
    waiting = list(results)
    while waiting:
        result = waiting.pop()
        if result.__name__ in found:
            continue
        parts: list[type[Result]] = []
        kinds = typing.get_type_hints(result)
        properties = {
            RENAMED.get(f.name, f.name): _schema(kinds[f.name], parts)
            for f in dataclasses.fields(result)
        }
        found[result.__name__] = {
            "type": "object", "description": _description(result),
            "properties": properties, "required": list(properties), "additionalProperties": False,
        }  # fmt: skip
        waiting += parts
    return dict(sorted(found.items()))


def reference(result: type[Result]) -> dict[str, str]:
    """Where a description has the schema of this result."""
    return {"$ref": f"#/components/schemas/{result.__name__}"}


def _schema(kind: Any, parts: list[type[Result]]) -> dict[str, Any]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(one, parts) for one in inner]}
    if origin is tuple or origin is list:
        return {"type": "array", "items": _schema(inner[0], parts)}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(inner[1], parts)}
    if isinstance(kind, type) and issubclass(kind, Result):
        parts.append(kind)
        return dict(reference(kind))
    return dict(SIMPLE[kind])


def _description(result: type[Result]) -> str:
    """The docstrings of the class and of those that it adds fields to, the base's first."""
    bases = reversed(result.__mro__[: result.__mro__.index(Result)])
    said = (inspect.cleandoc(base.__dict__.get("__doc__") or "") for base in bases)
    return "\n\n".join(
        " ".join(text.split()) for text in said if not text.startswith(f"{result.__name__}(")
    )
