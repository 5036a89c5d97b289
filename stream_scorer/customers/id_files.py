"""Lists of customer ids in text files: one id a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_scorer.errors import InputError, cannot_read

MOST_FILE_BYTES = 64 << 20


def read_ids(path: Path) -> list[str]:
    """The ids of a file, each once, in order; empty lines are passed over, blanks are part of ids.

    Raises InputError where it can't be read, is not UTF-8, is too large, has no id, or is a list of
    `customer forget --list`.
    """
    try:
        with path.open("rb") as file:  # a pipe does not say how much comes
            content = file.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            remedy = "divide it, for which a file of lines may be cut at any of them"
            raise InputError(
                "--ids-file", path, f"has more than {MOST_FILE_BYTES:,} bytes; {remedy}"
            )
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InputError("--ids-file", path, cannot_read(error)) from None
    except UnicodeDecodeError:
        raise InputError("--ids-file", path, "is not UTF-8 text; save it as UTF-8") from None
    lines = [line for line in text.split("\n") if line]
    if any(line.startswith('{"customer_id":') for line in lines):
        remedy = "is a list of `customer forget --list`, not of ids; give it with --again"
        raise InputError("--ids-file", path, remedy)
    found = list(dict.fromkeys(lines))
    if not found:
        raise InputError("--ids-file", path, "has no id; write one a line")
    return found


def all_ids(given: Sequence[str], path: Path | None) -> list[str]:
    """Those given, then those of the file, each once. Raises InputError where there is none."""
    found = list(dict.fromkeys([*given, *([] if path is None else read_ids(path))]))
    if not found:
        raise InputError("ID", None, "give a customer's id, or a file of them (--ids-file)")
    return found
