"""The network in plain numpy, dense and slow: what every engine and the training are compared with.

It is written from the sums in docs/explanation/model.md, one path at a time, and shares no code
with any engine. `paths` gives each path's share of a logit, `probabilities` what an engine answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.model.spec import Layout, NetworkSpec

Array = npt.NDArray[np.float64]


def paths(
    layout: Layout,
    spec: NetworkSpec,
    parameters: Mapping[str, npt.NDArray[np.float32]],
    matrix: sparse.csr_matrix,
    contrasts: npt.NDArray[np.float32] | None = None,
) -> dict[str, Array]:
    """Each path's share (B, N, M) of the logits before calibration, by the path's name.

    parameters: as `Layout.shapes`, for columns as they come. contrasts: (B, G, V) of each row's
    day, None where the layout has no trend.
    """
    p = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    x = np.asarray(matrix.todense(), np.float64)
    rows, n, m = len(x), layout.categories, layout.actions
    index = np.array(layout.category_index)
    context = _context(layout, spec, p, x)
    shape = rows, n, m
    found = {
        "bias": np.broadcast_to(p["head_bias"].reshape(1, n, m), shape).copy(),
        "context": (context @ p["head_weight"].T).reshape(shape),
    }
    trend = np.zeros((rows, n, 0))
    if layout.contrasts:
        assert contrasts is not None
        trend = contrasts.astype(np.float64)[:, :, index].transpose(0, 2, 1)  # (B, N, G)
        found["trend"] = trend @ p["trend_weight"]
    if spec.linear_rank:
        found["linear"] = (x @ p["linear_weight"] @ p["linear_out_weight"].T).reshape(shape)
    if not layout.own:
        return found
    own = np.stack([x[:, start:stop][:, index] for start, stop in layout.own], axis=2)  # (B, N, K)
    active = np.ones((rows, n, 1)) if spec.pairs == "all" else (own != 0).any(2, keepdims=True)
    if spec.own_path:
        found["own"] = np.einsum("bnk,nkm->bnm", own, p["own_weight"]) * active
    if spec.pooled:
        embedding = p["pooled_category_bias"].reshape(n, -1)  # (N, P)
        layer = np.concatenate([own, trend], axis=2) @ p["pooled_own_weight"].T
        layer += (context @ p["pooled_context_weight"][0].T)[:, None, :] + embedding[None]
        layer = np.maximum(layer, 0)
        for i in range(1, len(spec.pooled)):
            layer = np.maximum(layer @ p[f"pooled{i}_weight"].T + p[f"pooled{i}_bias"], 0)
        out = layer @ p["pooled_out_weight"].T
        if spec.pairs == "history":
            out = (out + p["pooled_out_bias"]) * active
        found["pooled"] = out
        if spec.tower:
            tower = np.maximum(context @ p["tower_weight"].T + p["tower_bias"], 0)  # (B, T)
            of_category = embedding @ p["tower_category_weight"].T  # (N, M * T)
            of_category = of_category.reshape(n, m, spec.tower)
            found["tower"] = np.einsum("bt,nmt->bnm", tower, of_category)
    return found


def probabilities(
    layout: Layout,
    spec: NetworkSpec,
    parameters: Mapping[str, npt.NDArray[np.float32]],
    matrix: sparse.csr_matrix,
    contrasts: npt.NDArray[np.float32] | None = None,
) -> Array:
    """(B, N, C) calibrated probabilities."""
    total = sum(paths(layout, spec, parameters, matrix, contrasts).values())
    total = total * parameters["calibration_scale"] + parameters["calibration_shift"]
    every = np.concatenate([np.zeros_like(total[:, :, :1]), total], axis=2)
    every = np.exp(every - every.max(axis=2, keepdims=True))
    return every / every.sum(axis=2, keepdims=True)


def _context(layout: Layout, spec: NetworkSpec, p: dict[str, Array], x: Array) -> Array:
    """(B, X): the customer-wide columns, standardised, and the last hidden layer."""
    parts = []
    if layout.customer:
        wide = np.concatenate([x[:, start:stop] for start, stop in layout.customer], axis=1)
        parts.append((wide - p["customer_mean"]) * p["customer_scale"])
    if spec.hidden:
        hidden = np.maximum(x @ p["input_weight"] + p["input_bias"], 0)
        for i in range(1, len(spec.hidden)):
            hidden = np.maximum(hidden @ p[f"hidden{i}_weight"].T + p[f"hidden{i}_bias"], 0)
        parts.append(hidden)
    return np.concatenate(parts, axis=1)
