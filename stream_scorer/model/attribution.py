"""Why a logit is what it is: amounts of the inputs that add up to it.

The logit of a category and class, for a row x, is a * z(x) + b, with z the network's and a, b those
of the calibration. It is compared with the zero row: nothing in any column, no contrast of the
shop's trend. What lies between the two is divided among the inputs, columns and contrasts:

- What is linear in an input is its own: linear path, own path, trend, and the customer-wide columns
  in the head. (`linear`)
- The rest goes through rectified layers: deep path, tower and pooled path. Of it an input gets its
  integrated gradient (Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks"): its
  value times the gradient, averaged over the straight line from the zero row to x. These amounts
  add up to the difference, and an input that changes nothing gets 0. The network is piecewise
  linear along the line, so the mean is exact (rectified_line.py). (`attributed`)
- With pairs = "history" the pooled path counts only where a category's own columns hold something.
  What it gives then, before any input does, is an amount of its own. (`history`)

All amounts are multiplied by a, and the base is a * z(0) + b, so that base, history and all amounts
add up to the calibrated logit. How far they do not is `residual`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.category_network import CategoryNetwork, CategoryNetworks
from stream_scorer.model.rectified_line import Along, along_line

METHOD = (
    "linear paths exactly; deep path, tower and pooled path by integrated gradients (Sundararajan, "
    "Taly, Yan 2017) from the zero vector, integrated exactly"
)
# Amounts of float64 are rounded by 1e-16 of them, and there are some thousands of operations.
RESIDUAL_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Attribution:
    """One category's logit of one class, as amounts of I inputs: k columns, then G contrasts.

    class_index: 1 and up. linear, attributed (I,) float64: see the module's head; calibrated, as
    are base, history and `logit`, the log-odds of the class against class 0, which is scale *
    network_logit + shift. probability: of all classes' logits. residual: the sum of all amounts
    minus logit. pieces: into which the line was cut.
    """

    category: int
    class_index: int
    linear: Float64
    attributed: Float64
    base: float
    history: float
    network_logit: float
    scale: float
    shift: float
    logit: float
    probability: float
    residual: float
    pieces: int

    @property
    def amounts(self) -> Float64:
        """(I,)."""
        return self.linear + self.attributed

    @property
    def largest(self) -> float:
        """The largest of all parts, without their signs, and 1 at least."""
        parts = [self.base, self.history, self.logit, *self.linear, *self.attributed]
        return max(1.0, float(np.abs(parts).max()))

    @property
    def tolerance(self) -> float:
        """How large a residual may be: `RESIDUAL_TOLERANCE` of the largest part."""
        return RESIDUAL_TOLERANCE * self.largest

    @property
    def adds_up(self) -> bool:
        """Whether the amounts add up to the logit within the tolerance; False also for NaN."""
        return abs(self.residual) <= self.tolerance


class Attributor:
    """Explains logits of one checked artefact, without an engine. Safe for several threads."""

    def __init__(self, artefact: Artefact) -> None:
        self._networks = CategoryNetworks(artefact)
        p, layout = artefact.parameters, artefact.layout
        self._scale = np.asarray(p["calibration_scale"], np.float64).reshape(layout.categories)
        self._shift = np.asarray(p["calibration_shift"], np.float64).reshape(
            layout.categories, layout.actions
        )

    def attribute(
        self, columns: Int64, values: npt.ArrayLike, contrasts: npt.ArrayLike, category: int
    ) -> list[Attribution]:
        """Of a row with `values` (k,) in `columns` (k,), for one of the N categories: one
        attribution for each class, from 1 up.

        contrasts (G,): of the row's day and this category; () where the layout has no trend.
        """
        x, g = np.asarray(values, np.float64), np.asarray(contrasts, np.float64)
        network = self._networks.of(columns, x, g, category)
        along = _along(network)
        base, history = _without_inputs(network, along)
        end = network.bias + network.linear.sum(axis=0) + along.at_end.sum(axis=0)
        end += network.history_bias
        a, b = float(self._scale[category]), self._shift[category]
        logits = a * end + b
        linear, attributed = a * network.linear, a * along.amounts
        base, history = a * base + b, a * history
        sums = base + history + (linear + attributed).sum(axis=0)
        probabilities = _probabilities(logits)
        return [
            Attribution(
                category, m + 1, linear[:, m], attributed[:, m], float(base[m]), float(history[m]),
                float(end[m]), a, float(b[m]), float(logits[m]), float(probabilities[m]),
                float(sums[m] - logits[m]), along.pieces,
            )
            for m in range(len(logits))
        ]  # fmt: skip


def _along(network: CategoryNetwork) -> Along:
    if network.layers:
        return along_line(network.layers)
    nothing = np.zeros((0, len(network.bias)))
    return Along(nothing, nothing, np.zeros_like(network.linear), 0)


def _without_inputs(network: CategoryNetwork, along: Along) -> tuple[Float64, Float64]:
    """(M,) the logits of the zero row, and what history alone adds to them."""
    base = network.bias + along.at_start.sum(axis=0)
    if network.history is None:
        return base, np.zeros_like(base)
    pooled = along.at_start[network.history]
    return base - pooled, pooled + network.history_bias


def _probabilities(logits: Float64) -> Float64:
    """(M,) of classes 1 and up; logits (M,), that of class 0 is 0."""
    every = np.concatenate([[0.0], logits])
    shares = np.exp(every - every.max())
    return np.asarray(shares[1:] / shares.sum())
