"""The mean of the logits of several networks of one shape, as one network with wider layers.

Layers of the single networks stand side by side, each fed by its own part of the layer before, and
the last weights are divided by their number. The result is a network like any other, so engines,
files and the symbol need not know of it; it costs as many times as much to score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stream_scorer.core.features.state import Float32
from stream_scorer.errors import ConfigError
from stream_scorer.model.network_parameters import Parameters
from stream_scorer.model.spec import MOST_UNITS, Layout, NetworkSpec

# What is counted and not trained, or fitted to the mean: the same in all networks.
_SHARED = {
    "customer_mean", "customer_scale", "category_index", "calibration_scale", "calibration_shift",
}  # fmt: skip
# Factors of what all networks have alike: the mean of the products is that of the factors.
_AVERAGED = {"own_weight", "trend_weight", "head_bias", "pooled_out_bias"}
_OUTPUT = {"linear_out_weight", "pooled_out_weight"}  # (outputs, units)
_OF_CONTEXT = {"pooled_context_weight", "tower_weight"}  # (..., units, X)


def wider(spec: NetworkSpec, networks: int) -> NetworkSpec:
    """The shape of the mean of so many networks of this shape.

    Raises ConfigError where it would have more units than a network may have.
    """
    for name in ("tower", "linear_rank"):
        if getattr(spec, name) * networks > MOST_UNITS:
            remedy = (
                f"training.network.{name}, {getattr(spec, name)}, times it may be {MOST_UNITS} at "
                "most: lower one of them"
            )
            raise ConfigError("training.average_seeds", networks, remedy)
    return replace(
        spec,
        hidden=tuple(size * networks for size in spec.hidden),
        pooled=tuple(size * networks for size in spec.pooled),
        tower=spec.tower * networks,
        linear_rank=spec.linear_rank * networks,
    )


def averaged(
    layout: Layout, spec: NetworkSpec, parameters_of_each: Sequence[Parameters]
) -> tuple[NetworkSpec, Parameters]:
    """The network whose logits are the mean of those of these networks, all of the shape `spec`.

    parameters_of_each: of one network or more, as `Layout.shapes`. Scales of the customer-wide
    columns, categories and calibration must be the same in all; they are taken from the first.
    Raises ConfigError as `wider`.
    """
    if len(parameters_of_each) == 1:  # the usual case: without copies of large weights
        return spec, parameters_of_each[0]
    wide = wider(spec, len(parameters_of_each))
    found: Parameters = {}
    for name, shape in layout.shapes(wide).items():
        parts = [parameters[name] for parameters in parameters_of_each]
        found[name] = _joined(layout, name, parts).reshape(shape)
    return wide, found


def _joined(layout: Layout, name: str, parts: Sequence[Float32]) -> Float32:
    """The parameters of this name of every network as those of one, up to their shape."""
    # The context begins with the customer-wide columns, which the networks share; the last hidden
    # layers follow, one network's after the other's.
    shared = layout.customer_columns
    if name in _SHARED:
        found = parts[0]
    elif name in _AVERAGED:
        found = _mean(parts)
    elif name in _OUTPUT:
        found = np.concatenate(parts, axis=1) / np.float32(len(parts))
    elif name == "head_weight":
        own = np.concatenate([p[:, shared:] for p in parts], axis=1) / np.float32(len(parts))
        found = np.concatenate([_mean([p[:, :shared] for p in parts]), own], axis=1)
    elif name in _OF_CONTEXT:
        of_shared = np.concatenate([p[..., :shared] for p in parts], axis=-2)
        found = np.concatenate([of_shared, _diagonal([p[..., shared:] for p in parts])], axis=-1)
    elif name == "pooled_own_weight":  # (units, K + G) of inputs that the networks share
        found = np.concatenate(parts, axis=0)
    elif name == "pooled_category_bias":
        found = np.concatenate([p.reshape(layout.categories, -1) for p in parts], axis=1)
    elif name == "tower_category_weight":
        # (M * T, P): the units of one action stand together.
        blocks = _diagonal([p.reshape(layout.actions, -1, p.shape[-1]) for p in parts])
        found = blocks / np.float32(len(parts))
    elif name in ("input_weight", "linear_weight") or name.endswith("_bias"):
        found = np.concatenate(parts, axis=-1)
    else:  # of the layers after the first
        found = _diagonal(parts)
    return found


def _mean(parts: Sequence[Float32]) -> Float32:
    mean: Float32 = np.mean(parts, axis=0, dtype=np.float64).astype(np.float32)
    return mean


def _diagonal(parts: Sequence[Float32]) -> Float32:
    """Matrices (..., outputs, units) as blocks on the diagonal of one."""
    outputs, units = parts[0].shape[-2:]
    whole = np.zeros((*parts[0].shape[:-2], len(parts) * outputs, len(parts) * units), np.float32)
    for i, part in enumerate(parts):
        whole[..., i * outputs : (i + 1) * outputs, i * units : (i + 1) * units] = part
    return whole
