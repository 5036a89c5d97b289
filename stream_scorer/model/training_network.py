"""The network as the MXNet symbol that is trained.

Its inputs are those of inputs.py: `data` (B, F) CSR, scaled; `wide` (B, W), standardised; pairs as
a flat list, `pair_row` (P,), `pair_category` (P,) and `pair_own` (P, K). Own and pooled path are
computed for the P pairs of the list alone and scattered into (B, N); the list is filled up to a
fixed length with pairs of category N, which scatter into a column that is cut off. With a trend,
`day` (B,) holds rows of the table `trend_table` (D, N * G), `pair_trend` (P, G) its contrasts.

The symbol of the artefact computes the same of the trained parameters: tests compare both with a
reference in numpy.

MXNet's sums over an axis, and so the gradients of its broadcasts, run at a tenth of the speed of a
matrix product. So whatever is shared by rows or by categories is a matrix product here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import Layout, NetworkSpec, TrainingOptions

Symbol = Any

# The weights that meet the CSR matrix: row_sparse, so that a step changes only rows of columns that
# the batch has.
SPARSE = ("input_weight", "linear_weight")
TREND_TABLE = "trend_table"


def training_symbol(
    layout: Layout,
    options: TrainingOptions,
    rows: int,
    *,
    weighted: bool = False,
    trend_days: int = 0,
) -> Symbol:
    """Group of probabilities of class 1 (B, N), or of all classes (B, N, C), and logits (B, N * M).

    rows: B. trend_days: D of the trend's table, where the layout has one. Its label is `label`
    (B, N) of classes. The gradient of a logit is probability - truth, times the weight of the true
    class and, if `weighted`, of the row, `row_weight` (B, 1); summed over categories and rows:
    divide by the rows of the batch.
    """
    total = logits(layout, options, rows, trend_days)
    # An output that is only read: no gradient may come from it.
    kept = mx.sym.BlockGrad(total, name="logits")
    label = mx.sym.Variable("label")
    if weighted:
        # The value stays what it is, and its gradient is multiplied by the weight.
        weight = mx.sym.Variable("row_weight", shape=(rows, 1))
        rest = mx.sym.broadcast_mul(kept, 1 - weight)
        total = mx.sym.broadcast_mul(total, weight) + mx.sym.BlockGrad(rest)
    if options.class_weights:
        loss = _weighted_loss(layout, total, label, options.class_weights)
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


def separate_heads_symbol(layout: Layout, options: TrainingOptions, rows: int) -> Symbol:
    """N softmax outputs (B, C) with labels `label0`, `label1`, ... (B,): equal to the fused one."""
    every = _all_classes(layout, logits(layout, options, rows))
    heads = []
    for i in range(layout.categories):
        one = mx.sym.slice_axis(every, axis=1, begin=i, end=i + 1)
        one = mx.sym.reshape(one, shape=(-1, layout.classes))
        heads.append(mx.sym.SoftmaxOutput(one, mx.sym.Variable(f"label{i}"), name=f"category{i}"))
    return mx.sym.Group(heads)


def logits(layout: Layout, options: TrainingOptions, rows: int, trend_days: int = 0) -> Symbol:
    """(B, N * M), category by category."""
    spec, shapes = options.network, layout.shapes(options.network)
    n, m = layout.categories, layout.actions
    data = mx.sym.Variable("data", stype="csr")

    @cache  # a second variable of one name would be another argument
    def parameter(name: str, **keywords: Any) -> Symbol:
        return mx.sym.Variable(name, shape=shapes[name], dtype="float32", **keywords)

    context = _context(layout, options, data, parameter)
    total = mx.sym.FullyConnected(
        context, parameter("head_weight"), parameter("head_bias"), num_hidden=n * m
    )
    if "linear_weight" in shapes:
        weight = parameter(
            "linear_weight", stype="row_sparse", lr_mult=options.input_learning_rate,
            wd_mult=options.linear_decay,
        )  # fmt: skip
        linear = mx.sym.sparse.dot(data, weight)
        if "linear_out_weight" in shapes:
            out = parameter("linear_out_weight")
            linear = mx.sym.FullyConnected(linear, out, num_hidden=n * m, no_bias=True)
        total = total + linear
    if "tower_weight" in shapes:
        total = total + _tower(layout, spec, context, parameter)
    if layout.contrasts:
        total = total + _trend(layout, parameter, trend_days)
    if "own_weight" in shapes or "pooled_out_weight" in shapes:
        total = total + _pairs(layout, spec, context, parameter, rows)
    return total


def _context(layout: Layout, options: TrainingOptions, data: Symbol, parameter: Any) -> Symbol:
    """(B, X)."""
    spec, parts = options.network, []
    if layout.customer:
        parts.append(mx.sym.Variable("wide"))
    if spec.hidden:
        weight = parameter("input_weight", stype="row_sparse", lr_mult=options.input_learning_rate)
        hidden = mx.sym.sparse.dot(data, weight)
        hidden = _rectified(mx.sym.broadcast_add(hidden, parameter("input_bias")), spec)
        for i, size in enumerate(spec.hidden[1:], start=1):
            names = (parameter(f"hidden{i}_weight"), parameter(f"hidden{i}_bias"))
            hidden = _rectified(mx.sym.FullyConnected(hidden, *names, num_hidden=size), spec)
        parts.append(hidden)
    return parts[0] if len(parts) == 1 else mx.sym.concat(*parts, dim=1)


def _rectified(layer: Symbol, spec: NetworkSpec) -> Symbol:
    layer = mx.sym.relu(layer)
    return mx.sym.Dropout(layer, p=spec.dropout) if spec.dropout else layer


def _embedding(layout: Layout, spec: NetworkSpec, parameter: Any) -> Symbol:
    """(N, P) of the categories."""
    return mx.sym.reshape(
        parameter("pooled_category_bias"), shape=(layout.categories, spec.pooled[0])
    )


def _tower(layout: Layout, spec: NetworkSpec, context: Symbol, parameter: Any) -> Symbol:
    """(B, N * M): units of the context times what a category's embedding gives for each of them."""
    n, m = layout.categories, layout.actions
    units = mx.sym.FullyConnected(
        context, parameter("tower_weight"), parameter("tower_bias"), num_hidden=spec.tower
    )
    of_category = mx.sym.FullyConnected(
        _embedding(layout, spec, parameter), parameter("tower_category_weight"),
        num_hidden=m * spec.tower, no_bias=True,
    )  # fmt: skip
    weight = mx.sym.reshape(of_category, shape=(n * m, spec.tower))
    return mx.sym.dot(mx.sym.relu(units), weight, transpose_b=True)


