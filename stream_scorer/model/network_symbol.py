"""The symbol of a network as data, without MXNet: what inference_network.py has MXNet build.

The nodes, their names and their order are MXNet's 1.9.1: names are numbered by operator as nodes
are made, and a node stands after those that it uses, which are visited in their order from the
output on. Saved symbols are compared with it (symbol_file.py), so that nothing but our own networks
reaches MXNet. test_network_symbol.py compares it with what MXNet writes; NetworkSymbol.java is the
same in Java.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream_scorer.model.spec import Layout, NetworkSpec, Range


@dataclass(frozen=True, eq=False, slots=True)
class _Node:
    op: str
    name: str
    attrs: dict[str, str]
    inputs: tuple[_Node, ...]


class _Builder:
    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._numbers: Counter[str] = Counter()
        self._variables: dict[str, _Node] = {}
        self.data = _Node("null", "data", {"__storage_type__": "2"}, ())
        self.trend = _Node("null", "trend", {}, ())
        self.first_day = _Node("null", "trend_first_day", {"__shape__": "(1,)"}, ())

    def has(self, *names: str) -> bool:
        """Whether the network has any of these parameters."""
        return any(name in self._shapes for name in names)

    def parameter(self, name: str, *, typed: bool = True) -> _Node:
        if name not in self._variables:
            attrs = {"__shape__": str(self._shapes[name])}
            if typed:
                attrs["__dtype__"] = "0"
            self._variables[name] = _Node("null", name, attrs, ())
        return self._variables[name]

    def apply(self, op: str, *inputs: _Node, name: str = "", **attrs: object) -> _Node:
        if not name:
            stem = _STEMS.get(op, op.lower())
            name = f"{stem}{self._numbers[stem]}"
            self._numbers[stem] += 1
        return _Node(op, name, {key: str(value) for key, value in attrs.items()}, inputs)

    def dense(self, columns: Range) -> _Node:
        cut = self.apply("slice", self.data, begin=(None, columns[0]), end=(None, columns[1]))
        return self.apply("cast_storage", cut, stype="default")

    def layer(self, inputs: _Node, name: str, size: int, *, flatten: bool = True) -> _Node:
        weights = (self.parameter(f"{name}_weight"), self.parameter(f"{name}_bias"))
        attrs: dict[str, object] = {} if flatten else {"flatten": False}
        return self.apply("FullyConnected", inputs, *weights, num_hidden=size, name="", **attrs)

    def of_categories(self, values: _Node, axis: int) -> _Node:
        if not self.has("category_index"):
            return values
        return self.apply("take", values, self.parameter("category_index"), axis=axis)

    def flat(self, values: _Node) -> _Node:
        return self.apply("Reshape", values, shape=(0, -1))

    def concat(self, parts: Sequence[_Node], dim: int, name: str = "") -> _Node:
        return self.apply("Concat", *parts, name=name, dim=dim, num_args=len(parts))


_STEMS = {"elemwise_add": "_plus", "_rminus_scalar": "_rminusscalar"}


def symbol(layout: Layout, spec: NetworkSpec) -> dict[str, Any]:
    """`nodes`, `arg_nodes`, `node_row_ptr` and `heads` of the JSON that MXNet writes."""
    nodes: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}

    def number_of(node: _Node) -> int:
        if id(node) not in numbers:
            inputs = [[number_of(used), 0, 0] for used in node.inputs]
            written: dict[str, Any] = {"op": node.op, "name": node.name, "inputs": inputs}
            if node.attrs:
                written["attrs"] = node.attrs
            numbers[id(node)] = len(nodes)
            nodes.append(written)
        return numbers[id(node)]

    head = number_of(_probabilities(layout, spec))
    return {
        "nodes": nodes,
        "arg_nodes": [i for i, node in enumerate(nodes) if node["op"] == "null"],
        "node_row_ptr": list(range(len(nodes) + 1)),
        "heads": [[head, 0, 0]],
    }


def _probabilities(layout: Layout, spec: NetworkSpec) -> _Node:
    build = _Builder(layout.shapes(spec))
    total = build.apply(
        "Reshape", _logits(build, layout, spec), shape=(0, layout.categories, layout.actions)
    )
    scale = build.parameter("calibration_scale", typed=False)
    shift = build.parameter("calibration_shift", typed=False)
    total = build.apply("broadcast_mul", total, scale)
    total = build.apply("broadcast_add", total, shift)
    if layout.classes > 2:
        first = build.apply("slice_axis", total, axis=2, begin=0, end=1)
        every = build.concat([build.apply("zeros_like", first), total], 2)
        return build.apply("softmax", every, name="probabilities", axis=2)
    acts = build.apply("sigmoid", total)
    return build.concat([build.apply("_rminus_scalar", acts, scalar=1), acts], 2, "probabilities")


def _logits(build: _Builder, layout: Layout, spec: NetworkSpec) -> _Node:
    context = _context(build, layout, spec)
    outputs = layout.categories * layout.actions
    total = build.layer(context, "head", outputs)
    if build.has("linear_weight"):
        total = build.apply("elemwise_add", total, _linear(build, outputs))
    if build.has("tower_weight"):
        total = build.apply("elemwise_add", total, _tower(build, layout, spec, context))
    trend = None
    if build.has("trend_weight"):
        trend = _contrasts(build, layout)
        product = build.apply("dot", trend, build.parameter("trend_weight"))
        total = build.apply("elemwise_add", total, build.flat(product))
    if not build.has("own_weight", "pooled_out_weight"):
        return total
    columns = [build.of_categories(build.dense(own), 1) for own in layout.own]
    own = build.apply("stack", *columns, axis=2, num_args=len(columns))
    if build.has("own_weight"):
        turned = build.apply("transpose", own, axes=(1, 0, 2))
        product = build.apply("batch_dot", turned, build.parameter("own_weight"))
        back = build.apply("transpose", product, axes=(1, 0, 2))
        total = build.apply("elemwise_add", total, build.flat(back))
    if build.has("pooled_out_weight"):
        inputs = own if trend is None else build.concat([own, trend], 2)
        pooled = _pooled_path(build, layout, spec, inputs, context)
        if spec.pairs == "history":
            pooled = build.apply("broadcast_mul", pooled, _with_history(build, columns))
        total = build.apply("elemwise_add", total, build.flat(pooled))
    return total


def _context(build: _Builder, layout: Layout, spec: NetworkSpec) -> _Node:
    parts = []
    if layout.customer:
        columns = [build.dense(wide) for wide in layout.customer]
        wide = columns[0] if len(columns) == 1 else build.concat(columns, 1)
        wide = build.apply("broadcast_sub", wide, build.parameter("customer_mean"))
        parts.append(build.apply("broadcast_mul", wide, build.parameter("customer_scale")))
    if spec.hidden:
        hidden = build.apply("dot", build.data, build.parameter("input_weight"))
        hidden = build.apply("broadcast_add", hidden, build.parameter("input_bias"))
        hidden = build.apply("relu", hidden)
        for i, size in enumerate(spec.hidden[1:], start=1):
            hidden = build.apply("relu", build.layer(hidden, f"hidden{i}", size))
        parts.append(hidden)
    return parts[0] if len(parts) == 1 else build.concat(parts, 1)


def _linear(build: _Builder, outputs: int) -> _Node:
    linear = build.apply("dot", build.data, build.parameter("linear_weight"))
    out = build.parameter("linear_out_weight")
    return build.apply("FullyConnected", linear, out, num_hidden=outputs, no_bias=True)


def _tower(build: _Builder, layout: Layout, spec: NetworkSpec, context: _Node) -> _Node:
    n, m, units = layout.categories, layout.actions, spec.tower
    of_row = build.apply("relu", build.layer(context, "tower", units))
    bias = build.parameter("pooled_category_bias")
    of_category = build.apply(
        "FullyConnected", build.apply("Reshape", bias, shape=(n, spec.pooled[0])),
        build.parameter("tower_category_weight"), num_hidden=m * units, no_bias=True,
    )  # fmt: skip
    weight = build.apply("Reshape", of_category, shape=(n * m, units))
    return build.apply("FullyConnected", of_row, weight, num_hidden=n * m, no_bias=True)


def _contrasts(build: _Builder, layout: Layout) -> _Node:
    column = layout.trend[0]
    day = build.dense((column, column + 1))
    row = build.apply("broadcast_sub", day, build.first_day)
    row = build.apply("Reshape", row, shape=(-1,))
    of_row = build.apply("take", build.trend, row, axis=0, mode="clip")
    of_row = build.apply("Reshape", of_row, shape=(0, layout.contrasts, layout.vocabulary))
    return build.apply("transpose", build.of_categories(of_row, 2), axes=(0, 2, 1))


def _pooled_path(
    build: _Builder, layout: Layout, spec: NetworkSpec, inputs: _Node, context: _Node
) -> _Node:
    n, first, width = layout.categories, spec.pooled[0], layout.context_width(spec)
    shared = build.apply(
        "broadcast_to", build.parameter("pooled_context_weight"), shape=(n, first, width)
    )
    shared = build.apply("Reshape", shared, shape=(n * first, width))
    bias = build.parameter("pooled_category_bias")
    from_context = build.apply("FullyConnected", context, shared, bias, num_hidden=n * first)
    layer = build.apply(
        "FullyConnected", inputs, build.parameter("pooled_own_weight"),
        num_hidden=first, flatten=False, no_bias=True,
    )  # fmt: skip
    of_category = build.apply("Reshape", from_context, shape=(0, n, first))
    layer = build.apply("relu", build.apply("elemwise_add", layer, of_category))
    for i, size in enumerate(spec.pooled[1:], start=1):
        layer = build.apply("relu", build.layer(layer, f"pooled{i}", size, flatten=False))
    if build.has("pooled_out_bias"):
        return build.layer(layer, "pooled_out", layout.actions, flatten=False)
    return build.apply(
        "FullyConnected", layer, build.parameter("pooled_out_weight"),
        num_hidden=layout.actions, flatten=False, no_bias=True,
    )  # fmt: skip


def _with_history(build: _Builder, columns: Sequence[_Node]) -> _Node:
    present = [build.apply("_not_equal_scalar", column, scalar=0) for column in columns]
    found = build.apply("add_n", *present, num_args=len(present))
    found = build.apply("_greater_scalar", found, scalar=0)
    return build.apply("expand_dims", found, axis=2)
