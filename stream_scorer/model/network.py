"""The network as the MXNet symbol that is trained; inference_network.py is the one that is saved.

The one input is the CSR matrix `data` (B, F).
- deep path: CSR times a row_sparse weight, then hidden layers;
- context (B, X): the customer-wide columns, standardised, beside the last hidden layer;
- head: context times one weight per category and class, plus a bias that starts at the prior;
- own path: each category's own K columns, sliced out of the CSR, times K weights of its own;
- pooled path: one small network for all categories, over the K own columns, the context and an
  embedding of the category. It learns from all customers of all categories what few customers show
  of one.
The three add up to M = C - 1 logits for each category; class 0's logit is 0. For C = 2 that is one
sigmoid, which equals the softmax of the two.

MXNet's sums over an axis, and so the gradients of its broadcasts, run at a tenth of the speed of a
matrix product. So nothing is broadcast over rows: own weights are multiplied one category at a time
(batch_dot), and the pooled context weight is repeated N times and multiplied at once, its bias
being the embedding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stream_scorer.core.features.state import Float32
from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import Layout, NetworkSpec, Range

Parameters = dict[str, npt.NDArray[np.float32]]
Symbol = Any

FIXED = ("category_index", "customer_mean", "customer_scale", "column_scale")
SPARSE = "input_weight"


def logits(
    layout: Layout,
    spec: NetworkSpec,
    *,
    training: bool,
    input_learning_rate: float = 1.0,
) -> Symbol:
    """(B, N * M), category by category.

    In training, columns are multiplied by `column_scale` (1, F) first, and the input weight is
    row_sparse; `fold_column_scale` makes the parameters that need neither.
    """
    shapes = layout.shapes(spec)
    data = mx.sym.Variable("data", stype="csr")
    scaled = data
    if training:
        scale = mx.sym.Variable("column_scale", shape=(1, layout.columns))
        scaled = mx.sym.broadcast_mul(data, scale)

    def parameter(name: str, **keywords: Any) -> Symbol:
        return mx.sym.Variable(name, shape=shapes[name], dtype="float32", **keywords)

    context = _context(layout, spec, data, scaled, parameter, training, input_learning_rate)
    n, m = layout.categories, layout.actions
    total = mx.sym.FullyConnected(
        context, parameter("head_weight"), parameter("head_bias"), num_hidden=n * m
    )
    if not layout.own or not (spec.own_path or spec.pooled):
        return total
    own = _own_columns(layout, scaled, parameter)
    if training:  # nobody needs the gradient of the input, but MXNet would compute it
        own = mx.sym.BlockGrad(own)
    if "own_weight" in shapes:
        total = total + _own_path(own, parameter("own_weight"))
    if "pooled_out_weight" in shapes:
        total = total + _pooled_path(layout, spec, own, context, parameter)
    return total


def training_symbol(
    layout: Layout,
    spec: NetworkSpec,
    *,
    class_weights: tuple[float, ...] = (),
    input_learning_rate: float = 1.0,
) -> Symbol:
    """Group of probabilities of class 1 (B, N), or of all classes (B, N, C), and logits (B, N * M).

    Its label is `label` (B, N) of classes. The gradient of a logit is probability - truth, times
    the weight of the true class, summed over categories and rows: divide by the rows of the batch.
    """
    total = logits(layout, spec, training=True, input_learning_rate=input_learning_rate)
    # An output that is only read: no gradient may come from it.
    kept = mx.sym.BlockGrad(total, name="logits")
    label = mx.sym.Variable("label")
    if class_weights:
        loss = _weighted_loss(layout, total, label, class_weights)
        probabilities = mx.sym.softmax(_all_classes(layout, total), axis=2)
        return mx.sym.Group([mx.sym.BlockGrad(probabilities), kept, loss])
    if layout.classes == 2:
        # This operator divides its gradient by the number of outputs of a row; undo that.
        scale = float(layout.categories)
        acts = mx.sym.LogisticRegressionOutput(total, label, grad_scale=scale)
        return mx.sym.Group([acts, kept])
    # preserve_shape: a softmax over the last axis, not over all categories and classes of a row.
    every = mx.sym.SoftmaxOutput(_all_classes(layout, total), label, preserve_shape=True)
    return mx.sym.Group([every, kept])


def separate_heads_symbol(layout: Layout, spec: NetworkSpec) -> Symbol:
    """N softmax outputs (B, C) with labels `label0`, `label1`, ... (B,): equal to the fused one."""
    every = _all_classes(layout, logits(layout, spec, training=True))
    heads = []
    for i in range(layout.categories):
        one = mx.sym.slice_axis(every, axis=1, begin=i, end=i + 1)
        one = mx.sym.reshape(one, shape=(-1, layout.classes))
        heads.append(mx.sym.SoftmaxOutput(one, mx.sym.Variable(f"label{i}"), name=f"category{i}"))
    return mx.sym.Group(heads)


def initial_parameters(
    layout: Layout, spec: NetworkSpec, *, head_bias: Float32, entries_per_row: float, seed: int
) -> Parameters:
    """Starting values: He's for hidden layers, the prior for the bias, 0 for what adds to it."""
    draw = np.random.default_rng(seed)
    parameters: Parameters = {}
    for name, shape in layout.shapes(spec).items():
        if name == SPARSE:
            # A unit adds up so many entries, scaled to a root mean square of 1: its variance is
            # then 1.
            deviation = 1.0 / np.sqrt(max(entries_per_row, 1.0))
        elif name in ("pooled_own_weight", "pooled_context_weight"):
            deviation = 1.0 / np.sqrt(len(layout.own) + layout.context_width(spec))
        elif name == "pooled_category_bias":
            deviation = 0.1
        elif name.startswith(("hidden", "pooled")) and name.endswith("_weight"):
            # 0 for the last layer, so that an untrained network answers with the prior.
            deviation = 0.0 if name == "pooled_out_weight" else float(np.sqrt(2.0 / shape[-1]))
        else:
            deviation = 0.0
        parameters[name] = (draw.standard_normal(shape, np.float32) * deviation).astype(np.float32)
    parameters["head_bias"] = head_bias.astype(np.float32)
    parameters["calibration_scale"] = np.ones_like(parameters["calibration_scale"])
    if "category_index" in parameters:
        # Parameter files hold float32 alone; whole numbers are exact in it up to 2^24.
        parameters["category_index"] = np.array(layout.category_index, np.float32)
    return parameters


