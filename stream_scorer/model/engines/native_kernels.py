"""Compiled loops of the native engine, each over rows [first, last) so that threads share a batch.

How they are fast: the innermost loop always runs along a contiguous axis (hidden units, or all
categories) with nothing carried from turn to turn, so that the compiler uses vector instructions
whatever the network's sizes are. They release the GIL.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Int32, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel

NO_ROLE = -1


class Entries(NamedTuple):
    """A CSR matrix (B, F): row b has the columns indices[indptr[b]:indptr[b + 1]] with `data`."""

    indptr: Int32
    indices: Int32
    data: Float32


class PooledNetwork(NamedTuple):
    """The network that every category shares; P units in its first layer, K own columns.

    category_bias (P, N) and own_weight (K, P) of the first layer; sizes (L,) of all layers; weights
    and biases, flat: those of layers 1 to L - 1, one after the other; out_weight (M, last size).
    """

    category_bias: Float32
    own_weight: Float32
    sizes: Int64
    weights: Float32
    biases: Float32
    out_weight: Float32


# contract lets the compiler fuse a product and a sum, and nothing more: the order of sums and what
# happens to NaN stay as written.
@kernel(fastmath={"contract"})
def gather(first: int, last: int, entries: Entries, weight: Float32, hidden: Float32) -> None:
    """hidden (B, H) += CSR times weight (F, H)."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    for row in range(first, last):
        out = hidden[row]
        for at in range(indptr[row], indptr[row + 1]):
            value, line = data[at], weight[indices[at]]
            for j in range(len(out)):
                out[j] += value * line[j]


@kernel
def customer_columns(entries: Entries, role: Int32, own_slots: int, out: Float32) -> None:
    """out (B, W) += the customer-wide columns, those whose role is own_slots or above."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    for row in range(len(indptr) - 1):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if slot >= own_slots:
                out[row, slot - own_slots] += data[at]


@kernel
def own_path(
    first: int, last: int, entries: Entries, role: Int32, weight: Float32, logits: Float32
) -> None:
    """logits (B, M, N) += each category's own columns times weight (M, K, N)."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    actions, blocks, categories = weight.shape
    for row in range(first, last):
        for at in range(indptr[row], indptr[row + 1]):
            slot = role[indices[at]]
            if 0 <= slot < blocks * categories:
                block, category = slot // categories, slot % categories
                for m in range(actions):
                    logits[row, m, category] += data[at] * weight[m, block, category]


@kernel(fastmath={"contract"})
def _pooled_first(
    row: int,
    entries: Entries,
    role: Int32,
    from_context: Float32,
    network: PooledNetwork,
    layer: Float32,
) -> None:
    """layer (P, N) = relu(from_context (P,) + category bias + own columns times own weight)."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    bias, weight = network.category_bias, network.own_weight
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
            # A plain 0 is an int64, with which the maximum would be a float64.
            line[n] = max(line[n], np.float32(0))


@kernel(fastmath={"contract"})
def _pooled_next(layer: Float32, weight: Float32, bias: Float32, out: Float32) -> None:
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
    first: int,
    last: int,
    entries: Entries,
    role: Int32,
    from_context: Float32,
    network: PooledNetwork,
    logits: Float32,
) -> None:
    """logits (B, M, N) += the pooled network of each row; from_context (B, P)."""
    categories, sizes = network.category_bias.shape[1], network.sizes
    layer = np.empty((sizes.max(), categories), np.float32)
    following = np.empty_like(layer)
    for row in range(first, last):
        _pooled_first(row, entries, role, from_context[row], network, layer[: sizes[0]])
        weight_at, bias_at = 0, 0
        for i in range(1, len(sizes)):
            inputs, outputs = sizes[i - 1], sizes[i]
            weight = network.weights[weight_at : weight_at + outputs * inputs]
            bias = network.biases[bias_at : bias_at + outputs]
            _pooled_next(layer[:inputs], weight.reshape(outputs, inputs), bias, following[:outputs])
            weight_at, bias_at = weight_at + outputs * inputs, bias_at + outputs
            layer, following = following, layer
        for m in range(len(network.out_weight)):
            _accumulate(layer[: sizes[-1]], network.out_weight[m], logits[row, m])


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