def _trend(layout: Layout, parameter: Any, days: int) -> Symbol:
    """(B, N * M): the contrasts of each row's day and each category times one weight each."""
    table = mx.sym.Variable(TREND_TABLE, shape=(days, layout.categories * layout.contrasts))
    of_row = mx.sym.take(table, mx.sym.Variable("day"), axis=0)
    flat = mx.sym.reshape(mx.sym.BlockGrad(of_row), shape=(-1, layout.contrasts))
    return mx.sym.reshape(
        mx.sym.dot(flat, parameter("trend_weight")), shape=(-1, layout.categories * layout.actions)
    )


def _pairs(layout: Layout, spec: NetworkSpec, context: Symbol, parameter: Any, rows: int) -> Symbol:
    """(B, N * M): own and pooled path of the listed pairs, 0 for others."""
    n, m, k = layout.categories, layout.actions, len(layout.own)
    row, category = mx.sym.Variable("pair_row"), mx.sym.Variable("pair_category")
    own = mx.sym.Variable("pair_own")
    parts = []
    if spec.own_path:
        # `take` clips the number N of a filling pair, whose gradient is 0.
        weight = mx.sym.take(parameter("own_weight"), category, axis=0)
        one = mx.sym.batch_dot(mx.sym.reshape(own, shape=(-1, 1, k)), weight)
        parts.append(mx.sym.reshape(one, shape=(-1, m)))
    if spec.pooled:
        inputs = own
        if layout.contrasts:
            inputs = mx.sym.concat(own, mx.sym.Variable("pair_trend"), dim=1)
        parts.append(_pooled(layout, spec, inputs, row, category, context, parameter))
    of_pair = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    where = mx.sym.stack(row, category, axis=0)
    every = mx.sym.scatter_nd(of_pair, where, shape=(rows, n + 1, m))
    return mx.sym.reshape(mx.sym.slice_axis(every, axis=1, begin=0, end=n), shape=(0, -1))


def _pooled(
    layout: Layout, spec: NetworkSpec, inputs: Symbol, row: Symbol, category: Symbol,
    context: Symbol, parameter: Any,
) -> Symbol:  # fmt: skip
    """(P, M)."""
    first, m = spec.pooled[0], layout.actions
    shared = mx.sym.reshape(parameter("pooled_context_weight"), shape=(first, -1))
    of_row = mx.sym.FullyConnected(context, shared, num_hidden=first, no_bias=True)
    layer = mx.sym.FullyConnected(
        inputs, parameter("pooled_own_weight"), num_hidden=first, no_bias=True
    )
    layer = layer + mx.sym.take(of_row, row, axis=0)
    layer = layer + mx.sym.take(_embedding(layout, spec, parameter), category, axis=0)
    layer = mx.sym.relu(layer)
    for i, size in enumerate(spec.pooled[1:], start=1):
        names = (parameter(f"pooled{i}_weight"), parameter(f"pooled{i}_bias"))
        layer = mx.sym.relu(mx.sym.FullyConnected(layer, *names, num_hidden=size))
    out = parameter("pooled_out_weight")
    if spec.pairs == "history":
        return mx.sym.FullyConnected(layer, out, parameter("pooled_out_bias"), num_hidden=m)
    return mx.sym.FullyConnected(layer, out, num_hidden=m, no_bias=True)


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
