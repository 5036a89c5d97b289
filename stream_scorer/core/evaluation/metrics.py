"""How good probabilities are: log loss, AUC, average precision, recall@k, ndcg@k, calibration.

Every metric is exact, ties included, and made of whole-array operations: a column is sorted once,
and each positive finds its rank in it by binary search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.result import Result

Probabilities = npt.NDArray[np.floating[Any]]

CLIP = 1e-7  # a probability of exactly 0 for what then happens would cost infinitely much
ECE_BINS = 15
TOP_K = 10  # of recall_at_10 and ndcg_at_10


@dataclass(frozen=True)
class QualityMetrics(Result):
    """The metrics of one model on the same rows; None where one is not defined.

    Less is better of log_loss and ece (expected calibration error), more of all others. "macro" is
    the mean over categories that have both outcomes, "micro" is over all (row, category) pairs.
    """

    log_loss: float | None
    macro_auc: float | None
    micro_auc: float | None
    macro_ap: float | None
    recall_at_10: float | None
    ndcg_at_10: float | None
    ece: float | None

    def by_metric(self) -> dict[str, float | None]:
        """The values by name, for tables."""
        return self.as_json()


def summary(probabilities: Probabilities, labels: Bool) -> QualityMetrics:
    """All metrics of `probabilities` (R, N) of acting, where `labels` (R, N) is who did act."""
    top = top_k(probabilities, TOP_K)  # shared by two metrics, as it costs most of both
    return QualityMetrics(
        log_loss=defined(log_loss(probabilities, labels)),
        macro_auc=defined(macro_auc(probabilities, labels)),
        micro_auc=defined(micro_auc(probabilities, labels)),
        macro_ap=defined(macro_ap(probabilities, labels)),
        recall_at_10=defined(mean(_row_recall(top, labels))),
        ndcg_at_10=defined(mean(_row_ndcg(top, labels))),
        ece=defined(ece(probabilities, labels)),
    )


def defined(value: float) -> float | None:
    """The value for a result: None for NaN, since JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def log_loss(probabilities: Probabilities, labels: Bool) -> float:
    """Mean over rows and categories of -log of the probability given to what happened."""
    return mean(row_log_loss(probabilities, labels))


def row_log_loss(probabilities: Probabilities, labels: Bool) -> Float64:
    """(R,) log loss of each row: the mean over its N categories, probabilities clipped to 1e-7."""
    given = np.where(labels, probabilities, 1 - probabilities.astype(np.float64))
    losses: Float64 = -np.log(np.clip(given, CLIP, 1 - CLIP)).mean(axis=1)
    return losses


def macro_auc(probabilities: Probabilities, labels: Bool) -> float:
    """Mean AUC over the categories that have positives and negatives."""
    return mean(category_auc(probabilities, labels))


def micro_auc(probabilities: Probabilities, labels: Bool) -> float:
    """AUC over all (row, category) pairs."""
    return _auc(probabilities.reshape(-1), labels.reshape(-1))


def macro_ap(probabilities: Probabilities, labels: Bool) -> float:
    """Mean average precision over the categories that have positives and negatives."""
    return mean(category_ap(probabilities, labels))


def category_auc(probabilities: Probabilities, labels: Bool) -> Float64:
    """(N,) the chance that a positive outranks a negative, ties counted half; NaN if one lacks."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([_auc(p, y) for p, y in pairs], np.float64)


def row_macro_auc(probabilities: Probabilities, labels: Bool) -> Float64:
    """(R,) jackknife values of each row, whose mean is the macro AUC; NaN if there is none.

    The AUC plus R times the row's influence on it, which is linear in the share of the other class
    that it is ranked against rightly (DeLong, DeLong, Clarke-Pearson 1988).
    """
    rows = len(labels)
    total, scored = np.zeros(rows), 0
    for p, y in zip(probabilities.T, labels.T, strict=True):
        wins, losses = _wins(p[y], p[~y]), _wins(-p[~y], -p[y])
        if not len(wins) or not len(losses):
            continue
        scored += 1
        auc = wins.mean()
        total += auc
        total[y] += (wins - auc) * (rows / len(wins))
        total[~y] += (losses - auc) * (rows / len(losses))
    return total / scored if scored else np.full(rows, np.nan)


def category_ap(probabilities: Probabilities, labels: Bool) -> Float64:
    """(N,) average precision, equal probabilities taken as one threshold; NaN if a class lacks."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([_average_precision(p, y) for p, y in pairs], np.float64)


def categories_scored(labels: Bool) -> int:
    """How many of the N categories have positives and negatives, and so an AUC."""
    positives = labels.sum(axis=0)
    return int(((positives > 0) & (positives < len(labels))).sum())


def recall_at_k(probabilities: Probabilities, labels: Bool, k: int) -> float:
    """Mean over rows with a positive of the share of positives among the k most probable."""
    return mean(row_recall_at_k(probabilities, labels, k))


def row_recall_at_k(probabilities: Probabilities, labels: Bool, k: int) -> Float64:
    """(R,) recall@k; NaN for rows without a positive."""
    return _row_recall(top_k(probabilities, k), labels)


