"""Do probabilities mean what they say? Scale and shift of logits, fitted where they help.

With M logits z for each category and class 0 at 0, a calibrated logit is a * z + b. The candidates,
from the fewest parameters to the most: "temperature" (one a), "platt" (one a, and one b for each
class; Platt 1999) and "per_category" (a and b for each category, with a Gaussian prior centred on
the shared ones). Each is fitted by Newton's method on four fifths of the validation customers and
judged on the last fifth, in turn. The best is fitted again on all, and is kept only if its gain is
more than chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from stream_scorer.core.evaluation.intervals import bootstrap_difference
from stream_scorer.core.events.batch import Float64, Int64, UInt8
from stream_scorer.core.features.state import Float32
from stream_scorer.model import calibration_sums
from stream_scorer.model.calibration_sums import derivatives

KINDS = ("temperature", "platt", "per_category")
# Each step is cut to 1, so this is also how far a scale or a shift can move.
NEWTON_STEPS = 12
# Newton's error is squared at each step, so after one this small it is below what float32 holds.
CONVERGED_STEP = 1e-4
# Strength of the prior on a category's own correction, in rows: a category with fewer rows than
# this stays near the shared correction.
PRIOR_ROWS = 1_600.0
# Customers are divided into so many parts, each judged by what was fitted to the others. With two
# parts a fit has half of the rows, and what it would gain with all of them is not seen.
PARTS = 5


class Calibration(NamedTuple):
    """kind, "none" or one of `KINDS`; scale (N,) and shift (N, M) float32 of the logits."""

    kind: str
    scale: Float32
    shift: Float32


def identity(categories: int, actions: int) -> Calibration:
    """Leaves logits as they are."""
    return Calibration(
        "none", np.ones(categories, np.float32), np.zeros((categories, actions), np.float32)
    )


def calibrated_logits(calibration: Calibration, logits: Float32) -> Float32:
    """Calibrated logits, (R, N, M)."""
    calibrated: Float32 = logits * calibration.scale[None, :, None] + calibration.shift[None]
    return calibrated


def cross_entropy(logits: Float32, classes: UInt8) -> Float64:
    """(R,) mean over categories of -log probability of the true class.

    logits (R, N, M) with class 0 at 0; classes (R, N) from 0 to M. Nothing is clipped, since finite
    logits never give a probability of exactly 0 or 1.
    """
    return calibration_sums.losses(logits, classes)


def choose(
    logits: Float32, classes: UInt8, customer: Int64, weight: Float32 | None = None
) -> Calibration:
    """The calibration that helps on customers it was not fitted on; the identity if none does.

    logits (R, N, M), classes (R, N), customer (R,) int64 names each row's customer, weight (R,) how
    many rows each counts as; None is 1 for each.
    """
    weight = np.ones(len(logits), np.float32) if weight is None else weight
    nothing = identity(*logits.shape[1:])
    _, number = np.unique(customer, return_inverse=True)
    if number.max(initial=0) < 1:
        return nothing
    part = number % PARTS  # by customer: rows of one customer must not stand on both sides
    # Each loss times its weight: means of these are what training minimises, up to a factor.
    before = cross_entropy(logits, classes) * weight
    after = {kind: np.empty_like(before) for kind in KINDS}
    for k in np.unique(part):
        judged = part == k
        # Rows that weigh nothing are passed over: a copy of the others would double the memory.
        others = np.where(judged, np.float32(0), weight)
        some, truths = logits[judged], classes[judged]
        for found in _fitted(logits, classes, others):
            after[found.kind][judged] = cross_entropy(calibrated_logits(found, some), truths)
    best, best_loss = "none", float(before.mean())
    for kind in KINDS:
        losses = after[kind] * weight
        gain = bootstrap_difference(losses, before, number, samples=200)
        # Below, not equal: KINDS ascend in parameters, so of two equally good ones the simpler
        # stays.
        if gain.high < 0 and losses.mean() < best_loss:
            best, best_loss = kind, float(losses.mean())
    return nothing if best == "none" else fit(best, logits, classes, weight)


def fit(kind: str, logits: Float32, classes: UInt8, weight: Float32 | None = None) -> Calibration:
    """The calibration of this kind with the least cross entropy of rows counted by weight (R,)."""
    weight = np.ones(len(logits), np.float32) if weight is None else weight
    return next(found for found in _fitted(logits, classes, weight) if found.kind == kind)


def _fitted(logits: Float32, classes: UInt8, weight: Float32) -> Iterator[Calibration]:
    """One of each of KINDS, in order; each begins at what the one before has found."""
    _, categories, actions = logits.shape
    shared = np.zeros((1, 1 + actions))
    shared[0, 0] = 1.0
    for kind, parameters in (("temperature", 1), ("platt", 1 + actions)):
        free = slice(0, parameters)
        # Where all logits are alike, scale and shift do the same and the Hessian is singular.
        ridge = 1e-6 * np.eye(parameters)
        for _ in range(NEWTON_STEPS):
            everywhere = np.repeat(shared, categories, axis=0)
            gradient, hessian = derivatives(logits, classes, everywhere, weight)
            total = hessian.sum(axis=0)[free, free] + ridge
            step = np.linalg.solve(total, gradient.sum(axis=0)[free])
            shared[0, free] -= np.clip(step, -1, 1)  # a full step may diverge far from the optimum
            if np.abs(step).max() < CONVERGED_STEP:
                break
        yield _calibration(kind, np.repeat(shared, categories, axis=0))
    values = np.repeat(shared, categories, axis=0)
    precision = None
    for _ in range(NEWTON_STEPS):
        gradient, hessian = derivatives(logits, classes, values, weight)
        if precision is None:
            # A category's own Hessian is summed over its rows, so the prior precision is the mean
            # Hessian of `PRIOR_ROWS` rows.
            precision = PRIOR_ROWS / weight.sum(dtype=np.float64) * np.mean(hessian, axis=0)
        gradient = gradient + (values - shared) @ precision
        step = np.linalg.solve(hessian + precision, gradient[:, :, None])[:, :, 0]
        values = values - np.clip(step, -1, 1)
        if np.abs(step).max() < CONVERGED_STEP:
            break
    yield _calibration("per_category", values)


def _calibration(kind: str, values: Float64) -> Calibration:
    return Calibration(kind, values[:, 0].astype(np.float32), values[:, 1:].astype(np.float32))
