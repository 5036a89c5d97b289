"""Probabilities as IEEE 754 half precision, rounded to the nearest, of two to the one with an even
last bit.

numpy converts one value in ten nanoseconds, so that all propensities of a customer would take
longer to convert than to compute; this loop is a few operations on whole numbers for each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stream_scorer.jit import kernel

Float32 = npt.NDArray[np.float32]
UInt16 = npt.NDArray[np.uint16]

# The relative error of a probability from 2^-14 on, and the error of a smaller one.
RELATIVE_ERROR, LEAST_ERROR = 2.0**-11, 2.0**-25


def halves(probabilities: Float32) -> UInt16:
    """(B, K) float32 from 0 to 1 to the bits of (B, K) float16, little-endian."""
    contiguous = np.ascontiguousarray(probabilities, np.float32)
    bits = contiguous.view(np.uint32).reshape(-1)
    flat: UInt16 = _halves(contiguous.reshape(-1), bits)
    return flat.reshape(probabilities.shape).astype("<u2", copy=False)


@kernel
def _halves(values, bits):  # type: ignore[no-untyped-def]
    out = np.empty(len(values), np.uint16)
    for i in range(len(values)):
        b = bits[i]
        if b >= np.uint32(0x3F800001):  # above 1, below 0 or no number: no probability
            out[i] = np.uint16(0x7E00)  # no number
        elif b >= np.uint32(0x38800000):  # 2^-14: from here on halves have all their digits
            # The exponent's bias goes from 127 to 15, and 13 digits are rounded away.
            odd = (b >> np.uint32(13)) & np.uint32(1)
            rounded = b - np.uint32(0x38000000) + np.uint32(0xFFF) + odd
            out[i] = np.uint16(rounded >> np.uint32(13))
        else:  # a whole number of 2^-24; adding 2^23 to a float32 rounds it to one
            scaled = values[i] * np.float32(2.0**24) + np.float32(2.0**23)
            out[i] = np.uint16(scaled - np.float32(2.0**23))
    return out
