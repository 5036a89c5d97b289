"""The symbol of a network as data, without MXNet: what network.py has MXNet build.

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
    weights = (build.parameter("head_weight"), build.parameter("head_bias"))
    total = build.apply("FullyConnected", context, *weights, num_hidden=outputs)
    if not layout.own or not (spec.own_path or spec.pooled):
        return total
    columns = [build.dense(own) for own in layout.own]
    if not layout.whole_vocabulary:
        index = build.parameter("category_index")
        columns = [build.apply("take", values, index, axis=1) for values in columns]
    own = build.apply("stack", *columns, axis=2, num_args=len(columns))
    if spec.own_path:
        turned = build.apply("transpose", own, axes=(1, 0, 2))
        product = build.apply("batch_dot", turned, build.parameter("own_weight"))
        back = build.apply("transpose", product, axes=(1, 0, 2))
        total = build.apply("elemwise_add", total, build.apply("Reshape", back, shape=(0, -1)))
    if spec.pooled:
        pooled = _pooled_path(build, layout, spec, own, context)
        total = build.apply("elemwise_add", total, pooled)
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
            weights = (build.parameter(f"hidden{i}_weight"), build.parameter(f"hidden{i}_bias"))
            hidden = build.apply("FullyConnected", hidden, *weights, num_hidden=size)
            hidden = build.apply("relu", hidden)
        parts.append(hidden)
    return parts[0] if len(parts) == 1 else build.concat(parts, 1)


def _pooled_path(
    build: _Builder, layout: Layout, spec: NetworkSpec, own: _Node, context: _Node
) -> _Node:
    n, first, width = layout.categories, spec.pooled[0], layout.context_width(spec)
    shared = build.apply(
        "broadcast_to", build.parameter("pooled_context_weight"), shape=(n, first, width)
    )
    shared = build.apply("Reshape", shared, shape=(n * first, width))
    bias = build.parameter("pooled_category_bias")
    from_context = build.apply("FullyConnected", context, shared, bias, num_hidden=n * first)
    layer = build.apply(
        "FullyConnected", own, build.parameter("pooled_own_weight"),
        num_hidden=first, flatten=False, no_bias=True,
    )  # fmt: skip
    of_category = build.apply("Reshape", from_context, shape=(0, n, first))
    layer = build.apply("relu", build.apply("elemwise_add", layer, of_category))
    for i, size in enumerate(spec.pooled[1:], start=1):
        weights = (build.parameter(f"pooled{i}_weight"), build.parameter(f"pooled{i}_bias"))
        layer = build.apply("FullyConnected", layer, *weights, num_hidden=size, flatten=False)
        layer = build.apply("relu", layer)
    out = build.apply(
        "FullyConnected", layer, build.parameter("pooled_out_weight"),
        num_hidden=layout.actions, flatten=False, no_bias=True,
    )  # fmt: skip
    return build.apply("Reshape", out, shape=(0, -1))