def fold_column_scale(layout: Layout, parameters: Parameters, column_scale: Float32) -> Parameters:
    """Parameters for unscaled columns; column_scale (F,) has one value for each own range."""
    folded = dict(parameters)
    of_own = np.array([column_scale[start] for start, _ in layout.own], np.float32)
    if "own_weight" in folded:
        folded["own_weight"] = folded["own_weight"] * of_own[:, None]
    if "pooled_own_weight" in folded:
        folded["pooled_own_weight"] = folded["pooled_own_weight"] * of_own
    if SPARSE in folded:
        folded[SPARSE] = folded[SPARSE] * column_scale[:, None]
    return folded


def _context(
    layout: Layout, spec: NetworkSpec, data: Symbol, scaled: Symbol, parameter: Any,
    training: bool, input_learning_rate: float,
) -> Symbol:  # fmt: skip
    parts = []
    if layout.customer:
        # Of `data`, not `scaled`: these columns have a mean and a scale of their own.
        columns = [_dense(data, r) for r in layout.customer]
        wide = columns[0] if len(columns) == 1 else mx.sym.concat(*columns, dim=1)
        wide = mx.sym.BlockGrad(wide) if training else wide
        wide = mx.sym.broadcast_sub(wide, parameter("customer_mean"))
        parts.append(mx.sym.broadcast_mul(wide, parameter("customer_scale")))
    if spec.hidden:
        # Row_sparse in training alone, for lazy updates; the saved parameters are dense.
        keywords = {"stype": "row_sparse", "lr_mult": input_learning_rate} if training else {}
        weight = parameter(SPARSE, **keywords)
        hidden = mx.sym.sparse.dot(scaled, weight)
        hidden = _rectified(mx.sym.broadcast_add(hidden, parameter("input_bias")), spec, training)
        for i, size in enumerate(spec.hidden[1:], start=1):
            names = (parameter(f"hidden{i}_weight"), parameter(f"hidden{i}_bias"))
            hidden = mx.sym.FullyConnected(hidden, *names, num_hidden=size)
            hidden = _rectified(hidden, spec, training)
        parts.append(hidden)
    return parts[0] if len(parts) == 1 else mx.sym.concat(*parts, dim=1)


