"""JSON as events: each object is encoded as our own schema, and then decoded like any record.

A file has one object a line, or one array of objects. Empty lines are passed over, but counted: the
position of a line is its number in the file, that of an object its number in the array, from 0.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from stream_scorer.core.avro.event_encoder import OPTIONAL_TEXTS, REQUIRED_TEXTS, encode_events
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.moments import parse_iso_8601
from stream_scorer.core.events.numbers_as_text import (
    ATTRIBUTES_REMEDY,
    IDS_REMEDY,
    is_exact,
    number_as_text,
)
from stream_scorer.errors import InputError
from stream_scorer.io.files.limits import ReadLimits

_CHUNK_BYTES = 2**18
_BLANKS = " \t\r\n"


class EncodedObjects(NamedTuple):
    """Consecutive objects: positions (n,) int64, and n values, framed Avro.

    unfit: by row, what is wrong with one that is no event; its value is the JSON itself.
    """

    positions: Int64
    values: list[bytes]
    unfit: dict[int, str]


class UnreadableJsonError(ValueError):
    """A file that has neither one object a line nor one array of objects: what to do about it."""


class _BrokenArrayError(ValueError):
    """Where a file that begins as a JSON array does not go on as one."""


def encoded_lines(
    stream: IO[bytes], limits: ReadLimits, needed: Mapping[str, str]
) -> Iterator[EncodedObjects]:
    """The events of a file with one object a line; of a line that is too long the first part.

    needed: by field that every object must have, what is said of one that lacks it. Raises
    UnreadableJsonError where the first object goes over several lines.
    """
    batch = _Batch(limits)
    first = True
    for position, (line, whole) in enumerate(_lines(stream, limits.line_bytes)):
        if not line.strip():
            continue
        if first and line.strip() == b"{":
            raise UnreadableJsonError(
                "its objects go over several lines; write one a line, or one array of objects"
            )
        first = False
        try:
            if not whole:
                raise ValueError(f"has more than {limits.line_bytes} bytes")
            batch.add(position, _encoded(json.loads(line), line, needed), len(line))
        # json.loads recurses, so a line of thousands of brackets ends in RecursionError.
        except (InputError, ValueError, RecursionError) as error:
            batch.add(position, line, len(line), f"line {position + 1}: {_in_words(error)}")
        if batch.is_full:
            yield batch.objects()
            batch = _Batch(limits)
    if batch.values:
        yield batch.objects()


def encoded_elements(
    stream: IO[bytes], limits: ReadLimits, needed: Mapping[str, str]
) -> Iterator[EncodedObjects]:
    """The events of a file with one array of objects. needed: as of `encoded_lines`.

    Raises UnreadableJsonError where the file is no such array, or an object has more than
    limits.line_bytes; what was before it has been given.
    """
    batch = _Batch(limits)
    try:
        for position, (element, text) in enumerate(_elements(stream, limits.line_bytes)):
            try:
                original = text.encode(errors="surrogateescape")
                batch.add(position, _encoded(element, original, needed), len(text))
            except (InputError, ValueError, RecursionError) as error:
                batch.add(
                    position, original, len(text), f"object {position + 1}: {_in_words(error)}"
                )
            if batch.is_full:
                yield batch.objects()
                batch = _Batch(limits)
    except _BrokenArrayError as error:
        if batch.values:
            yield batch.objects()
        remedy = f"not one array of JSON objects: {error}; correct it, or write one a line"
        raise UnreadableJsonError(remedy) from error
    if batch.values:
        yield batch.objects()


class _Batch:
    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._positions: list[int] = []
        self._bytes = 0
        self.values: list[bytes] = []
        self._unfit: dict[int, str] = {}

    def add(self, position: int, value: bytes, given_bytes: int, unfit: str | None = None) -> None:
        if unfit is not None:
            self._unfit[len(self.values)] = unfit
        self._positions.append(position)
        self.values.append(value)
        self._bytes += given_bytes

    @property
    def is_full(self) -> bool:
        limits = self._limits
        return len(self.values) >= limits.batch_records or self._bytes >= limits.max_block_bytes

    def objects(self) -> EncodedObjects:
        return EncodedObjects(np.array(self._positions, np.int64), self.values, self._unfit)


def _lines(stream: IO[bytes], most_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Lines without their end, and whether they are whole: of a longer one the first part."""
    while line := stream.readline(most_bytes + 1):
        rest = line
        while len(rest) > most_bytes and not rest.endswith(b"\n"):
            rest = stream.readline(most_bytes + 1)
        whole = rest is line
        yield line.rstrip(b"\r\n") if whole else line[:most_bytes], whole


def _elements(stream: IO[bytes], most_bytes: int) -> Iterator[tuple[Any, str]]:
    """Each element of the array, and its text, with only a part of the file in memory."""
    text = _Text(stream, most_bytes)
    count = 0
    if text.next_mark() != "[":
        raise _BrokenArrayError("it does not begin with [")
    text.at += 1
    if text.next_mark() == "]":
        text.at += 1
    else:
        while True:
            yield text.element(count)
            count += 1
            mark = text.next_mark()
            text.at += 1
            if mark == "]":
                break
            if mark != ",":
                raise _BrokenArrayError(f"no comma after object {count}")
            text.next_mark()
    if text.next_mark():
        raise _BrokenArrayError(f"something follows the array of {count} objects")


