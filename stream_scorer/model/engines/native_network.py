"""A model's parameters as the native engine's loops take them.

What calibration multiplies a category's logit by, and adds, is part of every weight and bias that
leads to it. Head, tower and a low-rank linear path are one matrix. Copied are the input weights
where a low-rank linear path stands beside them (4 * F * (H + R) bytes), a whole linear path (16 MB
at most) and the one matrix (4 * N * M * (X + T + R) bytes); other input weights are the artefact's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_scorer.core.events.batch import Int32
from stream_scorer.core.features.state import Float32
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines import native_kernels as kernels
from stream_scorer.model.engines.native_product import packed
from stream_scorer.model.spec import Layout


class Outputs:
    """What changes the order of a parameter's N * M outputs, and calibrates them."""

    def __init__(self, artefact: Artefact) -> None:
        p = artefact.parameters
        self._n, self._m = artefact.layout.categories, artefact.layout.actions
        self.scale: Float32 = p["calibration_scale"].reshape(self._n)
        self.shift: Float32 = p["calibration_shift"].reshape(self._n, self._m)

    def calibrated(self, weight: Float32) -> Float32:
        """weight (N * M, inputs), category by category, as (inputs, M * N), class by class: rows
        of categories stay together."""
        scaled = weight.reshape(self._n, self._m, -1) * self.scale[:, None, None]
        return np.ascontiguousarray(scaled.transpose(2, 1, 0).reshape(-1, self._m * self._n))

    def bias(self, share: Float32) -> Float32:
        """share (N, M) of the logits, with calibration, as (M * N,)."""
        whole = share * self.scale[:, None] + self.shift
        return np.ascontiguousarray(whole.T.reshape(-1), np.float32)


def network_of(artefact: Artefact, outputs: Outputs) -> kernels.Network:
    """The parameters of a checked artefact."""
    p, layout, spec = artefact.parameters, artefact.layout, artefact.manifest.network
    nothing = np.zeros((layout.columns, 0), np.float32)
    gathered, bias = [], []
    if spec.hidden:
        gathered, bias = [p["input_weight"]], [p["input_bias"][0]]
    if spec.linear_rank:
        gathered.append(p["linear_weight"])
        bias.append(np.zeros(spec.linear_rank, np.float32))
    units = [p["head_weight"]]
    context, context_bias = [], []
    if spec.tower and layout.own:
        units.append(_tower(artefact))
        context.append(p["tower_weight"])
        context_bias.append(p["tower_bias"])
    if spec.linear_rank:
        units.append(p["linear_out_weight"])
    if spec.pooled and layout.own:
        context.append(p["pooled_context_weight"][0])
        context_bias.append(np.zeros(spec.pooled[0], np.float32))
    later = range(1, len(spec.hidden))
    return kernels.Network(
        role=_fixed(roles(layout), np.int32),
        shift=_shift(layout),
        gathered=_fixed(_beside(gathered, axis=1) if gathered else nothing),
        gathered_bias=_fixed(_beside(bias)),
        hidden=spec.hidden[0] if spec.hidden else 0,
        customer_mean=_fixed(p["customer_mean"][0] if layout.customer else np.zeros(0)),
        customer_scale=_fixed(p["customer_scale"][0] if layout.customer else np.zeros(0)),
        layers=_fixed(np.array(spec.hidden), np.int64),
        layer_weights=_fixed(_beside([packed(p[f"hidden{i}_weight"].T) for i in later])),
        layer_biases=_fixed(_beside([p[f"hidden{i}_bias"] for i in later])),
        from_context=_fixed(packed(np.concatenate(context).T) if context else np.zeros(0)),
        from_context_bias=_fixed(_beside(context_bias)[None]),
        tower=spec.tower if layout.own else 0,
        outputs=_fixed(packed(outputs.calibrated(np.concatenate(units, axis=1)))),
        pairs=_pair_network(artefact, outputs),
    )


def _shift(layout: Layout) -> int:
    """Bits that a category's number has."""
    return max(layout.categories - 1, 1).bit_length()


def roles(layout: Layout) -> Int32:
    """(F,) as `Network` says."""
    role = np.full(layout.columns, kernels.NO_ROLE, np.int32)
    index = np.array(layout.category_index, np.int64)
    for block, (start, _) in enumerate(layout.own):
        role[start + index] = (block << _shift(layout)) + np.arange(layout.categories)
    position = len(layout.own) << _shift(layout)
    for start, stop in layout.customer:
        role[start:stop] = np.arange(position, position + stop - start)
        position += stop - start
    return role


def _pair_network(artefact: Artefact, outputs: Outputs) -> kernels.PairNetwork:
    p, layout, spec = artefact.parameters, artefact.layout, artefact.manifest.network
    n, m, k = layout.categories, layout.actions, len(layout.own)
    use_own, use_pooled = "own_weight" in p, "pooled_out_weight" in p
    own = np.zeros((k, m, n), np.float32)
    if use_own:
        own = (p["own_weight"] * outputs.scale[:, None, None]).transpose(1, 2, 0)
    sizes = spec.pooled if use_pooled else ()
    first = sizes[0] if use_pooled else 0
    later = range(1, len(sizes))
    bias = p["pooled_category_bias"].reshape(n, first).T if use_pooled else np.zeros((0, n))
    out_bias = p["pooled_out_bias"] if "pooled_out_bias" in p else np.zeros(m)
    return kernels.PairNetwork(
        own_weight=_fixed(own),
        category_bias=_fixed(bias),
        own_and_trend=_fixed(p["pooled_own_weight"] if use_pooled else np.zeros((0, 0))),
        sizes=_fixed(np.array(sizes), np.int64),
        weights=_fixed(_beside([p[f"pooled{i}_weight"].reshape(-1) for i in later])),
        biases=_fixed(_beside([p[f"pooled{i}_bias"] for i in later])),
        out_weight=_fixed(p["pooled_out_weight"] if use_pooled else np.zeros((0, 0))),
        out_bias=_fixed(out_bias),
        scale=_fixed(outputs.scale),
        use_own=int(use_own),
        use_pooled=int(use_pooled),
        history=int(spec.pairs == "history"),
    )


def _tower(artefact: Artefact) -> Float32:
    """(N * M, T): what a unit of the tower adds to each logit."""
    p, layout, spec = artefact.parameters, artefact.layout, artefact.manifest.network
    embedding = p["pooled_category_bias"].reshape(layout.categories, -1)
    of_category: Float32 = embedding @ p["tower_category_weight"].T
    return of_category.reshape(-1, spec.tower)


def _beside(arrays: list[Float32], axis: int = 0) -> Float32:
    """Side by side; one array is not copied."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays, axis=axis) if arrays else np.zeros(0, np.float32)


def _fixed(array: Any, dtype: type = np.float32) -> Any:
    """Contiguous and read-only, whatever it was: kernels are compiled for one type only."""
    found: Any = np.ascontiguousarray(array, dtype).view()  # the array itself stays as it was
    found.flags.writeable = False
    return found
