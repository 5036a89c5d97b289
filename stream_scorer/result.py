"""What every verb returns: a frozen dataclass whose `as_json` is what `--json` prints.

The command line's contract fixes the keys, so a field is named as its key is. Only where a key
can't be a field's name, or is left out at times, does a result write `as_json` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

# Most values are of these types, and `isinstance` of an abstract class takes ten times as long.
SIMPLE = frozenset((str, int, float, bool, type(None)))


@dataclass(frozen=True)
class Result:
    """Base of the results of verbs and of the parts that they are made of."""

    def as_json(self) -> dict[str, Any]:
        """What json.dumps takes: the fields in their order, and the parts by their `as_json`."""
        kind = type(self)
        names = _names.get(kind)
        if names is None:
            names = _names[kind] = tuple(field.name for field in fields(kind))
        return {name: _plain(getattr(self, name)) for name in names}


_names: dict[type[Result], tuple[str, ...]] = {}


def _plain(value: Any) -> Any:
    if type(value) in SIMPLE:
        return value
    if isinstance(value, Result):
        return value.as_json()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
