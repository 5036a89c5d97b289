"""Arrow columns of any type that can be shown as text, as spans of a buffer.

Strings stay where they are in Arrow's buffers, and a dictionary's texts come once. Numbers become
text as `number_as_text` writes them; UUIDs become their canonical text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stream_scorer.core.events.batch import NULL, Bool, Int32, Int64, StringColumn
from stream_scorer.core.events.numbers_as_text import EXACT_DOUBLES, EXACT_FLOATS

# By the bytes of a floating-point number: from here on it may stand for the whole number beside it.
_EXACT_BELOW = {2: 2**11, 4: EXACT_FLOATS, 8: EXACT_DOUBLES}
_UUID = "arrow.uuid"
_DELETE = 127
_UUID_BYTES = 16
_UUID_TEXT = 36
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
# Where the two digits of each byte stand in 8-4-4-4-12.
_UUID_DIGITS = np.array([0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34])
_UUID_DASHES = [8, 13, 18, 23]


class Texts(NamedTuple):
    """A column as text: for each row a span, NULL where there is no value.

    unreadable: (n,) bool, rows with what can be no id, such as the number 1.5, or bytes that are no
    text; None for no such row.
    valid_utf8: whether all texts are.
    """

    column: StringColumn
    unreadable: Bool | None = None
    valid_utf8: bool = True


def can_be_id(kind: pa.DataType) -> bool:
    """Whether `texts_of` reads columns of this type as ids."""
    if isinstance(kind, pa.BaseExtensionType):
        return _is_uuid(kind) or can_be_id(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return can_be_id(kind.value_type)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return number or pa.types.is_null(kind) or _is_text(kind) or is_bytes(kind)


def can_be_attribute(kind: pa.DataType) -> bool:
    """Whether `texts_of` reads columns of this type as values of attributes."""
    if pa.types.is_dictionary(kind):
        return can_be_attribute(kind.value_type)
    return can_be_id(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind)


def texts_of(array: pa.Array, *, ids: bool) -> Texts:
    """A column of a type as above. ids: only whole numbers are, others become unreadable."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _uuids(array.storage) if _is_uuid(kind) else texts_of(array.storage, ids=ids)
    if pa.types.is_dictionary(kind):
        return _of_dictionary(array, ids)
    unreadable = None
    if pa.types.is_floating(kind):
        array, unreadable = _of_doubles(array, ids)
    elif pa.types.is_decimal(kind):
        array, unreadable = _of_decimals(array, ids)
    array = pc.cast(array, pa.large_binary() if is_bytes(array.type) else pa.large_string())
    column = _spans(array)
    if ids and is_bytes(kind):
        unreadable = _with_control_bytes(column)
    return Texts(column, unreadable, _is_utf8(array))


def codes_of(array: pa.DictionaryArray) -> Int32 | Int64:
    """Positions in its dictionary, `NULL` for null. Raises ArrowInvalid where one is not in it."""
    codes: Int32 | Int64
    if not array.null_count and array.indices.type == pa.int32():
        codes = np.asarray(array.indices)
    else:
        indices = pc.fill_null(array.indices.cast(pa.int64()), NULL)
        codes = np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)
    # Arrow does not look: those of a corrupt file may be any numbers.
    if len(codes) and not NULL <= codes.min() <= codes.max() < len(array.dictionary):
        raise pa.ArrowInvalid("a position that is not in its dictionary")
    return codes


def _is_uuid(kind: pa.BaseExtensionType) -> bool:
    return bool(kind.extension_name == _UUID)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type has bytes, which may be no text."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _of_dictionary(array: pa.DictionaryArray, ids: bool) -> Texts:
    codes = codes_of(array)
    distinct = texts_of(array.dictionary, ids=ids)
    texts = distinct.column
    # The last entry answers code NULL, which is -1.
    starts, lengths = np.append(texts.starts, 0), np.append(texts.lengths, np.int32(NULL))
    column = StringColumn(texts.buffer, starts[codes], lengths[codes])
    unreadable = distinct.unreadable
    if unreadable is not None:
        unreadable = np.append(unreadable, False)[codes]
    return Texts(column, unreadable, distinct.valid_utf8)


