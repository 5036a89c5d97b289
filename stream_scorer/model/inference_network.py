"""The network as the MXNet symbol that an artefact holds, and that MXNet and DJL score with.

Its inputs are the CSR matrix `data` (B, F) and, where the layout has a trend, its table: `trend`
(D, G * V), a row of contrasts for each day, and `trend_first_day` (1,), the day of the first row.
The logits are the sum of these paths, each (B, N * M) with M = C - 1, category by category:
- deep path: CSR times a weight, then hidden layers; its last layer and the customer-wide columns,
  standardised, are the context (B, X);
- head: context times one weight per category and class, plus a bias that starts at the prior;
- linear path: CSR times a weight for each output, or times two weights of low rank;
- tower: units of the context, times what each category's embedding gives for each unit;
- trend: the contrasts of the row's day and of each category, times one weight for each;
- own path: each category's own K columns, sliced out of the CSR, times K weights of its own;
- pooled path: one small network for all categories, over the K own columns, the contrasts, the
  context and an embedding of the category. It learns from all customers of all categories what few
  customers show of one.
Class 0's logit is 0. For C = 2 that is one sigmoid, which equals the softmax of the two.

Pairs without history are computed as all others are, and multiplied by 0: DJL's MXNet has no
operator for lists of pairs that would be shorter. Own weights need no such 0, since without history
all own columns are 0. The training's symbol and the native engine compute pairs with history alone.

MXNet's sums over an axis run at a tenth of the speed of a matrix product. So nothing is broadcast
over rows: own weights are multiplied one category at a time (batch_dot), and the pooled context
weight is repeated N times and multiplied at once, its bias being the embedding.

The saved symbol's bytes are part of a model's version, and network_symbol.py builds the same nodes
without MXNet: a network without tower, linear path and trend, with all pairs, keeps its nodes, so
that artefacts of format 1 still load.
"""

from __future__ import annotations

from typing import Any

from stream_scorer.model.mxnet_loader import mx
from stream_scorer.model.spec import Layout, NetworkSpec, Range

Symbol = Any

# The inputs; the last two of a layout with a trend.
DATA, TREND, TREND_FIRST_DAY = "data", "trend", "trend_first_day"


def inference_symbol(layout: Layout, spec: NetworkSpec) -> Symbol:
    """Softmax probabilities (B, N, C) with calibration; parameters as `Layout.shapes` says."""
    # MXNet numbers unnamed nodes across the process. A new manager starts at 0, so that the saved
    # symbol, whose SHA-256 is in the model's version, does not depend on what was built before.
    with mx.name.NameManager():
        return _Network(layout, spec).probabilities()


