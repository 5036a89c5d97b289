"""Arrow columns of any type that says when something occurred, as milliseconds since 1970 UTC.

What a type means is what the same type means in Avro and in JSON: a date is its midnight UTC, text
is ISO 8601 with a zone, and a number is milliseconds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_scorer.core.events.batch import NULL, Bool, Int64
from stream_scorer.core.events.moments import EPOCH, parse_iso_8601
from stream_scorer.core.events.numbers_as_text import EXACT_DOUBLES
from stream_scorer.io.files.arrow_texts import codes_of

# (multiplier, divisor) to milliseconds of Arrow's units.
_UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
_DAY_MS = 86_400_000
_INT64 = np.iinfo(np.int64)


class Moments(NamedTuple):
    """Of n rows: ms (n,) int64, where there is one (n,) bool, and which can't be read (n,) bool,
    None for no row."""

    ms: Int64
    given: Bool
    unreadable: Bool | None


def moments_problem(kind: pa.DataType) -> str | None:
    """What is wrong with a column of occurred_at of this type; None where it can be read."""
    if pa.types.is_dictionary(kind):
        return moments_problem(kind.value_type)
    if pa.types.is_timestamp(kind):
        return "has no time zone; write it with one" if kind.tz is None else None
    if _is_text(kind) or pa.types.is_date(kind):
        return None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return None
    return f"is {kind}; give a timestamp with a zone, ISO 8601 text with a zone, or ms"


def moments_remedy(kind: pa.DataType) -> str:
    """What to write where a row of such a column can't be read."""
    if pa.types.is_dictionary(kind):
        return moments_remedy(kind.value_type)
    if _is_text(kind):
        return "give ISO 8601 with a zone, such as 2026-01-31T12:00:00Z"
    if pa.types.is_floating(kind):
        return "give whole milliseconds since 1970 UTC"
    return "is beyond the times that can be counted; give ms since 1970 UTC"


def moments_of(array: pa.Array) -> Moments:
    """A column of a type that `moments_problem` accepts."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _of_dictionary(array)
    if _is_text(kind):
        return _of_texts(array)
    if pa.types.is_floating(kind):
        return _of_numbers(array)
    multiplier, divisor = 1, 1
    if pa.types.is_timestamp(kind):
        multiplier, divisor = _UNITS[kind.unit]
    elif pa.types.is_date32(kind):
        multiplier, array = _DAY_MS, array.cast(pa.int32())
    unreadable = None
    if pa.types.is_uint64(kind):
        unreadable = pc.fill_null(pc.greater(array, pa.scalar(_INT64.max, pa.uint64())), False)
        unreadable = np.asarray(unreadable.to_numpy(zero_copy_only=False), np.bool_)
    numbers = pc.fill_null(pc.cast(array, pa.int64(), safe=False), 0)
    # A copy: without nulls Arrow gives its own memory, read-only, for which kernels would be
    # compiled anew.
    moments = np.array(numbers.to_numpy(zero_copy_only=False), np.int64)
    if multiplier > 1:
        most = _INT64.max // multiplier
        unreadable = (moments > most) | (moments < -most)
    if multiplier != divisor:
        # Rounded down, as the Avro decoder rounds microseconds.
        moments = moments * multiplier // divisor
    return Moments(moments, _valid(array), _where_any(unreadable))


def _of_texts(array: pa.Array) -> Moments:
    """ISO 8601 with a zone; a text is parsed once, however many rows have it."""
    ms = np.zeros(len(array), np.int64)
    unreadable = np.zeros(len(array), np.bool_)
    known: dict[bytes, int | None] = {}
    for row, text in enumerate(array.cast(pa.large_binary()).to_pylist()):
        if text is None:
            continue
        if text not in known:
            known[text] = _parsed(text)
        found = known[text]
        if found is None:
            unreadable[row] = True
        else:
            ms[row] = found
    return Moments(ms, _valid(array), _where_any(unreadable))


def _parsed(text: bytes) -> int | None:
    try:
        moment = parse_iso_8601(text.decode())
    except ValueError:
        return None
    # Exact, and rounded down; total_seconds() is a float.
    return None if moment.tzinfo is None else (moment - EPOCH) // timedelta(milliseconds=1)


def _of_numbers(array: pa.Array) -> Moments:
    """Whole milliseconds: pandas makes doubles of whole numbers in a column with gaps."""
    numbers = pc.fill_null(pc.cast(array, pa.float64()), float("nan"))
    given = numbers.to_numpy(zero_copy_only=False)
    missing = np.isnan(given)
    whole = (np.abs(given) < EXACT_DOUBLES) & (given == np.floor(given))
    ms = np.where(whole, given, 0).astype(np.int64)
    return Moments(ms, ~missing, _where_any(~whole & ~missing))


def _of_dictionary(array: pa.DictionaryArray) -> Moments:
    found = moments_of(array.dictionary)
    codes = codes_of(array)
    # The last entry answers code NULL, which is -1.
    ms, given = np.append(found.ms, 0)[codes], np.append(found.given, False)[codes]
    unreadable = found.unreadable
    if unreadable is not None:
        unreadable = _where_any(np.append(unreadable, False)[codes])
    return Moments(ms, given & (codes != NULL), unreadable)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _valid(array: pa.Array) -> Bool:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)


def _where_any(rows: Bool | None) -> Bool | None:
    return rows if rows is not None and rows.any() else None
