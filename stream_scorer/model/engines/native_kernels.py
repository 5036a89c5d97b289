"""Compiled loops of the native engine.

Lives here: the loops, each over rows [first, last) so that threads can share a batch. Must not live
here: what they are for (native_engine.py).

How they are fast: the innermost loop always runs along a contiguous axis (hidden units, or all
categories) with nothing carried from turn to turn, so that the compiler uses vector instructions
whatever the network's sizes are. They release the GIL.
"""

from __future__ import annotations

import numpy as np

from stream_scorer.core.events.batch import Int32, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel

NO_ROLE = -1


@kernel(fastmath={"contract"})
def gather(
    first: int, last: int, indptr: Int32, indices: Int32, data: Float32, weight: Float32,
    hidden: Float32,
) -> None:  # fmt: skip
    """hidden (B, H) += CSR times weight (F, H)."""
    for row in range(first, last):
        out = hidden[row]
        for at in range(indptr[row], indptr[row + 1]):
            value, line = data[at], weight[indices[at]]
            for j in range(len(out)):
                out[j] += value * line[j]


@kernel
def customer_columns(
    indptr: Int32, indices: Int32, data: Float32, role: Int32, own_slots: int, out: Float32
) -> None:
    """out (B, W) += the customer-wide columns, those whose role is own_slots or above."""
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if slot >= own_slots:
                out[row, slot - own_slots] += data[at]


@kernel
def own_path(
    first: int, last: int, indptr: Int32, indices: Int32, data: Float32, role: Int32,
    weight: Float32, logits: Float32,
) -> None:  # fmt: skip
    """logits (B, M, N) += each category's own columns times weight (M, K, N)."""
    actions, blocks, categories = weight.shape
    for row in range(first, last):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if 0 <= slot < blocks * categories:
                block, category = slot // categories, slot % categories
                for m in range(actions):
                    logits[row, m, category] += data[at] * weight[m, block, category]


@kernel(fastmath={"contract"})
def pooled_first(
    row: int, indptr: Int32, indices: Int32, data: Float32, role: Int32, from_context: Float32,
    bias: Float32, weight: Float32, layer: Float32,
) -> None:  # fmt: skip
    """layer (P, N) = relu(from_context (P,) + bias (P, N) + own columns times weight (K, P))."""
    units, categories = layer.shape
    for i in range(units):
        line, start, shared = layer[i], bias[i], from_context[i]
        for n in range(categories):
            line[n] = start[n] + shared
    for at in range(indptr[row], indptr[row + 1]):
        slot = role[indices[at]]
        if 0 <= slot < len(weight) * categories:
            block, category = slot // categories, slot % categories
            for i in range(units):
                layer[i, category] += data[at] * weight[block, i]
    for i in range(units):
        line = layer[i]
        for n in range(categories):
            line[n] = max(line[n], np.float32(0))


@kernel(fastmath={"contract"})
def pooled_next(layer: Float32, weight: Float32, bias: Float32, out: Float32) -> None:
    """out (Q, N) = relu(weight (Q, P) times layer (P, N) + bias (Q,))."""
    categories = layer.shape[1]
    for j in range(len(out)):
        line = out[j]
        for n in range(categories):
            line[n] = bias[j]
        _accumulate(layer, weight[j], line)
        for n in range(categories):
            line[n] = max(line[n], np.float32(0))


@kernel(fastmath={"contract"})
def _accumulate(layer: Float32, weight: Float32, line: Float32) -> None:
    """line (N,) += weight (P,) times layer (P, N); four units at a time save loads and stores."""
    units, categories = layer.shape
    whole = units - units % 4
    for i in range(0, whole, 4):
        a, b, c, d = layer[i], layer[i + 1], layer[i + 2], layer[i + 3]
        wa, wb, wc, wd = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for n in range(categories):
            line[n] += wa * a[n] + wb * b[n] + wc * c[n] + wd * d[n]
    for i in range(whole, units):
        a, wa = layer[i], weight[i]
        for n in range(categories):
            line[n] += wa * a[n]


@kernel
def pooled_path(
    first: int, last: int, indptr: Int32, indices: Int32, data: Float32, role: Int32,
    from_context: Float32, first_bias: Float32, own_weight: Float32,
    sizes: Int64, weights: Float32, biases: Float32, out_weight: Float32, logits: Float32,
) -> None:  # fmt: skip
    """logits (B, M, N) += the pooled network of each row.

    sizes (L,) of its layers; weights and biases (flat): those of layers 1 to L - 1, one after the
    other.
    """
    categories = first_bias.shape[1]
    layer = np.empty((sizes.max(), categories), np.float32)
    following = np.empty_like(layer)
    for row in range(first, last):
        pooled_first(
            row, indptr, indices, data, role, from_context[row], first_bias, own_weight,
            layer[: sizes[0]],
        )  # fmt: skip
        weight_at, bias_at = 0, 0
        for i in range(1, len(sizes)):
            inputs, outputs = sizes[i - 1], sizes[i]
            weight = weights[weight_at : weight_at + outputs * inputs].reshape(outputs, inputs)
            bias = biases[bias_at : bias_at + outputs]
            pooled_next(layer[:inputs], weight, bias, following[:outputs])
            weight_at, bias_at = weight_at + outputs * inputs, bias_at + outputs
            layer, following = following, layer
        for m in range(len(out_weight)):
            _accumulate(layer[: sizes[-1]], out_weight[m], logits[row, m])


@kernel
def write_two_classes(grown: Float32, scores: Float32) -> None:
    """scores (R, N, 2) of grown (R, N) = exp(-logit)."""
    rows, categories = grown.shape
    one = np.float32(1)
    for row in range(rows):
        line, out = grown[row], scores[row]
        for n in range(categories):
            acts = one / (one + line[n])
            out[n, 0] = one - acts
            out[n, 1] = acts
