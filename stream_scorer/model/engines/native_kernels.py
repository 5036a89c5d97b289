"""Compiled loops of the native engine: the logits of a block of rows. They release the GIL.

How they are fast: the innermost loop always runs along a contiguous axis (units of a layer,
outputs, or pairs of a row and a category) with nothing carried from turn to turn, so that the
compiler uses vector instructions whatever the network's sizes are. What is computed for a pair is
computed for the pairs in use alone, side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Int32, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel
from stream_scorer.model.engines.native_product import GROUP, multiply, product_size

NO_ROLE = -1
PAIRS_AT_ONCE = 256  # both layers of 16 units stay in the nearest cache
LINE = 16  # a vector of the largest machines; PAIRS_AT_ONCE is a multiple


class Entries(NamedTuple):
    """A CSR matrix (B, F): row b has the columns indices[indptr[b]:indptr[b + 1]] with `data`."""

    indptr: Int32
    indices: Int32
    data: Float32


class Days(NamedTuple):
    """What the rows' days contribute, D distinct days; one day of zeros where there is no trend.

    which (B,): the day of each row. bias (D, O): that the logits begin with. contrasts (D, G, N).
    """

    which: Int64
    bias: Float32
    contrasts: Float32


class PairNetwork(NamedTuple):
    """The own and the pooled path: what is computed for pairs of a row and a category.

    K own columns, G contrasts, P units in the first layer, Q in the last. own_weight (K, M, N),
    scaled as calibration does. category_bias (P, N), own_and_trend (P, K + G): of the first layer;
    sizes (L,) of all layers; weights and biases, flat: those of layers 1 to L - 1, one after the
    other; out_weight (M, Q), out_bias (M,), scale (N,), by which calibration multiplies. use_own,
    use_pooled: whether there is such a path. history: 1 where only pairs with a value that is not 0
    have a share, 0 where all have.
    """

    own_weight: Float32
    category_bias: Float32
    own_and_trend: Float32
    sizes: Int64
    weights: Float32
    biases: Float32
    out_weight: Float32
    out_bias: Float32
    scale: Float32
    use_own: int
    use_pooled: int
    history: int


class Network(NamedTuple):
    """All that a block of rows is computed with; what the network has not is empty.

    role (F,): block * 2 ** shift + category of an own column, K * 2 ** shift + position of a
    customer-wide one, or NO_ROLE; a shift takes less time than a division. gathered (F, H + R): the
    first hidden layer's weights beside the linear path's, with gathered_bias (H + R,), zeros for
    the latter; hidden: H. customer_mean, customer_scale (W,).
    layers (L,): sizes of all hidden layers; layer_weights, flat, packed for `multiply`, and
    layer_biases, flat: those of layers 1 to L - 1. from_context: packed, of X inputs and T + P
    outputs, the tower's units and what the context adds to the pooled path's first layer;
    from_context_bias (1, T + P); tower: T. outputs: packed, of X + T + R inputs and M * N outputs,
    class by class. pairs: the rest.
    """

    role: Int32
    shift: int
    gathered: Float32
    gathered_bias: Float32
    hidden: int
    customer_mean: Float32
    customer_scale: Float32
    layers: Int64
    layer_weights: Float32
    layer_biases: Float32
    from_context: Float32
    from_context_bias: Float32
    tower: int
    outputs: Float32
    pairs: PairNetwork


@kernel
def block_logits(first: int, last: int, entries: Entries, network: Network, days: Days,
                 logits: Float32) -> None:  # fmt: skip
    """logits (at least last - first, a multiple of GROUP; padded M * N) of rows [first, last).

    Class by class; what is beyond M * N, or beyond the rows, is of no meaning.
    """
    rows = last - first
    padded = -(-rows // GROUP) * GROUP
    pairs = network.pairs
    wide = len(network.customer_mean)
    rank = len(network.gathered_bias) - network.hidden
    context = wide
    if len(network.layers):
        context += network.layers[-1]
    width = context + network.tower + rank
    units = np.zeros((padded, width), np.float32)
    _customer_columns(first, last, entries, network, units)
    sums = np.empty((padded, len(network.gathered_bias)), np.float32)
    for row in range(padded):
        sums[row] = network.gathered_bias
    _gather(first, last, entries, network.gathered, sums)
    for row in range(rows):
        units[row, width - rank :] = sums[row, network.hidden :]
    if len(network.layers):
        units[:, wide:context] = _hidden(sums, network)
    which = np.zeros(padded, np.int64)
    shared = np.empty((padded, network.from_context_bias.shape[1]), np.float32)
    multiply(units, network.from_context, network.from_context_bias, which, shared)
    for row in range(rows):
        for t in range(network.tower):
            units[row, context + t] = _positive(shared[row, t])
    which[:rows] = days.which[first:last]
    multiply(units, network.outputs, days.bias, which, logits)
    if pairs.use_pooled:
        _pair_paths(first, last, entries, network, days, shared.T.copy(), logits)
    elif pairs.use_own:
        _own_path(first, last, entries, network, logits)


@kernel(inline=True)
def _positive(value):  # type: ignore[no-untyped-def]
    """relu that keeps NaN; a plain 0 is an int64, with which the result would be a float64."""
    return np.float32(0) if value < np.float32(0) else value


# contract lets the compiler fuse a product and a sum, and nothing more: the order of sums and what
# happens to NaN stay as written.
@kernel(fastmath={"contract"})
def _gather(first: int, last: int, entries: Entries, weight: Float32, out: Float32) -> None:
    """out (rows, at least H) += rows [first, last) of the CSR times weight (F, H).

    Four entries at a time, so that four rows of the weight are on their way from memory at once.
    """
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    width = weight.shape[1]
    for row in range(first, last):
        line = out[row - first]
        start, stop = indptr[row], indptr[row + 1]
        whole = stop - (stop - start) % 4
        for at in range(start, whole, 4):
            a, b = weight[indices[at]], weight[indices[at + 1]]
            c, d = weight[indices[at + 2]], weight[indices[at + 3]]
            va, vb, vc, vd = data[at], data[at + 1], data[at + 2], data[at + 3]
            for j in range(width):
                line[j] += va * a[j] + vb * b[j] + vc * c[j] + vd * d[j]
        for at in range(whole, stop):
            a, va = weight[indices[at]], data[at]
            for j in range(width):
                line[j] += va * a[j]


@kernel
def _customer_columns(
    first: int, last: int, entries: Entries, network: Network, units: Float32
) -> None:
    """The first W of units (rows, ...): the customer-wide columns, standardised."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    mean, scale = network.customer_mean, network.customer_scale
    if not len(mean):
        return
    own_slots = len(network.pairs.own_weight) << network.shift
    for row in range(first, last):
        line = units[row - first]
        for at in range(indptr[row], indptr[row + 1]):
            slot = network.role[indices[at]]
            if slot >= own_slots:
                line[slot - own_slots] += data[at]
        for i in range(len(mean)):
            line[i] = (line[i] - mean[i]) * scale[i]


