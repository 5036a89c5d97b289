"""Why a customer has a propensity: each path's share of a category's logit.

The network's paths are added up (docs/explanation/model.md), so a logit is the sum of the paths'
shares, and no approximation is needed. Calibration multiplies every share by the category's scale;
what it adds is a share of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.core.events.batch import Float64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.engines.trend_days import table_rows
from stream_scorer.model.spec import Layout, NetworkSpec

Parameters = Mapping[str, npt.NDArray[np.float32]]


def shares(
    artefact: Artefact, row: sparse.csr_matrix, trend: TrendTable | None = None
) -> dict[str, Float64]:
    """Each path's share (N, M) of the calibrated logits of one row (1, F) float32 CSR, by name.

    Names: bias, context, trend, linear, own, pooled and tower, those that the network has, and
    calibration. For two classes their sum is log(p / (1 - p)) of the engines' probability p; for
    more, log(p of the class / p of class 0). trend: as the engines take it. Raises InputError for
    another number of rows or columns, or a day that `trend` has not.
    """
    layout, spec = artefact.layout, artefact.manifest.network
    if row.shape != (1, layout.columns):
        remedy = f"give one row of the model's {layout.columns} columns"
        raise InputError("row", f"{row.shape[0]} rows of {row.shape[1]} columns", remedy)
    p, n, m = artefact.parameters, layout.categories, layout.actions
    scale = p["calibration_scale"].reshape(n, 1).astype(np.float64)
    found = {
        name: share * scale
        for name, share in _paths(layout, spec, p, row, _contrasts(layout, row, trend)).items()
    }
    found["calibration"] = p["calibration_shift"].reshape(n, m).astype(np.float64)
    return found


def _contrasts(layout: Layout, row: sparse.csr_matrix, trend: TrendTable | None) -> Float32:
    """(N, G) of the row's day."""
    if not layout.contrasts:
        return np.zeros((layout.categories, 0), np.float32)
    (day,) = table_rows(layout, row, trend)
    assert trend is not None  # it was refused
    of_day: Float32 = trend.contrasts[day][:, list(layout.category_index)].T
    return of_day


def _paths(
    layout: Layout, spec: NetworkSpec, p: Parameters, row: sparse.csr_matrix, contrasts: Float32
) -> dict[str, Float64]:
    """Before calibration; all sums in float64."""
    n, m = layout.categories, layout.actions
    columns, values = row.indices, row.data.astype(np.float64)
    dense = np.zeros(layout.columns)
    np.add.at(dense, columns, values)
    context = _context(layout, spec, p, columns, values, dense)
    found = {
        "bias": p["head_bias"].reshape(n, m).astype(np.float64),
        "context": (p["head_weight"] @ context).reshape(n, m),
    }
    if layout.contrasts:
        found["trend"] = contrasts @ p["trend_weight"].astype(np.float64)
    if spec.linear_rank:
        units = values @ p["linear_weight"][columns]
        found["linear"] = (p["linear_out_weight"] @ units).reshape(n, m)
    if not layout.own:
        return found
    index = np.array(layout.category_index)
    own = np.stack([dense[start:stop][index] for start, stop in layout.own], axis=1)  # (N, K)
    used = (own != 0).any(axis=1) if spec.pairs == "history" else np.ones(n, np.bool_)
    if spec.own_path:
        found["own"] = np.einsum("nk,nkm->nm", own, p["own_weight"])
    if spec.pooled:
        inputs = np.concatenate([own, contrasts], axis=1)[used]
        found["pooled"] = np.zeros((n, m))
        found["pooled"][used] = _pooled(spec, p, inputs, context, used)
        if spec.tower:
            tower = np.maximum(p["tower_weight"] @ context + p["tower_bias"], 0)
            embedding = p["pooled_category_bias"].reshape(n, -1).astype(np.float64)
            of_category = (embedding @ p["tower_category_weight"].T).reshape(n, m, spec.tower)
            found["tower"] = of_category @ tower
    return found


def _context(
    layout: Layout, spec: NetworkSpec, p: Parameters, columns: npt.NDArray[np.int32],
    values: Float64, dense: Float64,
) -> Float64:  # fmt: skip
    """(X,): the customer-wide columns, standardised, then the last hidden layer."""
    parts = []
    if layout.customer:
        wide = np.concatenate([dense[start:stop] for start, stop in layout.customer])
        parts.append((wide - p["customer_mean"][0]) * p["customer_scale"][0])
    if spec.hidden:
        hidden = np.maximum(values @ p["input_weight"][columns] + p["input_bias"][0], 0)
        for i in range(1, len(spec.hidden)):
            hidden = np.maximum(p[f"hidden{i}_weight"] @ hidden + p[f"hidden{i}_bias"], 0)
        parts.append(hidden)
    return np.concatenate(parts)


def _pooled(
    spec: NetworkSpec, p: Parameters, inputs: Float64, context: Float64,
    used: npt.NDArray[np.bool_],
) -> Float64:  # fmt: skip
    """(A, M) of the A categories in use; inputs (A, K + G)."""
    embedding = p["pooled_category_bias"].reshape(len(used), -1)[used]
    layer = inputs @ p["pooled_own_weight"].T + embedding
    layer = np.maximum(layer + p["pooled_context_weight"][0] @ context, 0)
    for i in range(1, len(spec.pooled)):
        layer = np.maximum(layer @ p[f"pooled{i}_weight"].T + p[f"pooled{i}_bias"], 0)
    out = layer @ p["pooled_out_weight"].T
    found: Float64 = out + p["pooled_out_bias"] if "pooled_out_bias" in p else out
    return found