class _Network:
    def __init__(self, layout: Layout, spec: NetworkSpec) -> None:
        self._layout, self._spec = layout, spec
        self._shapes = layout.shapes(spec)
        self._data = mx.sym.Variable(DATA, stype="csr")
        self._parameters: dict[str, Symbol] = {}

    def probabilities(self) -> Symbol:
        """(B, N, C)."""
        n, m = self._layout.categories, self._layout.actions
        # In MXNet's shapes 0 keeps a dimension, and -1 is whatever is left.
        total = mx.sym.reshape(self._logits(), shape=(0, n, m))
        scale = mx.sym.Variable("calibration_scale", shape=(1, n, 1))
        shift = mx.sym.Variable("calibration_shift", shape=(1, n, m))
        total = mx.sym.broadcast_add(mx.sym.broadcast_mul(total, scale), shift)
        if self._layout.classes > 2:
            nothing = mx.sym.zeros_like(mx.sym.slice_axis(total, axis=2, begin=0, end=1))
            every = mx.sym.concat(nothing, total, dim=2)
            return mx.sym.softmax(every, axis=2, name="probabilities")
        # One sigmoid, not a softmax over both classes: it scored 17,000 customers a second instead
        # of 10,900 (300,000 columns, 2,000 categories, two threads).
        acts = mx.sym.sigmoid(total)
        return mx.sym.concat(1 - acts, acts, dim=2, name="probabilities")

    def _logits(self) -> Symbol:
        """(B, N * M), category by category."""
        context = self._context()
        total = self._layer(context, "head", self._outputs)
        if "linear_weight" in self._shapes:
            total = total + self._linear()
        if "tower_weight" in self._shapes:
            total = total + self._tower(context)
        trend = None
        if "trend_weight" in self._shapes:
            trend = self._contrasts()
            total = total + _flat(mx.sym.dot(trend, self._parameter("trend_weight")))
        if "own_weight" not in self._shapes and "pooled_out_weight" not in self._shapes:
            return total
        columns = [self._of_categories(self._dense(r), axis=1) for r in self._layout.own]
        own = mx.sym.stack(*columns, axis=2)
        if "own_weight" in self._shapes:
            # (N, B, K) times (N, K, M), back to rows.
            turned = mx.sym.transpose(own, axes=(1, 0, 2))
            product = mx.sym.batch_dot(turned, self._parameter("own_weight"))
            total = total + _flat(mx.sym.transpose(product, axes=(1, 0, 2)))
        if "pooled_out_weight" in self._shapes:
            inputs = own if trend is None else mx.sym.concat(own, trend, dim=2)
            pooled = self._pooled(inputs, context)
            if self._spec.pairs == "history":
                pooled = mx.sym.broadcast_mul(pooled, _with_history(columns))
            total = total + _flat(pooled)
        return total

    def _context(self) -> Symbol:
        """(B, X)."""
        layout, spec, parts = self._layout, self._spec, []
        if layout.customer:
            columns = [self._dense(r) for r in layout.customer]
            wide = columns[0] if len(columns) == 1 else mx.sym.concat(*columns, dim=1)
            wide = mx.sym.broadcast_sub(wide, self._parameter("customer_mean"))
            parts.append(mx.sym.broadcast_mul(wide, self._parameter("customer_scale")))
        if spec.hidden:
            hidden = mx.sym.sparse.dot(self._data, self._parameter("input_weight"))
            hidden = mx.sym.relu(mx.sym.broadcast_add(hidden, self._parameter("input_bias")))
            for i, size in enumerate(spec.hidden[1:], start=1):
                hidden = mx.sym.relu(self._layer(hidden, f"hidden{i}", size))
            parts.append(hidden)
        return parts[0] if len(parts) == 1 else mx.sym.concat(*parts, dim=1)

    def _linear(self) -> Symbol:
        """(B, N * M)."""
        linear = mx.sym.sparse.dot(self._data, self._parameter("linear_weight"))
        out = self._parameter("linear_out_weight")
        return mx.sym.FullyConnected(linear, out, num_hidden=self._outputs, no_bias=True)

    def _tower(self, context: Symbol) -> Symbol:
        """(B, N * M)."""
        n, first, units = self._layout.categories, self._spec.pooled[0], self._spec.tower
        of_row = mx.sym.relu(self._layer(context, "tower", units))
        embedding = mx.sym.reshape(self._parameter("pooled_category_bias"), shape=(n, first))
        of_category = mx.sym.FullyConnected(
            embedding, self._parameter("tower_category_weight"),
            num_hidden=self._layout.actions * units, no_bias=True,
        )  # fmt: skip
        weight = mx.sym.reshape(of_category, shape=(self._outputs, units))
        return mx.sym.FullyConnected(of_row, weight, num_hidden=self._outputs, no_bias=True)

    def _contrasts(self) -> Symbol:
        """(B, N, G): of each row's day."""
        # Every trend column holds the day, and all hold the same.
        column = self._layout.trend[0]
        table = mx.sym.Variable(TREND)
        day = self._dense((column, column + 1))
        row = mx.sym.broadcast_sub(day, mx.sym.Variable(TREND_FIRST_DAY, shape=(1,)))
        # Clipped, so that MXNet reads no memory beyond the table; the engines refuse other days.
        of_row = mx.sym.take(table, mx.sym.reshape(row, shape=(-1,)), axis=0, mode="clip")
        shape = (0, self._layout.contrasts, self._layout.vocabulary)
        of_row = self._of_categories(mx.sym.reshape(of_row, shape=shape), axis=2)
        return mx.sym.transpose(of_row, axes=(0, 2, 1))

    def _pooled(self, inputs: Symbol, context: Symbol) -> Symbol:
        """(B, N, M) of inputs (B, N, K + G)."""
        n, first = self._layout.categories, self._spec.pooled[0]
        width = self._layout.context_width(self._spec)
        shared = mx.sym.broadcast_to(
            self._parameter("pooled_context_weight"), shape=(n, first, width)
        )
        from_context = mx.sym.FullyConnected(
            context,
            mx.sym.reshape(shared, shape=(n * first, width)),
            self._parameter("pooled_category_bias"),
            num_hidden=n * first,
        )
        # Not flattened: over the last axis alone, so that all categories share the weights.
        layer = mx.sym.FullyConnected(
            inputs, self._parameter("pooled_own_weight"), num_hidden=first, flatten=False,
            no_bias=True,
        )  # fmt: skip
        layer = mx.sym.relu(layer + mx.sym.reshape(from_context, shape=(0, n, first)))
        for i, size in enumerate(self._spec.pooled[1:], start=1):
            layer = mx.sym.relu(self._layer(layer, f"pooled{i}", size, flatten=False))
        if "pooled_out_bias" in self._shapes:
            return self._layer(layer, "pooled_out", self._layout.actions, flatten=False)
        return mx.sym.FullyConnected(
            layer, self._parameter("pooled_out_weight"), num_hidden=self._layout.actions,
            flatten=False, no_bias=True,
        )  # fmt: skip

    @property
    def _outputs(self) -> int:
        return self._layout.categories * self._layout.actions

    def _parameter(self, name: str) -> Symbol:
        # Two variables of one name would be two arguments.
        if name not in self._parameters:
            self._parameters[name] = mx.sym.Variable(
                name, shape=self._shapes[name], dtype="float32"
            )
        return self._parameters[name]

    def _layer(self, inputs: Symbol, name: str, size: int, **keywords: Any) -> Symbol:
        names = self._parameter(f"{name}_weight"), self._parameter(f"{name}_bias")
        return mx.sym.FullyConnected(inputs, *names, num_hidden=size, **keywords)

    def _dense(self, columns: Range) -> Symbol:
        cut = mx.sym.slice(self._data, begin=(None, columns[0]), end=(None, columns[1]))
        return mx.sym.cast_storage(cut, stype="default")

    def _of_categories(self, values: Symbol, axis: int) -> Symbol:
        """V values along an axis, taken for the N categories."""
        if "category_index" not in self._shapes:
            return values
        return mx.sym.take(values, self._parameter("category_index"), axis=axis)


def _flat(values: Symbol) -> Symbol:
    """(B, N * M) of (B, N, M)."""
    return mx.sym.reshape(values, shape=(0, -1))


def _with_history(columns: list[Symbol]) -> Symbol:
    """(B, N, 1): 1 where any of the K own columns (B, N) is not 0, else 0."""
    # Before they are stacked: of 1 million pairs with 7 columns it took less than 65 ms, where the
    # maximum over the stacked axis took 160.
    found = mx.sym.add_n(*[column != 0 for column in columns]) > 0
    return mx.sym.expand_dims(found, axis=2)
