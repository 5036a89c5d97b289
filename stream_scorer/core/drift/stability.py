"""How far a distribution has moved: the population stability index, and what its values mean.

With expected shares e and actual shares a of the same bins, PSI = sum (a - e) * ln(a / e). It is
the symmetric divergence of Jeffreys (Kullback and Leibler, "On Information and Sufficiency", 1951),
never negative, and 0 where nothing moved. Below 0.1 is read as stable, from 0.25 on as a shift that
calls for action (Siddiqi, "Credit Risk Scorecards", 2006, chapter 8).

A sample moves by chance alone: of B bins, n expected and m actual rows, PSI over (1 / n + 1 / m)
is about chi-square distributed with B - 1 degrees of freedom where nothing moved at all, so that it
is (B - 1) * (1 / n + 1 / m) on average (Yurdakul, "Statistical Properties of Population Stability
Index", dissertation, Western Michigan University, 2018; Yurdakul and Naranjo, Journal of Risk Model
Validation, 2020). So nothing is judged on fewer than `LEAST_ROWS` rows, and no index that chance
alone reaches once in a thousand times.

Rows of one customer are alike, and so are entries of one row. Where n and m count customers instead
of rows, as if a customer's rows were all the same, chance is overestimated and never
underestimated.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from stream_scorer.core.events.batch import Float64, Int64

WATCH, ACT = 0.1, 0.25
LEAST_ROWS = 1_000
# Of each bin, added to its count, so that a bin without rows does not make the index infinite.
HALF_ROW = 0.5
# Hundreds of features and categories are looked at, so that one in 20 would always be beyond it.
BY_CHANCE = 0.001

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


class Chance(NamedTuple):
    """What the index is where nothing moved: about `expected` on average, and at least `limit` in
    one of a thousand cases."""

    expected: float
    limit: float


NO_CHANCE = Chance(0.0, 0.0)


def by_chance(bins: int, expected_rows: int, actual_rows: int) -> Chance:
    """What chance alone makes of the index, of so many bins and independent rows."""
    freedom = max(bins - 1, 0)
    each = 1 / max(expected_rows, 1) + 1 / max(actual_rows, 1)
    if not freedom:
        return NO_CHANCE
    return Chance(freedom * each, float(chdtri(freedom, BY_CHANCE)) * each)


def used_bins(shares: Float64, counts: Int64) -> int:
    """How many bins `psi_of_counts` compares."""
    return int(((shares > 0) | (counts > 0)).sum())


def state_of(value: float | None, rows: int, act: float = ACT, chance: Chance = NO_CHANCE) -> State:
    """What a value of the index says that was measured on so many rows.

    act: from which value on to act; `WATCH`, or less where `act` is less, is the value from which
    on to watch. A value that is not beyond chance says nothing, however large it is.
    """
    if rows < LEAST_ROWS:
        return "too_few_rows"
    if value is None:
        return "not_judged"
    if value < min(WATCH, act):
        return "stable"
    if value <= chance.limit:
        return "too_few_rows"
    return "drifted" if value >= act else "watch"


_BY_WEIGHT: tuple[State, ...] = ("not_judged", "too_few_rows", "stable", "watch", "drifted")


class Judged(NamedTuple):
    """An index, None where it is not defined, what chance makes of it, and its state."""

    psi: float | None
    chance: Chance
    state: State

    @classmethod
    def of(
        cls, shares: Float64, counts: Int64, expected_rows: int, independent: tuple[int, int],
        rows: int, act: float,
    ) -> Judged:  # fmt: skip
        """Of actual counts (B,) against shares (B,) of so many expected rows.

        independent: how many of the expected and of the actual rows are taken to be independent of
        each other; rows: the actual ones, as of `state_of`, and act as there.
        """
        value = psi_of_counts(shares, expected_rows, counts)
        chance = by_chance(used_bins(shares, counts), *independent)
        return cls(value, chance, state_of(value, rows, act, chance))

    @property
    def rank(self) -> tuple[int, float]:
        """Greater for what weighs more: a judged index before one that says nothing, the larger
        before the smaller."""
        return _BY_WEIGHT.index(self.state), self.psi or 0.0
