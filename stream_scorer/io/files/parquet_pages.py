"""What the pages of a Parquet file would become in memory, known before Arrow reads them.

Arrow decompresses a page whole, and makes a text of each value whose text stands in the file once.
So the headers of all pages are read first (Apache Parquet format, parquet.thrift, in Thrift's
compact protocol). A page that becomes too large refuses the file; where texts would repeat, they
are read as dictionaries or in smaller batches. The file's footer is read here as well: pyarrow ends
the process where the metadata of a column contradicts itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_scorer.errors import EventFileError
from stream_scorer.io.files.limits import ReadLimits
from stream_scorer.storage.places import Place

# Most headers are shorter; one with long statistics is read again with more bytes.
_HEADER_BYTES = 512
_MOST_HEADER_BYTES = 2**24
_MOST_DEPTH = 16
_DICTIONARY_PAGE = 2
_DELTA_LENGTH_BYTE_ARRAY, _DELTA_BYTE_ARRAY = 6, 7
# What Arrow needs for each value beside its content: a level or an index; for one of a dictionary,
# or of a map or list, pointers or offsets.
_VALUE_BYTES = 4
_NESTED_VALUE_BYTES = 16
_UNCOMPRESSED = 0
# By the number of the codec. LZO and the old LZ4 are not there: pyarrow knows nothing of the one,
# and frames the other in its own way.
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_FOOTER_END_BYTES = 8  # its length, and the magic bytes
_LENGTH = struct.Struct("<I")
# Of Thrift's true and false, which have no bytes of their own outside lists, byte, and double.
_FIXED_BYTES = {1: 0, 2: 0, 3: 1, 7: 8}


class ReadingPlan(NamedTuple):
    """dictionaries: leaves to read as dictionaries. most_rows: to read at a time."""

    dictionaries: list[str]
    most_rows: int


class _Page(NamedTuple):
    kind: int
    plain_bytes: int
    file_bytes: int
    values: int
    encoding: int
    content_at: int


class _Group(NamedTuple):
    """A row group: the metadata of its columns, and how many rows it has."""

    columns: Any
    rows: int


class _Chunk(NamedTuple):
    """One column of a row group: where its pages are, and how they are compressed."""

    start: int
    end: int
    codec: int


class _UnreadableError(Exception):
    """Bytes that are no header of a page, or no footer."""


def reading_plan(
    path: Place, here: Path, file: pq.ParquetFile, columns: Collection[str],
    repetitive: Collection[str], limits: ReadLimits,
) -> ReadingPlan:  # fmt: skip
    """How to read `columns` of an open file within the limits.

    path: what errors name. here: where its bytes lie on disk. repetitive: leaves to read as
    dictionaries in any case where they can be. Raises EventFileError for a page that becomes
    too large, and OSError.
    """
    leaves = [
        (number, file.schema.column(number))
        for number in range(len(file.schema))
        if file.schema.column(number).path.partition(".")[0] in columns
    ]
    dictionaries = []
    most_rows = limits.batch_records
    most_bytes = limits.max_block_bytes
    with closing(_Handle(here)) as handle:
        groups = _row_groups(path, handle)
        for number, leaf in leaves:
            is_text = leaf.physical_type == "BYTE_ARRAY"
            wanted = is_text and leaf.path in repetitive
            longest = leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
            delta = False
            repeated = 0  # values of a map or list in one row group
            for group in groups:
                chunk = _chunk(path, group.columns, number)
                plain_bytes = values = 0
                for page in _pages(path, handle, chunk):
                    _check(path, leaf, page, limits)
                    if page.kind != _DICTIONARY_PAGE:
                        plain_bytes += page.plain_bytes
                        values += page.values
                        # A row of a flat column is one value, so this many of any rows fit.
                        flat = not leaf.max_repetition_level
                        if flat and page.values and page.plain_bytes:
                            fitting = most_bytes * page.values // page.plain_bytes
                            most_rows = min(most_rows, max(1, fitting))
                    delta |= page.encoding in (_DELTA_LENGTH_BYTE_ARRAY, _DELTA_BYTE_ARRAY)
                    # A value may repeat the start of the one before it.
                    if page.encoding == _DELTA_BYTE_ARRAY:
                        longest = max(longest, page.plain_bytes)
                    elif page.kind == _DICTIONARY_PAGE and is_text and not wanted:
                        most = most_bytes // limits.batch_records
                        longest = max(longest, _longest_text(handle, chunk, page, most))
                if leaf.max_repetition_level:
                    repeated = max(repeated, values)
                    if plain_bytes > most_bytes:
                        most_rows = min(most_rows, max(1, group.rows * most_bytes // plain_bytes))
            too_long = longest * max(limits.batch_records, repeated) > most_bytes
            # Arrow can't make a dictionary of these encodings.
            if is_text and not delta and (wanted or too_long):
                dictionaries.append(leaf.path)
            elif too_long:
                most_rows = min(most_rows, max(1, most_bytes // longest))
    return ReadingPlan(dictionaries, most_rows)


def _check(path: Place, leaf: Any, page: _Page, limits: ReadLimits) -> None:
    of_a_value = _VALUE_BYTES
    if page.kind == _DICTIONARY_PAGE or leaf.max_repetition_level:
        of_a_value = _NESTED_VALUE_BYTES
    if max(page.plain_bytes, page.values * of_a_value) > limits.max_block_bytes:
        raise EventFileError(
            "events", path,
            f"a page of the column {leaf.path} has {page.plain_bytes} bytes and {page.values} "
            f"values, more than events.max_block_bytes, {limits.max_block_bytes}, allows; raise "
            "that if the file is what it should be",
        )  # fmt: skip


class _Handle:
    """A file that is read at any offset."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY)

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._handle, size, offset)

    @property
    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        os.close(self._handle)


