"""The network of one category for one row, in float64: what is linear, and what is rectified.

It is written from the paths in inference_network.py. Parameters are the artefact's float32 ones; of
weights that all columns have, only the rows of the row's own columns are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.rectified_line import Rectified
from stream_scorer.model.spec import Layout


@dataclass(frozen=True)
class CategoryNetwork:
    """The logits (M,) of one category, before calibration, are the sum of bias, of `linear` over
    the I inputs, and of what the layers give; and where `history` is the number of the pooled
    path's last layer, of history_bias. The I inputs: the row's k columns, then the G contrasts.

    bias (M,) and linear (I, M) float64. history: None where the pooled path does not wait for a
    value in the category's own columns, or there is none; then it has no layers either.
    """

    bias: Float64
    linear: Float64
    layers: tuple[Rectified, ...]
    history: int | None
    history_bias: Float64


class CategoryNetworks:
    """The networks of an artefact's categories. Safe for several threads."""

    def __init__(self, artefact: Artefact) -> None:
        self._p: Mapping[str, npt.NDArray[Any]] = artefact.parameters
        self._spec, self._layout = artefact.manifest.network, artefact.layout
        self._has_pooled = "pooled_out_weight" in self._p
        if artefact.layout.customer:
            self._wide_scale = np.asarray(self._p["customer_scale"][0], np.float64)
            self._wide_mean = np.asarray(self._p["customer_mean"][0], np.float64)
        else:
            self._wide_scale = self._wide_mean = np.zeros(0)

    def of(self, columns: Int64, values: Float64, contrasts: Float64, n: int) -> CategoryNetwork:
        """Of category n for a row with `values` (k,) in `columns` (k,), and contrasts (G,)."""
        spec, m, width = self._spec, self._layout.actions, len(self._wide_scale)
        x = np.concatenate([values, contrasts])
        k = len(columns)
        outputs = np.arange(n * m, (n + 1) * m)
        head = self._rows("head_weight", outputs)
        # (I, W): each input times its scale, at its place among the customer-wide columns.
        wide = np.zeros((len(x), width))
        at = wide_positions(self._layout, columns)
        found = np.flatnonzero(at >= 0)
        wide[found, at[found]] = values[found] * self._wide_scale[at[found]]
        nothing = -self._wide_mean * self._wide_scale  # the customer-wide part of the zero row
        own = self._own(columns, values, contrasts, n)
        bias = self._rows("head_bias", outputs) + head[:, :width] @ nothing
        linear = wide @ head[:, :width].T
        if "linear_weight" in self._p:
            units = values[:, None] * self._rows("linear_weight", columns)
            linear[:k] += units @ self._rows("linear_out_weight", outputs).T
        if "own_weight" in self._p:
            of_category = np.asarray(self._p["own_weight"][n], np.float64)
            linear += own[:, : len(self._layout.own)] @ of_category
        if "trend_weight" in self._p:
            linear[k:] += contrasts[:, None] * np.asarray(self._p["trend_weight"], np.float64)
        layers = self._deep(columns, values, len(x), head[:, width:])
        deepest = len(layers) - 1 if layers else None
        if spec.tower and self._has_pooled:
            layers.append(self._tower(wide, nothing, deepest, n))
        history, history_bias = None, np.zeros(m)
        if self._has_pooled and (spec.pairs == "all" or own[:k].any()):
            layers += self._pooled(own, wide, nothing, deepest, n, first=len(layers))
            if spec.pairs == "history":
                history = len(layers) - 1
                history_bias = np.asarray(self._p["pooled_out_bias"], np.float64)
        return CategoryNetwork(bias, linear, tuple(layers), history, history_bias)

    def _own(self, columns: Int64, values: Float64, contrasts: Float64, n: int) -> Float64:
        """(I, K + G): what each input puts into the category's own columns and contrasts."""
        k, blocks = len(columns), self._layout.own
        found = np.zeros((k + len(contrasts), len(blocks) + len(contrasts)))
        for block, (start, _) in enumerate(blocks):
            at = np.flatnonzero(columns == start + self._layout.category_index[n])
            found[at, block] = values[at]
        found[np.arange(k, len(found)), np.arange(len(blocks), found.shape[1])] = contrasts
        return found

    def _deep(self, columns: Int64, values: Float64, inputs: int, head: Float64) -> list[Rectified]:
        """The hidden layers; head (M, last of them): what the last one gives the logits."""
        sizes = self._spec.hidden
        layers = []
        for number, size in enumerate(sizes):
            readout = head if number == len(sizes) - 1 else np.zeros((len(head), size))
            entering = np.zeros((inputs, size))
            if not number:
                entering[: len(columns)] = values[:, None] * self._rows("input_weight", columns)
                bias, weight = self._all("input_bias")[0], np.zeros((size, 0))
            else:
                bias = self._all(f"hidden{number}_bias")
                weight = self._all(f"hidden{number}_weight")
            layers.append(
                Rectified(bias, entering, number - 1 if number else None, weight, readout)
            )
        return layers

    def _tower(self, wide: Float64, nothing: Float64, deepest: int | None, n: int) -> Rectified:
        weight = self._all("tower_weight")
        width, m = wide.shape[1], self._layout.actions
        # What the embedding of the category makes of each unit.
        readout = self._all("tower_category_weight") @ self._embedding(n)
        return Rectified(
            self._all("tower_bias") + weight[:, :width] @ nothing, wide @ weight[:, :width].T,
            deepest, weight[:, width:], readout.reshape(m, self._spec.tower),
        )  # fmt: skip

    def _pooled(
        self, own: Float64, wide: Float64, nothing: Float64, deepest: int | None, n: int, first: int
    ) -> list[Rectified]:
        """first: the number of the first of them among all layers."""
        sizes, m, width = self._spec.pooled, self._layout.actions, wide.shape[1]
        context = self._all("pooled_context_weight")[0]
        layers = []
        for number, size in enumerate(sizes):
            last = number == len(sizes) - 1
            readout = self._all("pooled_out_weight") if last else np.zeros((m, size))
            if not number:
                layers.append(
                    Rectified(
                        self._embedding(n) + context[:, :width] @ nothing,
                        own @ self._all("pooled_own_weight").T + wide @ context[:, :width].T,
                        deepest, context[:, width:], readout,
                    )
                )  # fmt: skip
            else:
                layers.append(
                    Rectified(
                        self._all(f"pooled{number}_bias"), np.zeros((len(own), size)),
                        first + number - 1, self._all(f"pooled{number}_weight"), readout,
                    )
                )  # fmt: skip
        return layers

    def _embedding(self, n: int) -> Float64:
        first = self._spec.pooled[0]
        return self._rows("pooled_category_bias", np.arange(n * first, (n + 1) * first))

    def _all(self, name: str) -> Float64:
        return np.asarray(self._p[name], np.float64)

    def _rows(self, name: str, rows: Int64) -> Float64:
        return np.asarray(self._p[name][rows], np.float64)


def wide_positions(layout: Layout, columns: Int64) -> Int64:
    """(k,) where each column stands among the W customer-wide ones, -1 where it is none."""
    found = np.full(len(columns), -1, np.int64)
    position = 0
    for start, stop in layout.customer:
        inside = (columns >= start) & (columns < stop)
        found[inside] = columns[inside] - start + position
        position += stop - start
    return found
