"""The network's parameters: what they are before the first step, and for columns as they come.

In training, columns are multiplied by the scale of their block; scoring needs none, because the
scale is folded into the weights at the end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stream_scorer.core.features.state import Float32
from stream_scorer.model.spec import Layout, NetworkSpec

Parameters = dict[str, npt.NDArray[np.float32]]


def initial_parameters(
    layout: Layout, spec: NetworkSpec, *, head_bias: Float32, entries_per_row: float, seed: int
) -> Parameters:
    """Starting values: He's for hidden layers, the prior for the bias, 0 for what adds to it."""
    draw = np.random.default_rng(seed)
    parameters: Parameters = {}
    for name, shape in layout.shapes(spec).items():
        if name in ("input_weight", "linear_weight"):
            # A unit adds up so many entries, scaled to a root mean square of 1: its variance is
            # then 1.
            deviation = 1.0 / np.sqrt(max(entries_per_row, 1.0))
        elif name in ("pooled_own_weight", "pooled_context_weight"):
            inputs = len(layout.own) + layout.contrasts + layout.context_width(spec)
            deviation = 1.0 / np.sqrt(inputs)
        elif name == "pooled_category_bias":
            deviation = 0.1
        elif name.startswith(("hidden", "pooled", "tower_weight")) and name.endswith("_weight"):
            # 0 for the last layer, so that an untrained network answers with the prior.
            deviation = 0.0 if name == "pooled_out_weight" else float(np.sqrt(2.0 / shape[-1]))
        else:
            deviation = 0.0
        parameters[name] = (draw.standard_normal(shape, np.float32) * deviation).astype(np.float32)
    parameters["head_bias"] = head_bias.astype(np.float32)
    parameters["calibration_scale"] = np.ones_like(parameters["calibration_scale"])
    if "category_index" in parameters:
        # Parameter files hold float32 alone; whole numbers are exact in it up to 2^24.
        parameters["category_index"] = np.array(layout.category_index, np.float32)
    return parameters


def fold_column_scale(layout: Layout, parameters: Parameters, column_scale: Float32) -> Parameters:
    """Parameters for unscaled columns; column_scale (F,) has one value for each own range."""
    folded = dict(parameters)
    of_own = np.array([column_scale[start] for start, _ in layout.own], np.float32)
    if "own_weight" in folded:
        folded["own_weight"] = folded["own_weight"] * of_own[:, None]
    if "pooled_own_weight" in folded:
        # The contrasts of the trend come after the own columns, and have no scale.
        scale = np.concatenate([of_own, np.ones(layout.contrasts, np.float32)])
        folded["pooled_own_weight"] = folded["pooled_own_weight"] * scale
    for name in ("input_weight", "linear_weight"):
        if name in folded:
            folded[name] = folded[name] * column_scale[:, None]
    return folded
