"""The network as the MXNet symbol that is trained.

Its inputs are those of inputs.py: `gathered` (B, H + R), which gathered_layer.py computes of the
CSR matrix, the first hidden layer's sums beside those of the linear path; `wide` (B, W),
standardised; pairs as a flat list, `pair_row` (P,), `pair_category` (P,) and `pair_own` (P, K). Own
and pooled path are computed for the P pairs of the list alone. The list is filled up to a fixed
length with pairs of category N, whose logits nobody reads. With a trend, `day` (B,) holds days of
the table `trend_table` (D * N, G), `pair_trend` (P, G) its contrasts. It ends in logits; loss.py
adds them up and has their gradients.

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

GATHERED = "gathered"
TREND_TABLE = "trend_table"


def training_symbol(layout: Layout, options: TrainingOptions, *, trend_days: int = 0) -> Symbol:
    """Group of the dense logits (B, N * M), category by category, and those of the pairs (P, M).

    trend_days: D of the trend's table, where the layout has one. A network without own and pooled
    path has the dense ones alone. The logits of a row are their sum; loss.py has the gradients.
    """
    spec, shapes = options.network, layout.shapes(options.network)
    n, m = layout.categories, layout.actions
    gathered = mx.sym.Variable(GATHERED)

    @cache  # a second variable of one name would be another argument
    def parameter(name: str, **keywords: Any) -> Symbol:
        return mx.sym.Variable(name, shape=shapes[name], dtype="float32", **keywords)

    context = _context(layout, options, gathered, parameter)
    # What meets a weight for each output stands side by side: one product, and one pass over the
    # (B, N * M) logits, which are much larger than all that they are made of.
    units, weights = [context], [parameter("head_weight")]
    if "tower_weight" in shapes:
        tower, weight = _tower(layout, spec, context, parameter)
        units.append(tower)
        weights.append(weight)
    if "linear_out_weight" in shapes:
        begin = spec.hidden[0] if spec.hidden else 0
        units.append(mx.sym.slice_axis(gathered, axis=1, begin=begin, end=None))
        weights.append(parameter("linear_out_weight"))
    total = mx.sym.FullyConnected(
        _side_by_side(units), _side_by_side(weights), parameter("head_bias"), num_hidden=n * m
    )
    if layout.contrasts:
        total = total + _trend(layout, parameter, trend_days)
    outputs = [total]
    if "own_weight" in shapes or "pooled_out_weight" in shapes:
        of_pairs = _pairs(layout, spec, context, parameter)
        # A layout without "N" says that the first axis is not the rows of the batch.
        of_pairs._set_attr(__layout__="P")
        outputs.append(of_pairs)
    return mx.sym.Group(outputs)


def _context(layout: Layout, options: TrainingOptions, gathered: Symbol, parameter: Any) -> Symbol:
    """(B, X)."""
    spec, parts = options.network, []
    if layout.customer:
        parts.append(mx.sym.Variable("wide"))
    if spec.hidden:
        hidden = mx.sym.slice_axis(gathered, axis=1, begin=0, end=spec.hidden[0])
        hidden = _rectified(mx.sym.broadcast_add(hidden, parameter("input_bias")), spec)
        for i, size in enumerate(spec.hidden[1:], start=1):
            names = (parameter(f"hidden{i}_weight"), parameter(f"hidden{i}_bias"))
            hidden = _rectified(mx.sym.FullyConnected(hidden, *names, num_hidden=size), spec)
        parts.append(hidden)
    return _side_by_side(parts)


def _rectified(layer: Symbol, spec: NetworkSpec) -> Symbol:
    layer = mx.sym.relu(layer)
    return mx.sym.Dropout(layer, p=spec.dropout) if spec.dropout else layer


def _embedding(layout: Layout, spec: NetworkSpec, parameter: Any) -> Symbol:
    """(N, P) of the categories."""
    return mx.sym.reshape(
        parameter("pooled_category_bias"), shape=(layout.categories, spec.pooled[0])
    )


def _side_by_side(parts: list[Symbol]) -> Symbol:
    return parts[0] if len(parts) == 1 else mx.sym.concat(*parts, dim=1)


def _tower(
    layout: Layout, spec: NetworkSpec, context: Symbol, parameter: Any
) -> tuple[Symbol, Symbol]:
    """Units of the context (B, T), and what each category's embedding gives for them (N * M, T)."""
    n, m = layout.categories, layout.actions
    units = mx.sym.FullyConnected(
        context, parameter("tower_weight"), parameter("tower_bias"), num_hidden=spec.tower
    )
    of_category = mx.sym.FullyConnected(
        _embedding(layout, spec, parameter), parameter("tower_category_weight"),
        num_hidden=m * spec.tower, no_bias=True,
    )  # fmt: skip
    return mx.sym.relu(units), mx.sym.reshape(of_category, shape=(n * m, spec.tower))


def _trend(layout: Layout, parameter: Any, days: int) -> Symbol:
    """(B, N * M): the contrasts of each row's day and each category times one weight each."""
    n, m = layout.categories, layout.actions
    table = mx.sym.Variable(TREND_TABLE, shape=(days * n, layout.contrasts))
    of_day = mx.sym.reshape(mx.sym.dot(table, parameter("trend_weight")), shape=(days, n * m))
    return mx.sym.take(of_day, mx.sym.Variable("day"), axis=0)


def _pairs(layout: Layout, spec: NetworkSpec, context: Symbol, parameter: Any) -> Symbol:
    """(P, M): own and pooled path of the listed pairs."""
    m, k = layout.actions, len(layout.own)
    row, category = mx.sym.Variable("pair_row"), mx.sym.Variable("pair_category")
    own = mx.sym.Variable("pair_own")
    parts = []
    if spec.own_path:
        # `take` clips the number N of a filling pair, whose gradient is 0.
        weight = mx.sym.take(parameter("own_weight"), category, axis=0)
        # A product of matrices for each pair (batch_dot) would be a call of BLAS for each.
        products = mx.sym.broadcast_mul(mx.sym.reshape(own, shape=(-1, k, 1)), weight)
        parts.append(mx.sym.reshape(mx.sym.sum(products, axis=1), shape=(-1, m)))
    if spec.pooled:
        inputs = own
        if layout.contrasts:
            inputs = mx.sym.concat(own, mx.sym.Variable("pair_trend"), dim=1)
        parts.append(_pooled(layout, spec, inputs, row, category, context, parameter))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


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
