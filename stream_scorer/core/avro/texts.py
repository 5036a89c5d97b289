"""Text of what a writer did not write as text: whole numbers, decimals, UUIDs, doubles.

The interpreter leaves such values as they are, with a length that says what they are
(interpreter.py). The text is the same as from JSON lines and Parquet (numbers_as_text.py): an id is
a whole number or none, an attribute may be any number.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal

import numpy as np

from stream_scorer.core.avro import program as k
from stream_scorer.core.events.batch import NULL, Bool, Int32, Int64, UInt8
from stream_scorer.core.events.numbers_as_text import (
    EXACT_DOUBLES,
    EXACT_FLOATS,
    is_exact,
    number_as_text,
)

# Wide enough that no digit of a decimal is rounded away.
_EXACT = Context(prec=1000)


def texts_of(
    buffer: UInt8, starts: Int64, lengths: Int32 | Int64, *, ids: bool
) -> tuple[UInt8, Int64, Int64, Bool]:
    """Text of n raw values: (its bytes, starts (n,) in them, lengths (n,), which could be read).

    lengths: RAW_LONG and below. ids: of numbers only whole ones can be read. NaN becomes NULL.
    """
    texts: list[str | None]
    if (lengths == k.RAW_LONG).all():
        texts = list(map(str, starts.tolist()))
    else:
        texts = [
            _text(buffer, start, length, ids)
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
    # All are ASCII, so characters are bytes.
    sizes = np.fromiter((len(text or "") for text in texts), np.int64, len(texts))
    ends = np.cumsum(sizes)
    readable = np.fromiter((text is not _NO_ID for text in texts), np.bool_, len(texts))
    missing = np.fromiter((text is None for text in texts), np.bool_, len(texts))
    joined = "".join(text or "" for text in texts).encode()
    return np.frombuffer(joined, np.uint8), ends - sizes, np.where(missing, NULL, sizes), readable


_NO_ID = ""  # of a number that can be no id; no number has an empty text


def _text(buffer: UInt8, start: int, length: int, ids: bool) -> str | None:
    if length == k.RAW_LONG:
        return str(start)
    if length == k.RAW_UUID:
        digits = buffer[start : start + 16].tobytes().hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if length in (k.RAW_DOUBLE, k.RAW_FLOAT):
        bytes_, kind = (8, "<f8") if length == k.RAW_DOUBLE else (4, "<f4")
        given = buffer[start : start + bytes_].copy().view(kind)[0]
        number = float(given)
        # A float of 32 bits may stand for the id beside it sooner than a double.
        exact_below = EXACT_FLOATS if ids and length == k.RAW_FLOAT else EXACT_DOUBLES
        if not (math.isnan(number) or is_exact(number, exact_below)):
            # numpy writes as few digits as tell a number from its neighbours of the same width.
            return _NO_ID if ids else str(given)
        return number_as_text(number)
    size, scale = divmod(k.RAW_DECIMAL - length, k.SCALES)
    unscaled = int.from_bytes(buffer[start : start + size].tobytes(), "big", signed=True)
    return _decimal_text(unscaled, scale + k.LEAST_SCALE, ids)


def _decimal_text(unscaled: int, scale: int, ids: bool) -> str:
    """unscaled / 10^scale without zeros at its end."""
    if scale <= 0:
        return str(unscaled * 10**-scale)
    whole, rest = divmod(abs(unscaled), 10**scale)
    if not rest:
        return str(whole if unscaled >= 0 else -whole)
    if ids:
        return _NO_ID
    text = str(Decimal(unscaled).scaleb(-scale, _EXACT))
    return text if "E" in text else text.rstrip("0")