@kernel
def _hidden(sums: Float32, network: Network) -> Float32:
    """The last hidden layer (rows, its size) of sums (rows, H and more) of the first."""
    sizes = network.layers
    rows = len(sums)
    layer = np.empty((rows, sizes[0]), np.float32)
    for row in range(rows):
        for i in range(sizes[0]):
            layer[row, i] = _positive(sums[row, i])
    weight_at, bias_at, which = 0, 0, np.zeros(rows, np.int64)
    for i in range(1, len(sizes)):
        size = product_size(sizes[i - 1], sizes[i])
        weight = network.layer_weights[weight_at : weight_at + size]
        bias = network.layer_biases[bias_at : bias_at + sizes[i]].reshape(1, sizes[i])
        following = np.empty((rows, sizes[i]), np.float32)
        multiply(layer, weight, bias, which, following)
        for row in range(rows):
            line = following[row]
            for j in range(len(line)):
                line[j] = _positive(line[j])
        weight_at, bias_at = weight_at + size, bias_at + sizes[i]
        layer = following
    return layer


@kernel
def _own_path(first: int, last: int, entries: Entries, network: Network, logits: Float32) -> None:
    """logits += each category's own columns times their weights."""
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    weight, shift = network.pairs.own_weight, network.shift
    blocks, actions, categories = weight.shape
    for row in range(first, last):
        line = logits[row - first]
        for at in range(indptr[row], indptr[row + 1]):
            slot = network.role[indices[at]]
            if 0 <= slot < blocks << shift:
                block, category = slot >> shift, slot & ((1 << shift) - 1)
                for m in range(actions):
                    line[m * categories + category] += data[at] * weight[block, m, category]


