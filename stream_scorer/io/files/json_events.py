"""Lines of JSON as events: each is encoded as our own schema, and then decoded like any record.

Empty lines are passed over, but counted: the position of a line is its number in the file, from 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, NamedTuple

import numpy as np

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.moments import parse_iso_8601
from stream_scorer.errors import InputError

# No event is that long; without a limit a file without line ends would be read into memory whole.
MAX_LINE_BYTES = 16 * 2**20


class EncodedLines(NamedTuple):
    """Consecutive lines: positions (n,) int64, and n values, framed Avro.

    unfit: by row, what is wrong with a line that is no event; its value is the line itself.
    """

    positions: Int64
    values: list[bytes]
    unfit: dict[int, str]


def encoded_lines(stream: IO[bytes], batch_records: int) -> Iterator[EncodedLines]:
    """All lines, batch_records at a time."""
    lines = ((n, line) for n, line in enumerate(_lines(stream)) if line.strip())
    while some := list(islice(lines, batch_records)):
        unfit: dict[int, str] = {}
        values = []
        for row, (position, line) in enumerate(some):
            try:
                values.append(_encoded(line))
            # json.loads recurses, so a line of thousands of brackets ends in RecursionError.
            except (InputError, ValueError, RecursionError) as error:
                values.append(line)
                unfit[row] = f"line {position + 1}: {_printable(error)}"
        yield EncodedLines(np.array([position for position, _ in some], np.int64), values, unfit)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines without their end; of one that is too long only the first part."""
    while line := stream.readline(MAX_LINE_BYTES):
        rest = line
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES)
        yield line.rstrip(b"\r\n")


def _encoded(line: bytes) -> bytes:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return encode_events([{**row, "occurred_at": _moment(row.get("occurred_at"))}])[0]


def _printable(error: Exception) -> str:
    """The message, with escapes for what JSON allows in a text and UTF-8 does not."""
    return str(error).encode(errors="backslashreplace").decode()


def _moment(value: Any) -> Any:
    """ISO 8601 text as a datetime; anything else as it is, for the encoder to judge."""
    if not isinstance(value, str):
        return value
    try:
        moment = parse_iso_8601(value)
    except ValueError as error:
        raise InputError(
            "occurred_at", value, "give ISO 8601 with a zone, or integer ms"
        ) from error
    if moment.tzinfo is None:
        raise InputError("occurred_at", value, 'add a zone, for example "Z"')
    return moment
