"""How far a distribution has moved: the population stability index, and what its values mean.

With expected shares e and actual shares a of the same bins, PSI = sum (a - e) * ln(a / e). It is
the symmetric divergence of Jeffreys (Kullback and Leibler, "On Information and Sufficiency", 1951),
never negative, and 0 where nothing moved. Below 0.1 is read as stable, from 0.25 on as a shift that
calls for action (Siddiqi, "Credit Risk Scorecards", 2006, chapter 8).

A sample moves by chance alone: of B bins, n expected and m actual rows, PSI is about
(B - 1) * (1 / n + 1 / m) where nothing moved at all (Yurdakul and Naranjo, "Statistical properties
of the population stability index", Journal of Risk Model Validation, 2020). So nothing is judged on
fewer than `LEAST_ROWS` rows: with them chance makes up 0.024 of 25 bins.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Float64, Int64

WATCH, ACT = 0.1, 0.25
LEAST_ROWS = 1_000
# Of each bin, added to its count, so that a bin without rows does not make the index infinite.
HALF_ROW = 0.5

State = Literal["stable", "watch", "drifted", "too_few_rows", "not_judged"]
JUDGED: tuple[State, ...] = ("stable", "watch", "drifted")


def psi(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> float:
    """The index of two arrays (B,) of shares, all above 0, each of which sums to 1."""
    e, a = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    return float(((a - e) * np.log(a / e)).sum())


def smoothed(counts: npt.NDArray[Any]) -> Float64:
    """(B,) shares of counts (B,), with half a row added to each."""
    more = np.asarray(counts, np.float64) + HALF_ROW
    shares: Float64 = more / more.sum()
    return shares


def psi_of_counts(shares: Float64, expected_rows: int, counts: Int64) -> float | None:
    """The index of actual counts (B,) against shares (B,) of so many expected rows; None of nothing
    counted, or nothing expected.

    Bins that neither has are left out: they would only dilute the half rows.
    """
    if not counts.sum() or not shares.sum() or not expected_rows:
        return None
    used = (shares > 0) | (counts > 0)
    return psi(smoothed(shares[used] * expected_rows), smoothed(counts[used]))


def by_chance(bins: int, expected_rows: int, actual_rows: int) -> float:
    """What the index is about, of so many bins and rows, where nothing moved."""
    return max(bins - 1, 0) * (1 / max(expected_rows, 1) + 1 / max(actual_rows, 1))


def state_of(value: float | None, rows: int, act: float = ACT) -> State:
    """What a value of the index says that was measured on so many rows.

    act: from which value on to act; `WATCH`, or less where `act` is less, is the value from which
    on to watch.
    """
    if rows < LEAST_ROWS:
        return "too_few_rows"
    if value is None:
        return "not_judged"
    if value >= act:
        return "drifted"
    return "watch" if value >= min(WATCH, act) else "stable"
