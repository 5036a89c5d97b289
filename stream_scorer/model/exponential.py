"""exp of float32 numbers for kernels: sums and products alone, so that loops are vectorised."""

from __future__ import annotations

import numpy as np

from stream_scorer.jit import float_of_bits, kernel

MOST = np.float32(87.0)  # beyond it exp is not a normal float32 number
LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts, so that a whole multiple of the first is exact (Cody and Waite, 1980).
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# exp(x) = 1 + x + x * x * P(x) for |x| <= ln(2) / 2, of Cephes' expf: 2 units in the last place.
P0, P1, P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
P3, P4, P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
ONE, HALF = np.float32(1), np.float32(0.5)


@kernel(inline=True)
def exp(x):  # type: ignore[no-untyped-def]
    """exp of a float32 between -MOST and MOST, and of what is beyond as of the nearest; see P0."""
    x = MOST if x > MOST else x
    x = -MOST if x < -MOST else x
    whole = np.floor(x * LOG2_E + HALF)
    x = x - whole * LN2_HIGH - whole * LN2_LOW
    p = ((((P0 * x + P1) * x + P2) * x + P3) * x + P4) * x + P5
    near = p * (x * x) + x + ONE
    return near * float_of_bits(np.int32((np.int32(whole) + 127) << 23))