def _rectified(layer: Symbol, spec: NetworkSpec, training: bool) -> Symbol:
    layer = mx.sym.relu(layer)
    return mx.sym.Dropout(layer, p=spec.dropout) if training and spec.dropout else layer


def _dense(data: Symbol, columns: Range) -> Symbol:
    cut = mx.sym.slice(data, begin=(None, columns[0]), end=(None, columns[1]))
    return mx.sym.cast_storage(cut, stype="default")


def _own_columns(layout: Layout, scaled: Symbol, parameter: Any) -> Symbol:
    """(B, N, K)."""
    columns = [_dense(scaled, own) for own in layout.own]
    if not layout.whole_vocabulary:
        index = parameter("category_index")
        columns = [mx.sym.take(values, index, axis=1) for values in columns]
    return mx.sym.stack(*columns, axis=2)


def _own_path(own: Symbol, weight: Symbol) -> Symbol:
    """(B, N * M): for each category a product of its (B, K) and its (K, M)."""
    by_category = mx.sym.batch_dot(mx.sym.transpose(own, axes=(1, 0, 2)), weight)
    return mx.sym.reshape(mx.sym.transpose(by_category, axes=(1, 0, 2)), shape=(0, -1))


def _pooled_path(
    layout: Layout, spec: NetworkSpec, own: Symbol, context: Symbol, parameter: Any
) -> Symbol:
    n, first, width = layout.categories, spec.pooled[0], layout.context_width(spec)
    shared = mx.sym.broadcast_to(parameter("pooled_context_weight"), shape=(n, first, width))
    from_context = mx.sym.FullyConnected(
        context,
        mx.sym.reshape(shared, shape=(n * first, width)),
        parameter("pooled_category_bias"),
        num_hidden=n * first,
    )
    # Not flattened: over the last axis alone, so that all categories share the weights.
    layer = mx.sym.FullyConnected(
        own, parameter("pooled_own_weight"), num_hidden=first, flatten=False, no_bias=True
    )
    layer = mx.sym.relu(layer + mx.sym.reshape(from_context, shape=(0, n, first)))
    for i, size in enumerate(spec.pooled[1:], start=1):
        names = (parameter(f"pooled{i}_weight"), parameter(f"pooled{i}_bias"))
        layer = mx.sym.relu(mx.sym.FullyConnected(layer, *names, num_hidden=size, flatten=False))
    out = mx.sym.FullyConnected(
        layer, parameter("pooled_out_weight"), num_hidden=layout.actions, flatten=False,
        no_bias=True,
    )  # fmt: skip
    return mx.sym.reshape(out, shape=(0, -1))


def _all_classes(layout: Layout, total: Symbol) -> Symbol:
    """(B, N, C): the logits with class 0's zeros before them."""
    shaped = mx.sym.reshape(total, shape=(0, layout.categories, layout.actions))
    nothing = mx.sym.zeros_like(mx.sym.slice_axis(shaped, axis=2, begin=0, end=1))
    return mx.sym.concat(nothing, shaped, dim=2)


def _weighted_loss(
    layout: Layout, total: Symbol, label: Symbol, class_weights: tuple[float, ...]
) -> Symbol:
    """Cross entropy (B, N), each pair times the weight of its true class."""
    every = mx.sym.log_softmax(_all_classes(layout, total), axis=2)
    truth = mx.sym.one_hot(label, depth=layout.classes)
    weights = mx.sym.concat(
        *(
            mx.sym.slice_axis(truth, axis=2, begin=k, end=k + 1) * weight
            for k, weight in enumerate(class_weights)
        ),
        dim=2,
    )
    return mx.sym.MakeLoss(mx.sym.sum(0 - every * weights, axis=2))