def _row_groups(path: Place, handle: _Handle) -> list[_Group]:
    """Those that have rows: the columns of a group without rows point at no pages."""
    ending = handle.read(handle.size - _FOOTER_END_BYTES, _FOOTER_END_BYTES)
    length = int.from_bytes(ending[:4], "little")
    try:
        footer = handle.read(max(handle.size - _FOOTER_END_BYTES - length, 0), length)
        groups = _struct(footer, 0, 0)[0].get(4, [])
        return [_Group(group[1], int(group[3])) for group in groups if group.get(3)]
    except (_UnreadableError, LookupError, TypeError) as error:
        raise _unreadable(path, "footer", error) from error


def _chunk(path: Place, columns: Any, number: int) -> _Chunk:
    try:
        of = _integers(columns[number][3])
        start, codec, length = of[9], of[4], of[7]
    except (LookupError, TypeError) as error:
        raise _unreadable(path, "footer", error) from error
    if 0 < of.get(11, 0) < start:
        start = of[11]
    return _Chunk(start, start + length, codec)


def _pages(path: Place, handle: _Handle, chunk: _Chunk) -> Iterator[_Page]:
    """The pages of one column of a row group."""
    at = max(chunk.start, 0)
    while at < chunk.end:
        try:
            page = _page(handle, at)
        except _UnreadableError as error:
            raise _unreadable(path, "header of a page", error) from error
        yield page
        at = page.content_at + page.file_bytes


def _unreadable(path: Place, part: str, error: Exception) -> EventFileError:
    said = str(error) if isinstance(error, _UnreadableError) else "it lacks a part"
    remedy = f"not readable as Parquet (its {part}: {said}); write or copy it again"
    return EventFileError("events", path, remedy)