def _of_doubles(array: pa.Array, ids: bool) -> tuple[pa.Array, Bool | None]:
    """Whole numbers as integers, NaN as null, and other numbers in words or unreadable."""
    given = pc.fill_null(array, float("nan")).to_numpy(zero_copy_only=False)
    numbers = given.astype(np.float64)
    missing = np.isnan(numbers)
    exact_below = _EXACT_BELOW[given.dtype.itemsize] if ids else EXACT_DOUBLES
    whole = (np.abs(numbers) < exact_below) & (numbers == np.floor(numbers))
    integers = pa.array(np.where(whole, numbers, 0).astype(np.int64), mask=~whole)
    other = ~whole & ~missing
    if not other.any():
        return integers, None
    if ids:
        return integers, other
    # numpy writes as few digits as tell a number from its neighbours of the same width.
    words = pa.array([str(number) for number in given[other]], pa.string())
    return pc.replace_with_mask(pc.cast(integers, pa.string()), pa.array(other), words), None


def _of_decimals(array: pa.Array, ids: bool) -> tuple[pa.Array, Bool | None]:
    texts = pc.cast(array, pa.string())
    # Arrow writes zero with many decimals as "0E-10".
    texts = pc.replace_substring_regex(texts, r"^-?0(\.0*)?E[-+]?\d+$", "0")
    texts = pc.replace_substring_regex(texts, r"\.0*$", "")
    if not ids:
        return pc.replace_substring_regex(texts, r"(\.\d*[1-9])0+$", r"\1"), None
    whole = pc.fill_null(pc.match_substring_regex(texts, r"^-?\d+$"), True)
    unreadable = ~np.asarray(whole.to_numpy(zero_copy_only=False), np.bool_)
    return texts, unreadable if unreadable.any() else None


def _uuids(array: pa.FixedSizeBinaryArray) -> Texts:
    n = len(array)
    start = array.offset * _UUID_BYTES
    data = array.buffers()[1]
    given = np.zeros((n, _UUID_BYTES), np.uint8)
    if data is not None and n:
        given = np.frombuffer(data, np.uint8)[start : start + n * _UUID_BYTES].reshape(n, -1)
    text = np.empty((n, _UUID_TEXT), np.uint8)
    text[:, _UUID_DASHES] = ord("-")
    text[:, _UUID_DIGITS] = _HEX[given >> 4]
    text[:, _UUID_DIGITS + 1] = _HEX[given & 15]
    lengths = np.full(n, _UUID_TEXT, np.int32)
    lengths[array.is_null().to_numpy(zero_copy_only=False)] = NULL
    return Texts(StringColumn(text.reshape(-1), np.arange(n, dtype=np.int64) * _UUID_TEXT, lengths))


def _spans(array: pa.Array) -> StringColumn:
    """large_string or large_binary as spans of its own buffer."""
    _, offsets, data = array.buffers()
    if data is None or offsets is None:
        buffer, ends = np.empty(0, np.uint8), np.zeros(len(array) + 1, np.int64)
    else:
        buffer = np.frombuffer(data, np.uint8)
        ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(ends).astype(np.int32)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = NULL
    return StringColumn(buffer, ends[:-1], lengths)


def _with_control_bytes(column: StringColumn) -> Bool | None:
    """(n,) bool: rows of bytes that are no text, though they may be valid UTF-8; None for no row.

    A column of bytes need not be text: a UUID without its annotation, or a number, is none, and
    has control characters nearly always.
    """
    is_control = (column.buffer < ord(" ")) | (column.buffer == _DELETE)
    if not is_control.any():
        return None
    before = np.concatenate(([0], np.cumsum(is_control)))
    lengths = np.maximum(column.lengths, 0)
    found: Bool = before[column.starts + lengths] > before[column.starts]
    return found if found.any() else None


def _is_utf8(array: pa.Array) -> bool:
    """Whether all texts are valid UTF-8, which Parquet does not guarantee."""
    _, offsets, data = array.buffers()
    if data is None or offsets is None:
        return True
    ends = np.frombuffer(offsets, np.int64)
    used = np.frombuffer(data, np.uint8)[ends[array.offset] : ends[array.offset + len(array)]]
    # Whether all is ASCII is seen ten times as fast as Arrow sees whether it is UTF-8.
    if int(used.max(initial=0)) < 128:
        return True
    try:
        array.view(pa.large_string()).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