class _Text:
    """The characters of a file from `at` on, as far as they were read."""

    def __init__(self, stream: IO[bytes], most_bytes: int) -> None:
        self._stream, self._most = stream, most_bytes
        # A byte that is no UTF-8 becomes half of a surrogate pair, which the encoder refuses.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._scan = json.JSONDecoder().raw_decode
        self._text, self.at, self._ended = "", 0, False

    def next_mark(self) -> str:
        """The next character that is no blank, "" at the end; `at` stands on it."""
        while True:
            while self.at < len(self._text) and self._text[self.at] in _BLANKS:
                self.at += 1
            if self.at < len(self._text) or not self._read(_CHUNK_BYTES):
                return self._text[self.at : self.at + 1]

    def element(self, count: int) -> tuple[Any, str]:
        """The element that begins at `at`."""
        more = _CHUNK_BYTES
        while True:
            try:
                element, end = self._scan(self._text, self.at)
                # A number may go on in what was not read yet.
                if end < len(self._text) or self._ended:
                    given = self._text[self.at : end]
                    self.at = end
                    return element, given
            except ValueError as error:
                if self._ended:
                    what = (
                        error.msg if isinstance(error, json.JSONDecodeError) else _in_words(error)
                    )
                    what = f"object {count + 1} is not JSON, or cut short ({what})"
                    raise _BrokenArrayError(what) from error
            except RecursionError as error:
                raise _BrokenArrayError(f"object {count + 1} is nested too deep") from error
            if len(self._text) - self.at > self._most:
                what = f"object {count + 1} is not JSON, or has more than {self._most} bytes"
                raise _BrokenArrayError(what)
            self._read(more)
            # Twice as much each time, since the element is scanned from its start again.
            more *= 2

    def _read(self, size: int) -> bool:
        """Read on; False at the end of the file."""
        data = self._stream.read(size)
        self._ended = not data
        self._text = self._text[self.at :] + self._decode(data, self._ended)
        self.at = 0
        return not self._ended


def _encoded(row: Any, text: bytes, needed: Mapping[str, str]) -> bytes:
    """text: the JSON that `row` was read from."""
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    for key, name in _KEYS.items():
        if text.count(key) > 1:
            _refuse_repeated(text, name)
    for name, lacking in needed.items():
        if name not in row:
            raise ValueError(lacking)
    for name in (*REQUIRED_TEXTS, "occurred_at"):
        if row.get(name) is None:
            raise ValueError(f"null in {name}" if name in row else f"lacks the field {name}")
    event = {**row, "occurred_at": _moment(row["occurred_at"])}
    for name in (*REQUIRED_TEXTS, *OPTIONAL_TEXTS):
        given = row.get(name)
        if given is not None and not isinstance(given, str):
            event[name] = _id_as_text(name, given)
    if row.get("attributes") is not None:
        event["attributes"] = _attributes(row["attributes"])
    return encode_events([event])[0]


def _refuse_repeated(text: bytes, name: str) -> None:
    """Raises ValueError where the object has the field more than once: which one is meant?"""
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is the last one to be complete
        return dict(found)

    json.loads(text, object_pairs_hook=keep)
    if sum(key == name for key, _ in pairs) > 1:
        raise ValueError(f"has the field {name} more than once")


def _id_as_text(name: str, given: object) -> str | None:
    if isinstance(given, int) and not isinstance(given, bool):
        return number_as_text(given)
    # NaN is no value. Any other double may stand for several ids.
    if isinstance(given, float) and (math.isnan(given) or is_exact(given)):
        return number_as_text(given)
    raise InputError(name, given, IDS_REMEDY)


def _attributes(given: object) -> object:
    """As a map of texts; the encoder says what is wrong with anything that is no map."""
    if isinstance(given, list) and all(isinstance(e, dict) and e.keys() == _PAIR for e in given):
        # As Polars, which has no maps, writes them.
        given = {pair["key"]: pair["value"] for pair in given if isinstance(pair["key"], str)}
    if not isinstance(given, dict):
        return given
    texts: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, (int, float)):
            text = number_as_text(value)
        elif value is None or isinstance(value, str):
            text = value
        else:
            raise InputError(f"attributes.{name}", value, ATTRIBUTES_REMEDY)
        if text is not None:
            texts[name] = text
    return texts


_PAIR = {"key", "value"}
# As fields stand in JSON; looked for before an object is searched for fields that it has twice.
_KEYS = {
    f'"{name}"'.encode(): name
    for name in (*REQUIRED_TEXTS, *OPTIONAL_TEXTS, "value", "occurred_at", "attributes")
}


def _in_words(error: Exception) -> str:
    """What is wrong, with escapes for what JSON allows in a text and UTF-8 does not."""
    if isinstance(error, json.JSONDecodeError):
        what = "something follows the object" if error.msg == "Extra data" else error.msg
        return f"not JSON ({what}, at character {error.pos + 1})"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text at byte {error.start + 1}"
    if isinstance(error, RecursionError):
        return "nested too deep"
    # Python refuses to read whole numbers of thousands of digits, which takes very long.
    if "integer string conversion" in str(error):
        return "a number has more digits than can be read"
    return str(error).encode(errors="backslashreplace").decode()


def _moment(value: Any) -> Any:
    """ISO 8601 text as a datetime; anything else as it is, for the encoder to judge."""
    if isinstance(value, float) and is_exact(value):
        return int(value)
    if not isinstance(value, str):
        return value
    try:
        moment = parse_iso_8601(value)
    except ValueError as error:
        remedy = "give ISO 8601 with a zone, or integer ms"
        raise InputError("occurred_at", value, remedy) from error
    if moment.tzinfo is None:
        raise InputError("occurred_at", value, 'add a zone, for example "Z"')
    return moment