@kernel
def _pair_paths(
    first: int, last: int, entries: Entries, network: Network, days: Days, shared: Float32,
    logits: Float32,
) -> None:  # fmt: skip
    """logits += own path, in the same walk over entries, and pooled path of the pairs, which are
    listed row by row.

    shared (T + P, rows): what each row's context adds to the first layer, after the tower's units.
    """
    pairs = network.pairs
    blocks, _, categories = pairs.own_weight.shape
    # A row lists at most all categories before what is listed is worked off.
    room = -(-(categories + PAIRS_AT_ONCE) // LINE) * LINE
    inputs = np.zeros((pairs.own_and_trend.shape[1], room), np.float32)
    # Unsigned, since an index that may be negative is looked at before every use.
    row_of, category_of = np.empty(room, np.uint32), np.empty(room, np.uint32)
    position = np.full(categories, -1, np.int64)
    layers = np.zeros((2, pairs.sizes.max(), PAIRS_AT_ONCE), np.float32)
    count = 0
    for row in range(first, last):
        start = count
        count = _listed(row, count, entries, network, category_of, position, inputs,
                        logits[row - first])  # fmt: skip
        contrasts = days.contrasts[days.which[row]]
        for at in range(start, count):
            row_of[at] = row - first
            position[category_of[at]] = -1
            for g in range(len(contrasts)):
                inputs[blocks + g, at] = contrasts[g, category_of[at]]
        if count >= PAIRS_AT_ONCE or row == last - 1:
            for done in range(0, count, PAIRS_AT_ONCE):
                some = min(PAIRS_AT_ONCE, count - done)
                _pooled(done, some, row_of, category_of, inputs, network, shared, layers, logits)
            for k in range(len(inputs)):
                used = inputs[k]
                for at in range(count):
                    used[at] = 0
            count = 0


@kernel
def _listed(
    row: int, count: int, entries: Entries, network: Network, category_of: Any, position: Int64,
    inputs: Float32, line: Float32,
) -> int:  # fmt: skip
    """List the pairs of a row, the first as number `count`, with their own columns; how many are
    listed then. line, the row's logits, += own path.

    position (N,): number of a category's pair, -1 where it has none yet.
    """
    indptr, indices, data = entries.indptr, entries.indices, entries.data
    pairs, shift = network.pairs, network.shift
    blocks, actions, categories = pairs.own_weight.shape
    if not pairs.history:
        for n in range(categories):
            category_of[count], position[n] = n, count
            count += 1
    for at in range(indptr[row], indptr[row + 1]):
        slot, value = network.role[indices[at]], data[at]
        if 0 <= slot < blocks << shift and value != 0:
            block, category = slot >> shift, slot & ((1 << shift) - 1)
            if pairs.use_own:
                for m in range(actions):
                    weight = pairs.own_weight[block, m, category]
                    line[m * categories + category] += value * weight
            if position[category] < 0:
                category_of[count], position[category] = category, count
                count += 1
            inputs[block, position[category]] += value
    return count


@kernel(fastmath={"contract"})
def _pooled(
    done: int, some: int, row_of: Any, category_of: Any, inputs: Float32, network: Network,
    shared: Float32, layers: Float32, logits: Float32,
) -> None:  # fmt: skip
    """logits += the pooled path's shares of the pairs [done, done + some) of the list."""
    pairs = network.pairs
    sizes, categories = pairs.sizes, len(pairs.scale)
    layer, following = layers[0], layers[1]
    # Whole vectors: what is computed beyond the last pair is not used.
    width = -(-some // LINE) * LINE
    rows, names = row_of[done : done + some], category_of[done : done + some]
    for i in range(sizes[0]):
        line, bias, from_context = layer[i], pairs.category_bias[i], shared[network.tower + i]
        for at in range(some):
            line[at] = bias[names[at]] + from_context[rows[at]]
        _accumulate(inputs, done, width, pairs.own_and_trend[i], line)
        _rectify(line, width)
    weight_at, bias_at = 0, 0
    for index in range(1, len(sizes)):
        before, after = sizes[index - 1], sizes[index]
        for i in range(after):
            line, bias = following[i], pairs.biases[bias_at + i]
            for at in range(width):
                line[at] = bias
            weight = pairs.weights[weight_at + i * before : weight_at + (i + 1) * before]
            _accumulate(layer, 0, width, weight, line)
            _rectify(line, width)
        weight_at, bias_at = weight_at + after * before, bias_at + after
        layer, following = following, layer
    line = following[0]
    for m in range(len(pairs.out_weight)):
        for at in range(width):
            line[at] = pairs.out_bias[m]
        _accumulate(layer, 0, width, pairs.out_weight[m], line)
        for at in range(some):
            n = names[at]
            logits[rows[at], m * categories + n] += line[at] * pairs.scale[n]


@kernel
def _rectify(line: Float32, width: int) -> None:
    """relu of the first `width` values."""
    for at in range(width):
        line[at] = _positive(line[at])


@kernel(fastmath={"contract"})
def _accumulate(layer: Float32, start: int, width: int, weight: Float32, line: Float32) -> None:
    """line[:width] += weight (P,) times layer[:P, start : start + width].

    Four units at a time save loads and stores.
    """
    units = len(weight)
    whole = units - units % 4
    stop = start + width
    for i in range(0, whole, 4):
        a, b = layer[i][start:stop], layer[i + 1][start:stop]
        c, d = layer[i + 2][start:stop], layer[i + 3][start:stop]
        wa, wb, wc, wd = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for at in range(width):
            line[at] += wa * a[at] + wb * b[at] + wc * c[at] + wd * d[at]
    for i in range(whole, units):
        a, wa = layer[i][start:stop], weight[i]
        for at in range(width):
            line[at] += wa * a[at]
