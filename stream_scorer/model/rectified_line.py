"""What inputs do to a network of rectified layers, along the line from nothing to all of them.

Each of I inputs is turned on from 0 to its value, all together: at a moment a from 0 to 1 there is
a times each of them. What enters a layer from outside is start + a * (sum of its inputs). A
rectified unit is linear but for the moment at which it turns on or off, so the whole network is
linear between all those moments. They are found layer by layer: within a piece of the line on which
all layers below are linear, what enters a unit is linear too, and crosses 0 once at most. On a
piece the gradient is constant, so its mean over the line is the sum over pieces of length times
gradient: no step size, no error but rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.events.batch import Bool, Float64

# Values of the widest layer at all moments: 32 MB. A network that turns more often than that is
# averaged over fewer pieces, which the sum of what comes out then shows.
MOST_VALUES = 1 << 22
# Pieces that are shorter change nothing: half a unit in the last place of 1 is 2^-53.
SHORTEST = 2.0**-50


@dataclass(frozen=True)
class Rectified:
    """A layer of U units: max(0, start + a * inputs.sum(0) + weight @ what the layer below gives).

    start (U,), inputs (I, U) float64: what enters from outside, and what each input adds to it.
    below: the number of an earlier layer, None for none; weight (U, units of that layer). readout
    (M, U): how the M outputs add its units up.
    """

    start: Float64
    inputs: Float64
    below: int | None
    weight: Float64
    readout: Float64


@dataclass(frozen=True)
class Along:
    """at_start, at_end (L, M): what each of the L layers adds to the outputs without inputs, and
    with all of them. amounts (I, M): the inputs' integrated gradients, whose sum is that of
    at_end - at_start up to rounding. pieces: of the line.
    """

    at_start: Float64
    at_end: Float64
    amounts: Float64
    pieces: int


def along_line(layers: Sequence[Rectified]) -> Along:
    """Of one layer or more; they stand after those that they use."""
    at = _turns(layers)
    middles, lengths = (at[1:] + at[:-1]) / 2, np.diff(at)
    on = [entering > 0 for entering in _entering(layers, middles)]
    first = layers[0]
    amounts = np.zeros((len(first.inputs), len(first.readout)))
    for output in range(amounts.shape[1]):
        means = _mean_gradients(layers, on, lengths, output)
        for layer, mean in zip(layers, means, strict=True):
            amounts[:, output] += layer.inputs @ mean
    ends = [
        np.maximum(entering, 0) @ layer.readout.T
        for entering, layer in zip(_entering(layers, np.array([0.0, 1.0])), layers, strict=True)
    ]
    return Along(
        np.array([both[0] for both in ends]), np.array([both[1] for both in ends]), amounts,
        len(lengths),
    )  # fmt: skip


def _turns(layers: Sequence[Rectified]) -> Float64:
    """Ascending from 0 to 1: the moments between which every unit is linear."""
    at = np.array([0.0, 1.0])
    most = MOST_VALUES // max(len(layer.start) for layer in layers)
    for number in range(len(layers)):
        entering = _entering(layers[: number + 1], at)[number]
        before, after = entering[:-1], entering[1:]
        # Signs, since a product of tiny numbers is 0.
        piece, unit = np.nonzero(np.sign(before) * np.sign(after) < 0)
        if not len(piece):
            continue
        share = before[piece, unit] / (before[piece, unit] - after[piece, unit])
        crossings = at[piece] + share * (at[piece + 1] - at[piece])
        found = np.unique(np.concatenate([at[:-1], crossings]))
        found = found[np.diff(np.append(found, 1.0)) > SHORTEST]
        if len(found) >= most:
            break
        at = np.append(found, 1.0)
        at[0] = 0.0
    return at


def _entering(layers: Sequence[Rectified], at: Float64) -> list[Float64]:
    """Of each layer (S, U), what enters its units at the S moments."""
    found: list[Float64] = []
    for layer in layers:
        entering = layer.start + at[:, None] * layer.inputs.sum(axis=0)
        if layer.below is not None:
            entering = entering + np.maximum(found[layer.below], 0) @ layer.weight.T
        found.append(entering)
    return found


def _mean_gradients(
    layers: Sequence[Rectified], on: Sequence[Bool], lengths: Float64, output: int
) -> list[Float64]:
    """Of each layer (U,): the gradient of one output by what enters its units, averaged over the
    line. on: of each layer (S, U), which units are on, on each of the S pieces."""
    gradients = [np.tile(layer.readout[output], (len(lengths), 1)) for layer in layers]
    # Of a layer all that use it come after it, so its own gradient is complete when it is reached.
    for number in reversed(range(len(layers))):
        gradients[number] *= on[number]
        below = layers[number].below
        if below is not None:
            gradients[below] += gradients[number] @ layers[number].weight
    return [lengths @ gradient for gradient in gradients]