def ndcg_at_k(probabilities: Probabilities, labels: Bool, k: int) -> float:
    """Mean over rows with a positive of binary ndcg@k: gain 1, discount log2(rank + 1)."""
    return mean(row_ndcg_at_k(probabilities, labels, k))


def category_recall_at_k(probabilities: Probabilities, labels: Bool, k: int) -> Float64:
    """(N,) the share of a category's positives for which it is among the row's k most probable."""
    top = top_k(probabilities, k)
    found = np.take_along_axis(labels, top, axis=1)
    hits = np.bincount(top[found], minlength=labels.shape[1])
    return _where_any(hits, labels.sum(axis=0))


def category_log_loss(probabilities: Probabilities, labels: Bool) -> Float64:
    """(N,) mean over rows, probabilities clipped to 1e-7."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([log_loss(p[:, None], y[:, None]) for p, y in pairs], np.float64)


def category_ece(probabilities: Probabilities, labels: Bool) -> Float64:
    """(N,) expected calibration error of each category."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([ece(p, y) for p, y in pairs], np.float64)


def row_ndcg_at_k(probabilities: Probabilities, labels: Bool, k: int) -> Float64:
    """(R,) ndcg@k; NaN for rows without a positive."""
    return _row_ndcg(top_k(probabilities, k), labels)


def top_k(probabilities: Probabilities, k: int) -> Int64:
    """(R, min(k, N)) columns of the most probable, best first; of equals the lower column first."""
    rows, width = probabilities.shape
    k = min(k, width)
    if not rows or not k:
        return np.zeros((rows, k), np.int64)
    # Sorting only the k chosen is much cheaper than all N. Which of equals the partition puts first
    # is not defined, so they are counted from the left until k are chosen.
    least = np.partition(probabilities, width - k, axis=1)[:, width - k : width - k + 1]
    chosen = probabilities > least
    equal = probabilities == least
    room = k - chosen.sum(axis=1, keepdims=True)
    chosen |= equal & (np.cumsum(equal, axis=1) <= room)
    columns = np.nonzero(chosen)[1].reshape(rows, k)
    values = np.take_along_axis(probabilities, columns, axis=1)
    best_first = np.argsort(-values, axis=1, kind="stable")
    found: Int64 = np.take_along_axis(columns, best_first, axis=1)
    return found


def ece(probabilities: Probabilities, labels: Bool, bins: int = ECE_BINS) -> float:
    """Expected calibration error over all (row, category) pairs, in bins of equal width.

    Sum over bins of |mean probability - share of positives| * the bin's share of pairs
    (Naeini, Cooper, Hauskrecht, AAAI 2015).
    """
    if not probabilities.size:
        return float("nan")
    curve = calibration_curve(probabilities, labels, bins)
    return float(np.abs(curve.probability - curve.positives).sum() / curve.pairs.sum())


class CalibrationCurve(NamedTuple):
    """For each of the bins: how many pairs (int64), their sum of probabilities and positives."""

    pairs: Int64
    probability: Float64
    positives: Float64


def calibration_curve(probabilities: Probabilities, labels: Bool, bins: int) -> CalibrationCurve:
    """Sums over `bins` bins of equal width of [0, 1]."""
    p, y = probabilities.reshape(-1), labels.reshape(-1)
    # A probability of exactly 1 belongs to the last bin.
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    return CalibrationCurve(
        np.bincount(index, minlength=bins).astype(np.int64),
        np.bincount(index, p.astype(np.float64), minlength=bins).astype(np.float64),
        np.bincount(index[y], minlength=bins).astype(np.float64),
    )


def _auc(p: Probabilities, y: Bool) -> float:
    wins = _wins(p[y], p[~y])
    return float(wins.mean()) if len(wins) else float("nan")


def _wins(ours: Probabilities, theirs: Probabilities) -> Float64:
    """Of each of ours the share of theirs below it, ties half; empty where there are none."""
    if not len(theirs):
        return np.zeros(0)
    ordered = np.sort(theirs)
    below = np.searchsorted(ordered, ours, "left").astype(np.float64)
    return (below + np.searchsorted(ordered, ours, "right")) / (2 * len(theirs))


def _average_precision(p: Probabilities, y: Bool) -> float:
    positives, everything = np.sort(p[y]), np.sort(p)
    if not len(positives) or len(positives) == len(p):
        return float("nan")
    true = len(positives) - np.searchsorted(positives, positives, "left")
    flagged = len(p) - np.searchsorted(everything, positives, "left")
    return float((true / flagged).mean())


def _row_recall(top: Int64, labels: Bool) -> Float64:
    found = np.take_along_axis(labels, top, axis=1).sum(axis=1)
    return _where_any(found, labels.sum(axis=1))


def _row_ndcg(top: Int64, labels: Bool) -> Float64:
    discount = 1 / np.log2(np.arange(2, top.shape[1] + 2))
    gain = np.take_along_axis(labels, top, axis=1) @ discount
    best = np.concatenate([[0.0], np.cumsum(discount)])
    return _where_any(gain, best[np.minimum(labels.sum(axis=1), top.shape[1])])


def _where_any(part: Float64 | Int64, whole: Int64) -> Float64:
    shares: Float64 = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def mean(values: Float64) -> float:
    """Mean of the values that are defined, which are not NaN; NaN where none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