def _page(handle: _Handle, at: int) -> _Page:
    size = _HEADER_BYTES
    while True:
        data = handle.read(at, size)
        try:
            fields, length = _struct(data, 0, 0)
            break
        except IndexError as error:
            if len(data) < size or size >= _MOST_HEADER_BYTES:
                raise _UnreadableError("it is cut short, or too long") from error
            size *= 16
    sizes = _integers(fields)
    # Fields 5, 7 and 8: of a data page, a dictionary page, and a data page of version 2.
    of_data, of_dictionary, of_data_2 = (_integers(fields.get(number)) for number in (5, 7, 8))
    values = max(of.get(1, 0) for of in (of_data, of_dictionary, of_data_2))
    encoding = of_data.get(2, of_data_2.get(4, -1))
    try:
        kind, plain_bytes, file_bytes = sizes[1], sizes[2], sizes[3]
    except KeyError as error:
        raise _UnreadableError("it lacks its sizes") from error
    if min(plain_bytes, file_bytes, values) < 0:
        raise _UnreadableError("a negative size")
    return _Page(kind, plain_bytes, file_bytes, values, encoding, at + length)


def _integers(fields: Any) -> dict[int, int]:
    """The integers of a struct; none of anything else, which a corrupt header may have there."""
    given = fields.items() if isinstance(fields, dict) else ()
    return {number: value for number, value in given if isinstance(value, int)}


def _longest_text(handle: _Handle, chunk: _Chunk, page: _Page, enough: int) -> int:
    """Bytes of the longest text of a dictionary page where none is longer than `enough`; else the
    size of the page, as where it can't be looked into."""
    codec = _CODECS.get(chunk.codec)
    known = codec is not None or chunk.codec == _UNCOMPRESSED
    if page.plain_bytes <= enough or not known:
        return page.plain_bytes
    content = handle.read(page.content_at, page.file_bytes)
    if codec is not None:
        try:
            content = pa.Codec(codec).decompress(content, page.plain_bytes, asbytes=True)
        except (pa.ArrowException, OSError):  # Arrow will say so when it reads the page
            return page.plain_bytes
    longest, at = _first_of_one_length(content)
    end = len(content) - _LENGTH.size
    while at <= end and longest <= enough:
        (length,) = _LENGTH.unpack_from(content, at)
        # Faster than max(), and there are tens of thousands of texts.
        if length > longest:  # noqa: PLR1730
            longest = length
        at += _LENGTH.size + length
    return longest if longest <= enough else page.plain_bytes


def _first_of_one_length(content: bytes) -> tuple[int, int]:
    """The length of the first text, and where the texts end that begin the page and have it too.

    Ids are often of one length, and then need not be looked at one by one.
    """
    if len(content) < _LENGTH.size:
        return 0, len(content)
    (length,) = _LENGTH.unpack_from(content)
    step = _LENGTH.size + length
    count = len(content) // step
    table = np.frombuffer(content, np.uint8, count * step).reshape(count, step)
    other = np.flatnonzero((table[:, : _LENGTH.size] != table[:1, : _LENGTH.size]).any(axis=1))
    return length, step * (int(other[0]) if len(other) else count)


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """(integers, structs and lists by field, position after it).

    Raises IndexError where the data ends.
    """
    if depth > _MOST_DEPTH:
        raise _UnreadableError("it is nested too deep")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        value, at = _value(data, at, head & 15, depth)
        if value is not None:
            fields[number] = value
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """(an integer, a struct, a list, or None for anything else, position after it)."""
    if kind in (4, 5, 6):
        return _integer(data, at)
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind in (9, 10):
        return _list(data, at, depth)
    if kind not in _FIXED_BYTES:
        raise _UnreadableError("a field of an unknown type")
    return None, at + _FIXED_BYTES[kind]


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    found = []
    for _ in range(size):
        # In a list even a boolean has a byte.
        value, at = (None, at + 1) if kind in (1, 2) else _value(data, at, kind, depth + 1)
        if at > len(data):
            raise IndexError
        found.append(value)
    return found, at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise _UnreadableError("a number of more than 64 bits")
