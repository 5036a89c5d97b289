"""The JSON of manifests, read strictly, and the checksum that they hold.

The manifest of a model and that of a snapshot are read by two languages, which must not understand
one text in two ways. So what readers of JSON disagree about is refused here as in Json.java: a name
twice in one object, bytes that are not UTF-8, deep nesting. A byte order mark before it, as some
editors write, is skipped. NaN and Infinity are taken, as Python writes them.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from typing import Any

from stream_scorer.storage.places import Place

# Of a manifest; its vocabularies are most of it. A million words of 20 characters take 60 MB.
MAX_BYTES = 256 << 20
MAX_DEPTH = 100  # ours have 6
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _RepeatedName(ValueError):
    """A name stands twice in one object."""


def parse_json(content: bytes) -> Any:
    """What the JSON says. Raises ValueError, whose text says in one line what is wrong."""
    try:
        text = content.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except _RepeatedName:
        raise
    except ValueError:  # also of a whole number of more than 4,300 digits
        raise ValueError("it is not JSON") from None
    except RecursionError:  # Python's parser recurses
        raise ValueError("it is nested too deeply") from None
    _check_depth(value)
    return value


def checksum(raw: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's contents, its own checksum left out, as hexadecimal digits."""
    text = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_file(path: Place, max_bytes: int) -> bytes:
    """A file's bytes. Raises OSError, and ValueError where it is not a file or longer than that."""
    found = path.stat()
    # A pipe or a device of that name would be read for ever.
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is not a file")
    if found.st_size > max_bytes:
        raise ValueError(f"has {found.st_size} bytes, more than the {max_bytes} that it may have")
    with path.open("rb") as file:
        # One more, so that a file that grew meanwhile is noticed.
        content = file.read(min(found.st_size, max_bytes) + 1)
    if len(content) > max_bytes:
        raise ValueError(f"has more than the {max_bytes} bytes that it may have")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise _RepeatedName(f"it has the name {twice[:60]!r} twice in one object")
    return found


def _check_depth(value: Any) -> None:
    """Raises ValueError where lists and objects are nested beyond `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer if isinstance(outer, list) else outer.values())
            if isinstance(inner, list | dict)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")
