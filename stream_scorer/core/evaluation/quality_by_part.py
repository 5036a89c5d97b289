"""How good a model's scores of held-out rows are: of all, and by part of the rows or categories.

Parts are the kinds of moments, how much of a customer is known, and how often a category was acted
on in training. Each estimate has a 95 % interval of a bootstrap over customers; the macro AUC is
linearised (`metrics.row_macro_auc`). Arrays of all pairs of row and category are looked at a piece
at a time, since float64 copies of them would take eight times their memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.backtest_metrics import CalibrationPoint
from stream_scorer.core.evaluation.intervals import Interval, bootstrap_ratios
from stream_scorer.core.evaluation.log_odds_bins import log_odds_bins
from stream_scorer.core.evaluation.metrics import defined
from stream_scorer.core.events.batch import Bool, Float64, Int64, UInt8
from stream_scorer.core.features.state import Float32
from stream_scorer.core.labels.sampled_moments import KINDS
from stream_scorer.result import Result

PIECE_PAIRS = 1_000_000
SIZES = (0, 20, 100, 1000)  # training rows that acted on a category
HISTORY_PARTS = 4  # of about as many rows each
ALL = "all"
# Of the calibration curve: each half a unit of log odds, a factor of 1.6 of small probabilities.
CALIBRATION_BINS = 48


@dataclass(frozen=True)
class Estimate(Result):
    """A value with its 95 % interval; all None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: Interval) -> Estimate:
        """An interval as a part of a result."""
        return cls(*map(defined, found))


@dataclass(frozen=True)
class PartQuality(Result):
    """How good the scores of one part are, against the prior.

    part: its name. least, most: the bounds of what it is a part by, None where it has none. rows,
    customers, categories: in it. positives: pairs of row and category that acted.
    predicted_over_seen: the sum of the probabilities over `positives`. recall_at_10: of the
    part's positives, those whose category is among the row's ten most probable of all. All but the
    first seven count rows by their weights.
    """

    part: str
    least: int | None
    most: int | None
    rows: int
    customers: int
    categories: int
    positives: int
    log_loss: Estimate
    prior_log_loss: float | None
    log_loss_minus_prior: Estimate
    macro_auc: Estimate
    recall_at_10: Estimate
    prior_recall_at_10: float | None
    predicted_over_seen: Estimate
    ece: float | None


@dataclass(frozen=True)
class Quality(Result):
    """How good a model is on held-out rows.

    rows: of the snapshots. overall: of those that were measured. by_moment: by kind of moment,
    empty where the kinds are not known. by_history: by how many columns of the row have a value.
    by_category_size: by how many training rows acted on the category. calibration: by "all" or kind
    of moment, pairs of like probability: its mean, and the share that acted.
    """

    rows: int
    overall: PartQuality
    by_moment: tuple[PartQuality, ...]
    by_history: tuple[PartQuality, ...]
    by_category_size: tuple[PartQuality, ...]
    calibration: Mapping[str, tuple[CalibrationPoint, ...]]


class MeasuredRows(NamedTuple):
    """R held-out rows with their outcome.

    p (R, N) float32 probability of acting at all; acted (R, N): whether they did; customer (R,)
    int64: whose row it is; weight (R,): how many rows each stands for; kinds (R,) uint8 into
    `sampled_moments.KINDS`, None where not known; history (R,): columns with a value.
    """

    p: Float32
    acted: Bool
    customer: Int64
    weight: Float32
    kinds: UInt8 | None
    history: Int64


class _ByRow(NamedTuple):
    """Values of each row (R,) over the categories of a part; recall is NaN without a positive."""

    log_loss: Float64
    prior_log_loss: Float64
    recall: Float64
    prior_recall: Float64
    predicted: Float64
    seen: Float64

    def only(self, rows: Int64) -> _ByRow:
        return _ByRow(*(values[rows] for values in self))


