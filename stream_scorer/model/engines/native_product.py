"""The native engine's matrix product: a few rows times a matrix that is packed beforehand.

BLAS libraries share one product among threads of their own, with a lock; here each thread has rows
of its own, whose logits are still in its cache when probabilities are made of them. A row's sums
are in the same order whichever rows are beside it.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel

PANEL = 128  # outputs at once: the sums of GROUP rows stay in the nearest cache
GROUP = 4  # rows at once, and inputs at once, so that a value loaded is used four times


def packed(weight: Float32) -> Float32:
    """Of weight (inputs, outputs): flat (panels, inputs, PANEL), both filled up with zeros."""
    inputs, outputs = weight.shape
    rows, panels = -(-inputs // GROUP) * GROUP, -(-outputs // PANEL)
    whole = np.zeros((rows, panels * PANEL), np.float32)
    whole[:inputs, :outputs] = weight
    return np.ascontiguousarray(whole.reshape(rows, panels, PANEL).swapaxes(0, 1)).reshape(-1)


@kernel
def product_size(inputs: int, outputs: int) -> int:
    """Of `packed`, in values."""
    return -(-inputs // GROUP) * GROUP * (-(-outputs // PANEL) * PANEL)


@kernel(fastmath={"contract"})
def multiply(left: Float32, weight: Float32, begins: Float32, which: Int64, out: Float32) -> None:
    """out (rows, outputs and more) = begins[which] + left (rows, inputs and more) times weight.

    weight: as `packed` gives it. begins (D, outputs), which (rows,): what each row begins with.
    rows: a multiple of GROUP. Of left its first inputs count.
    """
    outputs = begins.shape[1]
    panels = -(-outputs // PANEL)
    inputs = len(weight) // max(panels * PANEL, 1)
    known = min(inputs, left.shape[1])
    sums = np.empty(GROUP * PANEL, np.float32)
    # Transposed and filled up with zeros once, so that a group's 16 values lie side by side.
    values = np.zeros((len(left) // GROUP, inputs, GROUP), np.float32)
    for row in range(len(left)):
        for i in range(known):
            values[row // GROUP, i, row % GROUP] = left[row, i]
    for panel in range(panels):
        start = panel * PANEL
        width = min(PANEL, outputs - start)
        for group in range(len(values)):
            first = group * GROUP
            for r in range(GROUP):
                line = begins[which[first + r]][start : start + width]
                part = sums[r * PANEL : (r + 1) * PANEL]
                for j in range(width):
                    part[j] = line[j]
            some = values[group]
            for i in range(0, inputs, GROUP):
                four = weight[(panel * inputs + i) * PANEL : (panel * inputs + i + GROUP) * PANEL]
                a, b, c, d = some[i], some[i + 1], some[i + 2], some[i + 3]
                a0, a1, a2, a3 = a[0], a[1], a[2], a[3]
                b0, b1, b2, b3 = b[0], b[1], b[2], b[3]
                c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
                d0, d1, d2, d3 = d[0], d[1], d[2], d[3]
                # Constant distances: the compiler sees that the lines do not overlap.
                for j in range(PANEL):
                    wa, wb = four[j], four[j + PANEL]
                    wc, wd = four[j + 2 * PANEL], four[j + 3 * PANEL]
                    sums[j] = sums[j] + a0 * wa + b0 * wb + c0 * wc + d0 * wd
                    sums[j + PANEL] = sums[j + PANEL] + a1 * wa + b1 * wb + c1 * wc + d1 * wd
                    sums[j + 2 * PANEL] = (
                        sums[j + 2 * PANEL] + a2 * wa + b2 * wb + c2 * wc + d2 * wd
                    )
                    sums[j + 3 * PANEL] = (
                        sums[j + 3 * PANEL] + a3 * wa + b3 * wb + c3 * wc + d3 * wd
                    )
            for r in range(GROUP):
                line = out[first + r][start : start + width]
                part = sums[r * PANEL : (r + 1) * PANEL]
                for j in range(width):
                    line[j] = part[j]
