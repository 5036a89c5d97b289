"""The network as an ONNX graph, for ONNX Runtime and whatever else reads ONNX.

The sums are those of docs/explanation/model.md. ONNX Runtime multiplies no sparse matrices, so the
CSR matrix comes as two arrays of its entries, row by row:
- `columns` (B, E) int64 and `values` (B, E) float32, E being the entries of the longest row; a
  shorter row is filled up with column 0 and value 0, which adds nothing anywhere;
- with a trend also `trend` (D, G * V) float32, the contrasts of D days, and `trend_first_day` (1,)
  float32, the first of these days.
The output is `probabilities` (B, N, C) float32.

Weights of all columns are gathered and multiplied by the values, which is the product of the sparse
matrix. Own and customer-wide columns and the day are first put where they belong in one dense
matrix (B, N * K + W + 2), by a table from column to position; all others share its last column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, TensorProto, helper, numpy_helper

from stream_scorer.model.spec import Layout, NetworkSpec

# ReduceSum and Split as here; ONNX Runtime has had it since 1.14, of February 2023.
OPSET = 18

Parameters = Mapping[str, npt.NDArray[np.float32]]
Name = str


class GraphTooLargeError(ValueError):
    """The arrays of a graph are more than an ONNX file holds."""


def network_graph(
    layout: Layout, spec: NetworkSpec, parameters: Parameters, most_bytes: int
) -> GraphProto:
    """The graph of an artefact's network; parameters: as `Layout.shapes`.

    Raises GraphTooLargeError where its arrays have more than `most_bytes`.
    """
    build = _Build(most_bytes)
    network = _Network(layout, spec, parameters, build)
    build.op("Identity", network.probabilities(), named="probabilities")
    inputs = [
        helper.make_tensor_value_info("columns", TensorProto.INT64, ["B", "E"]),
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["B", "E"]),
    ]
    if layout.contrasts:
        width = layout.contrasts * layout.vocabulary
        inputs += [
            helper.make_tensor_value_info("trend", TensorProto.FLOAT, ["D", width]),
            helper.make_tensor_value_info("trend_first_day", TensorProto.FLOAT, [1]),
        ]
    shape: list[str | int | None] = ["B", layout.categories, layout.classes]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape)]
    build.graph.input.extend(inputs)
    build.graph.output.extend(outputs)
    return build.graph


class _Build:
    """Nodes and constants, in the order in which they are made: the same graph, the same bytes."""

    def __init__(self, most_bytes: int) -> None:
        self.graph = GraphProto(name="network")
        self._bytes_left = most_bytes

    def op(self, kind: str, *inputs: Name, named: str = "", **attributes: Any) -> Name:
        """A node with one output; the output's name."""
        name = named or f"{kind}{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, values: npt.ArrayLike, kind: Any = np.float32, named: str = "") -> Name:
        """An array that is stored in the graph."""
        name = named or f"constant{len(self.graph.initializer)}"
        array = np.asarray(values, kind)
        self._bytes_left -= array.nbytes
        if self._bytes_left < 0:
            raise GraphTooLargeError
        # Made where it stays: an array that is appended is copied, and weights are large.
        self.graph.initializer.add(
            name=name, dims=array.shape, raw_data=array.tobytes(),
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        )  # fmt: skip
        return name

    def shape(self, *sizes: int) -> Name:
        """Sizes as an input of Reshape and the like; -1 is whatever is left."""
        return self.constant(sizes, np.int64)

    def cut(self, array: Name, start: int, stop: int) -> Name:
        """Columns `start` to `stop` of (B, any)."""
        bounds = (self.shape(start), self.shape(stop), self.shape(1))
        return self.op("Slice", array, *bounds)

    def beside(self, parts: Sequence[Name], axis: int) -> Name:
        """The parts along an axis; the one part itself where there is no other."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=axis)

    def zeros(self, like: Name, *sizes: int) -> Name:
        """Zeros (B, *sizes), B being that of `like`."""
        rows = self.op("Shape", like, start=0, end=1)
        shape = self.op("Concat", rows, self.shape(*sizes), axis=0)
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        return self.op("ConstantOfShape", shape, value=zero)

    def linear(self, array: Name, weight: npt.NDArray[np.float32]) -> Name:
        """The last axis of `array` times a weight (outputs, inputs)."""
        return self.op("MatMul", array, self.constant(weight.T))

    def layer(
        self, array: Name, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
    ) -> Name:
        """As `linear`, plus a bias (outputs,), rectified."""
        return self.op("Relu", self.op("Add", self.linear(array, weight), self.constant(bias)))


class _Network:
    """The paths of one network; N, M, K, W, X, G, V as in `Layout`."""

    def __init__(
        self, layout: Layout, spec: NetworkSpec, parameters: Parameters, build: _Build
    ) -> None:
        self._layout, self._spec, self._p, self._build = layout, spec, parameters, build
        self._n, self._m, self._k = layout.categories, layout.actions, len(layout.own)

    def probabilities(self) -> Name:
        """(B, N, C)."""
        build, p = self._build, self._p
        total = build.op("Mul", self._logits(), build.constant(p["calibration_scale"]))
        total = build.op("Add", total, build.constant(p["calibration_shift"]))
        if self._layout.classes > 2:
            none = build.zeros(total, self._n, 1)
            return build.op("Softmax", build.op("Concat", none, total, axis=2), axis=2)
        acts = build.op("Sigmoid", total)
        return build.op("Concat", build.op("Sub", build.constant([1.0]), acts), acts, axis=2)

    def _logits(self) -> Name:
        """(B, N, M)."""
        build, p = self._build, self._p
        placed = self._placed()
        hidden, linear = self._products_with_all_columns()
        context = self._context(placed, hidden)
        # All that is multiplied by a weight for each output, side by side, is one product.
        inputs, weights = [context], [p["head_weight"]]
        own = None
        if self._k and (self._spec.own_path or self._spec.pooled):
            wide = build.cut(placed, 0, self._n * self._k)
            own = build.op("Reshape", wide, build.shape(-1, self._n, self._k))
        pooled = own is not None and bool(self._spec.pooled)
        if pooled and self._spec.tower:
            inputs.append(build.layer(context, p["tower_weight"], p["tower_bias"]))
            weights.append(self._tower_outputs())
        if linear:
            inputs.append(linear)
            weights.append(p["linear_out_weight"])
        total = build.op(
            "Gemm", build.beside(inputs, 1), build.constant(np.concatenate(weights, axis=1)),
            build.constant(p["head_bias"]), transB=1,
        )  # fmt: skip
        parts = [build.op("Reshape", total, build.shape(-1, self._n, self._m))]
        trend = self._trend(placed) if self._layout.contrasts else None
        if trend is not None:
            parts.append(build.op("MatMul", trend, build.constant(p["trend_weight"])))
        if own is not None and self._spec.own_path:
            parts.append(self._own_path(own))
        if own is not None and pooled:
            every = own if trend is None else build.op("Concat", own, trend, axis=2)
            parts.append(self._pooled_path(own, every, context))
        return parts[0] if len(parts) == 1 else build.op("Sum", *parts)

    def _placed(self) -> Name:
        """(B, N * K + W + 2): own columns category by category, customer-wide ones, the day, and
        the sum of all others, which nobody reads."""
        layout, build = self._layout, self._build
        width = self._n * self._k + layout.customer_columns
        position = np.full(layout.columns, width + 1, np.int32)
        for k, (start, _) in enumerate(layout.own):
            position[start + np.array(layout.category_index)] = np.arange(self._n) * self._k + k
        after = self._n * self._k
        for start, stop in layout.customer:
            position[start:stop] = np.arange(after, after + stop - start)
            after += stop - start
        # All trends have the same day, that of the row's as-of moment.
        position[list(layout.trend[:1])] = width
        table = build.constant(position, np.int32, named="position")
        where = build.op("Gather", table, "columns", axis=0)
        empty = build.zeros("columns", width + 2)
        return build.op("ScatterElements", empty, where, "values", axis=1, reduction="add")

    def _products_with_all_columns(self) -> tuple[Name, Name]:
        """(B, first hidden layer) without its bias and (B, R) of the linear path; "" for
        what the network has not."""
        build, p = self._build, self._p
        names = [name for name in ("input_weight", "linear_weight") if name in p]
        if not names:
            return "", ""
        weight = p[names[0]]
        if len(names) > 1:
            weight = np.concatenate([p[name] for name in names], axis=1)
        gathered = build.op("Gather", build.constant(weight, named="column_weight"), "columns")
        one_row = build.op("Unsqueeze", "values", build.shape(1))
        product = build.op("Squeeze", build.op("MatMul", one_row, gathered), build.shape(1))
        if len(names) == 1:
            return (product, "") if names[0] == "input_weight" else ("", product)
        first = p["input_weight"].shape[1]
        return build.cut(product, 0, first), build.cut(product, first, weight.shape[1])

    def _context(self, placed: Name, hidden: Name) -> Name:
        """(B, X)."""
        build, p, parts = self._build, self._p, []
        if self._layout.customer:
            start = self._n * self._k
            wide = build.cut(placed, start, start + self._layout.customer_columns)
            wide = build.op("Sub", wide, build.constant(p["customer_mean"]))
            parts.append(build.op("Mul", wide, build.constant(p["customer_scale"])))
        if self._spec.hidden:
            layer = build.op("Relu", build.op("Add", hidden, build.constant(p["input_bias"])))
            for i in range(1, len(self._spec.hidden)):
                layer = build.layer(layer, p[f"hidden{i}_weight"], p[f"hidden{i}_bias"])
            parts.append(layer)
        return build.beside(parts, 1)

    def _tower_outputs(self) -> npt.NDArray[np.float32]:
        """(N * M, T): what a unit of the tower adds to each output."""
        embedding = self._p["pooled_category_bias"].reshape(self._n, -1)
        weight = embedding @ self._p["tower_category_weight"].T  # (N, M * T)
        return np.asarray(weight.reshape(self._n * self._m, self._spec.tower), np.float32)

    def _trend(self, placed: Name) -> Name:
        """(B, N, G): the contrasts of each row's day; a row without a day has the first one's."""
        layout, build = self._layout, self._build
        at = self._n * self._k + layout.customer_columns
        day = build.op("Reshape", build.cut(placed, at, at + 1), build.shape(-1))
        days = build.op("Cast", build.op("Shape", "trend", start=0, end=1), to=TensorProto.FLOAT)
        last = build.op("Squeeze", build.op("Sub", days, build.constant([1.0])), build.shape(0))
        index = build.op("Sub", day, "trend_first_day")
        index = build.op("Clip", index, build.constant(0.0), last)
        rows = build.op("Gather", "trend", build.op("Cast", index, to=TensorProto.INT64), axis=0)
        rows = build.op("Reshape", rows, build.shape(-1, layout.contrasts, layout.vocabulary))
        if not layout.whole_vocabulary:
            categories = build.constant(layout.category_index, np.int64)
            rows = build.op("Gather", rows, categories, axis=2)
        return build.op("Transpose", rows, perm=[0, 2, 1])

    def _own_path(self, own: Name) -> Name:
        """(B, N, M)."""
        build, parts = self._build, []
        for m in range(self._m):
            weighted = build.op("Mul", own, build.constant(self._p["own_weight"][:, :, m]))
            parts.append(build.op("ReduceSum", weighted, build.shape(2), keepdims=1))
        return build.beside(parts, 2)

    def _pooled_path(self, own: Name, every: Name, context: Name) -> Name:
        """(B, N, M) from own columns (B, N, K), these beside the trend's, and the context."""
        build, p = self._build, self._p
        of_context = build.linear(context, p["pooled_context_weight"][0])  # (B, P)
        embedding = build.constant(p["pooled_category_bias"].reshape(self._n, -1))  # (N, P)
        if self._spec.pairs == "all":
            of_context = build.op("Unsqueeze", of_context, build.shape(1))
            return self._pooled_layers(every, of_context, embedding)
        size = build.op("ReduceSum", build.op("Abs", own), build.shape(2), keepdims=0)
        history = build.op("NonZero", build.op("Greater", size, build.constant(0.0)))
        # From here on one line for each of the pairs with history, however many they are.
        row = build.op("Gather", history, build.constant(0, np.int64), axis=0)
        category = build.op("Gather", history, build.constant(1, np.int64), axis=0)
        pairs = build.op("Transpose", history, perm=[1, 0])
        out = self._pooled_layers(
            build.op("GatherND", every, pairs),
            build.op("Gather", of_context, row, axis=0),
            build.op("Gather", embedding, category, axis=0),
        )
        out = build.op("Add", out, build.constant(p["pooled_out_bias"]))
        return build.op("ScatterND", build.zeros("columns", self._n, self._m), pairs, out)

    def _pooled_layers(self, inputs: Name, of_context: Name, embedding: Name) -> Name:
        build, p = self._build, self._p
        layer = build.linear(inputs, p["pooled_own_weight"])
        layer = build.op("Relu", build.op("Add", build.op("Add", layer, of_context), embedding))
        for i in range(1, len(self._spec.pooled)):
            layer = build.layer(layer, p[f"pooled{i}_weight"], p[f"pooled{i}_bias"])
        return build.linear(layer, p["pooled_out_weight"])