def quality_of(measured: MeasuredRows, prior: Float64, positives: Int64, rows: int) -> Quality:
    """All parts of these rows, of which there is at least one.

    prior (N,): the share of training rows that acted; positives (N,): how many did; rows: how many
    there were to choose the measured ones from.
    """
    return _Judge(measured, prior.astype(np.float32)).quality(positives, rows)


class _Judge:
    def __init__(self, measured: MeasuredRows, prior: Float32) -> None:
        self._of, self._prior = measured, prior
        # What is among the ten most probable of all categories is so in every part of them.
        self._hits = np.zeros(measured.p.shape, np.bool_)
        for piece in _pieces(measured.p.shape):
            top = metrics.top_k(measured.p[piece], metrics.TOP_K)
            np.put_along_axis(self._hits[piece], top, True, axis=1)
        self._hits &= measured.acted
        self._prior_top = np.zeros(len(prior), np.bool_)
        self._prior_top[metrics.top_k(prior[None], metrics.TOP_K)[0]] = True
        self._every = np.arange(len(prior))
        self._by_row = self._rows(self._every)

    def quality(self, positives: Int64, rows: int) -> Quality:
        of, every_row = self._of, np.arange(len(self._of.p))
        kinds = [] if of.kinds is None else [
            (k, kind) for k, kind in enumerate(KINDS) if (of.kinds == k).any()
        ]  # fmt: skip
        rows_of = {kind: np.flatnonzero(of.kinds == k) for k, kind in kinds}
        return Quality(
            rows,
            self._part(ALL, every_row),
            tuple(self._part(kind, of_kind) for kind, of_kind in rows_of.items()),
            tuple(
                self._part(f"{least:,} to {most:,}", of_part, (least, most))
                for least, most, of_part in _quantiles(of.history)
            ),
            tuple(
                self._of_categories(least, most, columns)
                for least, most, columns in _sizes(positives)
            ),
            {
                name: _calibration(of.p[chosen], of.acted[chosen], of.weight[chosen])
                for name, chosen in {ALL: every_row, **rows_of}.items()
            },
        )

    def _part(
        self, name: str, rows: Int64, bounds: tuple[int | None, int | None] = (None, None)
    ) -> PartQuality:
        of = self._of
        # Without a copy where the part is the whole.
        whole = len(rows) == len(of.p)
        p, acted = (of.p, of.acted) if whole else (of.p[rows], of.acted[rows])
        return _quality_of_part(
            name, bounds, p, acted, of.customer[rows], of.weight[rows], self._by_row.only(rows)
        )

    def _of_categories(self, least: int, most: int | None, columns: Int64) -> PartQuality:
        of = self._of
        name = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
        return _quality_of_part(
            name, (least, most), of.p[:, columns], of.acted[:, columns], of.customer, of.weight,
            self._rows(columns),
        )  # fmt: skip

    def _rows(self, columns: Int64) -> _ByRow:
        """Of the categories `columns` (k,)."""
        of, prior = self._of, self._prior[columns]
        found = []
        for piece in _pieces((len(of.p), len(columns))):
            # Without a copy where the part is the whole.
            everything = len(columns) == of.p.shape[1]
            p = of.p[piece] if everything else of.p[piece][:, columns]
            acted = of.acted[piece] if everything else of.acted[piece][:, columns]
            seen = acted.sum(axis=1)
            found.append(
                (
                    metrics.row_log_loss(p, acted),
                    metrics.row_log_loss(np.broadcast_to(prior, p.shape), acted),
                    _share(self._hits[piece][:, columns].sum(axis=1), seen),
                    _share((acted & self._prior_top[columns]).sum(axis=1), seen),
                    p.sum(axis=1, dtype=np.float64),
                    seen.astype(np.float64),
                )
            )
        return _ByRow(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _quality_of_part(
    name: str, bounds: tuple[int | None, int | None], p: Float32, acted: Bool, customer: Int64,
    weight: Float32, by_row: _ByRow,
) -> PartQuality:  # fmt: skip
    w = weight.astype(np.float64)
    auc = metrics.row_macro_auc(p, acted, weight)
    ranked = not np.isnan(auc).any()  # where no category has both outcomes, all are NaN
    acting = ~np.isnan(by_row.recall)
    # Numerator and denominator of each ratio.
    ratios = [
        (w * by_row.log_loss, w),
        (w * (by_row.log_loss - by_row.prior_log_loss), w),
        (w * auc, w) if ranked else (0 * w, 0 * w),
        (w * np.where(acting, by_row.recall, 0), w * acting),
        (w * by_row.predicted, w * by_row.seen),
    ]
    over, under = (np.stack(columns, axis=1) for columns in zip(*ratios, strict=True))
    log_loss, minus_prior, macro_auc, recall, ratio = bootstrap_ratios(over, under, customer)
    return PartQuality(
        name, *bounds,
        rows=len(p),
        customers=len(np.unique(customer)),
        categories=p.shape[1],
        positives=int(by_row.seen.sum()),
        log_loss=Estimate.of(log_loss),
        prior_log_loss=_mean(by_row.prior_log_loss, w),
        log_loss_minus_prior=Estimate.of(minus_prior),
        # What is linearised may reach beyond what an AUC can be.
        macro_auc=Estimate.of(Interval(*(min(max(value, 0.0), 1.0) for value in macro_auc)))
        if ranked else Estimate.of(macro_auc),
        recall_at_10=Estimate.of(recall),
        prior_recall_at_10=_mean(by_row.prior_recall, w),
        predicted_over_seen=Estimate.of(ratio),
        ece=defined(_curve(p, acted, weight).ece),
    )  # fmt: skip


def _mean(values: Float64, weight: Float64) -> float | None:
    """By weight, of the values that are defined; None where those weigh nothing."""
    kept = ~np.isnan(values)
    total = weight[kept].sum()
    return float(values[kept] @ weight[kept] / total) if total else None


def _share(part: Int64, whole: Int64) -> Float64:
    shares: Float64 = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def _pieces(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of so few pairs that a copy of them in float64 is small."""
    step = max(1, PIECE_PAIRS // max(shape[1], 1))
    yield from (slice(first, first + step) for first in range(0, shape[0], step))


def _curve(p: Float32, acted: Bool, weight: Float32) -> metrics.CalibrationCurve:
    """In bins of equal width, as `metrics.ece` takes them."""
    parts = [
        metrics.calibration_curve(p[piece], acted[piece], metrics.ECE_BINS, weight[piece])
        for piece in _pieces(p.shape)
    ]
    return metrics.CalibrationCurve(
        *(np.sum(column, axis=0) for column in zip(*parts, strict=True))
    )


def _calibration(p: Float32, acted: Bool, weight: Float32) -> tuple[CalibrationPoint, ...]:
    """One point for each bin of log odds that has pairs."""
    found = log_odds_bins(p, acted, CALIBRATION_BINS, weight)
    return tuple(
        CalibrationPoint(int(n), float(given / of), float(acting / of))
        for n, of, given, acting in zip(*found, strict=True)
        if of
    )


def _quantiles(history: Int64) -> Iterator[tuple[int, int, Int64]]:
    """Least, most and rows of `HISTORY_PARTS` parts, fewer where many rows are alike."""
    edges = np.quantile(history, np.arange(1, HISTORY_PARTS) / HISTORY_PARTS, method="lower")
    part = np.searchsorted(np.unique(edges), history, "left")
    for number in np.unique(part).tolist():
        rows = np.flatnonzero(part == number)
        yield int(history[rows].min()), int(history[rows].max()), rows


def _sizes(positives: Int64) -> Iterator[tuple[int, int | None, Int64]]:
    """Least, most (None: no bound) and columns of each size that has categories."""
    for least, below in zip(SIZES, [*SIZES[1:], None], strict=True):
        inside = positives >= least
        if below is not None:
            inside &= positives < below
        if inside.any():
            yield least, None if below is None else below - 1, np.flatnonzero(inside)
