"""How good probabilities are: log loss, AUC, average precision, recall@k, ndcg@k, calibration.

Every metric is exact, ties included, and made of whole-array operations: a column is sorted once,
and each positive finds its rank in it by binary search. Rows may have weights: a row of weight 2
counts as two such rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.jit import kernel
from stream_scorer.result import Result

Probabilities = npt.NDArray[np.floating[Any]]
Weights = npt.NDArray[np.floating[Any]]  # (R,) of each row, or None: all weigh 1

CLIP = 1e-7  # a probability of exactly 0 for what then happens would cost infinitely much
ECE_BINS = 15
CATEGORIES_TOGETHER = 64  # that are ranked at a time
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


def summary(
    probabilities: Probabilities, labels: Bool, weight: Weights | None = None
) -> QualityMetrics:
    """All metrics of `probabilities` (R, N) of acting, where `labels` (R, N) is who did act.

    weight (R,): how many rows each stands for; None: 1.
    """
    top = top_k(probabilities, TOP_K)  # shared by two metrics, as it costs most of both
    return QualityMetrics(
        log_loss=defined(log_loss(probabilities, labels, weight)),
        macro_auc=defined(macro_auc(probabilities, labels, weight)),
        micro_auc=defined(micro_auc(probabilities, labels, weight)),
        macro_ap=defined(macro_ap(probabilities, labels, weight)),
        recall_at_10=defined(mean(_row_recall(top, labels), weight)),
        ndcg_at_10=defined(mean(_row_ndcg(top, labels), weight)),
        ece=defined(ece(probabilities, labels, weight=weight)),
    )


def defined(value: float) -> float | None:
    """The value for a result: None for NaN, since JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def log_loss(probabilities: Probabilities, labels: Bool, weight: Weights | None = None) -> float:
    """Mean over rows and categories of -log of the probability given to what happened."""
    return mean(row_log_loss(probabilities, labels), weight)


def row_log_loss(probabilities: Probabilities, labels: Bool) -> Float64:
    """(R,) log loss of each row: the mean over its N categories, probabilities clipped to 1e-7."""
    given = np.where(labels, probabilities, 1 - probabilities.astype(np.float64))
    losses: Float64 = -np.log(np.clip(given, CLIP, 1 - CLIP)).mean(axis=1)
    return losses


def macro_auc(probabilities: Probabilities, labels: Bool, weight: Weights | None = None) -> float:
    """Mean AUC over the categories that have positives and negatives."""
    return mean(category_auc(probabilities, labels, weight))


def micro_auc(probabilities: Probabilities, labels: Bool, weight: Weights | None = None) -> float:
    """AUC over all (row, category) pairs."""
    return _auc(probabilities.reshape(-1), labels.reshape(-1), _of_pairs(weight, labels))


def row_micro_auc(probabilities: Probabilities, labels: Bool) -> Float64:
    """(R,) jackknife values of each row, whose mean is the micro AUC; NaN if there is none.

    As of `row_macro_auc`, over all pairs of row and category: what the row's own pairs add, so that
    rows, or customers, can be resampled whole (Obuchowski, "Nonparametric Analysis of Clustered ROC
    Curve Data", Biometrics 1997).
    """
    p, rows = probabilities.reshape(-1), len(labels)
    order = np.argsort(p)
    ordered, acted = p[order], labels.reshape(-1)[order]
    positives = int(acted.sum())
    negatives = len(p) - positives
    if not positives or not negatives:
        return np.full(rows, np.nan)
    # Equal probabilities are one rank, from its first to its last: each wins half in it.
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    pairs = np.diff(np.append(first, len(p)))
    acted_of, below = np.add.reduceat(acted, first, dtype=np.int64), np.cumsum(acted)
    acted_below = below[first] - acted[first]
    won = (first - acted_below + (pairs - acted_of) / 2) / negatives
    lost = 1 - (acted_below + acted_of / 2) / positives
    auc = float(acted_of @ won) / positives
    influence = np.empty(len(p))
    influence[order] = np.where(
        acted, np.repeat((won - auc) / positives, pairs), np.repeat((lost - auc) / negatives, pairs)
    )
    values: Float64 = auc + rows * influence.reshape(labels.shape).sum(axis=1)
    return values


def macro_ap(probabilities: Probabilities, labels: Bool, weight: Weights | None = None) -> float:
    """Mean average precision over the categories that have positives and negatives."""
    return mean(category_ap(probabilities, labels, weight))


def category_auc(
    probabilities: Probabilities, labels: Bool, weight: Weights | None = None
) -> Float64:
    """(N,) the chance that a positive outranks a negative, ties counted half; NaN if one lacks."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([_auc(p, y, weight) for p, y in pairs], np.float64)


def row_macro_auc(
    probabilities: Probabilities, labels: Bool, weight: Weights | None = None
) -> Float64:
    """(R,) jackknife values of each row, whose mean is the macro AUC; NaN if there is none.

    The AUC plus R times the row's influence on it, which is linear in the share of the other class
    that it is ranked against rightly (DeLong, DeLong, Clarke-Pearson 1988). With weights it is
    their mean by weight.
    """
    w = np.ones(len(labels)) if weight is None else weight.astype(np.float64)
    total, scored = np.zeros(len(labels)), 0
    for first in range(0, labels.shape[1], CATEGORIES_TOGETHER):
        some = slice(first, first + CATEGORIES_TOGETHER)
        p, y = (np.ascontiguousarray(a[:, some].T) for a in (probabilities, labels))
        scored += _add_row_auc(p, y, np.argsort(p, axis=1), w, total)
    return total / scored if scored else np.full(len(labels), np.nan)


@kernel
def _add_row_auc(
    p: Probabilities, labels: Bool, order: Int64, weight: Float64, total: Float64
) -> int:
    """Add to total (R,) the values of each category that has both outcomes; how many have.

    p, labels (K, R) of K categories; order (K, R) sorts each.
    """
    rows, scored = p.shape[1], 0
    everything = weight.sum()
    ranked = np.empty(rows)  # the share of the other class that each row is ranked against rightly
    for k in range(len(p)):
        of_class = np.zeros(2)
        for row in range(rows):
            of_class[int(labels[k, row])] += weight[row]
        if not of_class[0] or not of_class[1]:
            continue
        below, first, auc = np.zeros(2), 0, 0.0
        while first < rows:
            # Equal probabilities are one rank: each wins half against the other class's.
            last, equal = first, np.zeros(2)
            while last < rows and p[k, order[k, last]] == p[k, order[k, first]]:
                row = order[k, last]
                equal[int(labels[k, row])] += weight[row]
                last += 1
            won = (below[0] + equal[0] / 2) / of_class[0]
            lost = (of_class[1] - below[1] - equal[1] / 2) / of_class[1]
            for at in range(first, last):
                row = order[k, at]
                ranked[row] = won if labels[k, row] else lost
            auc += won * equal[1]
            below += equal
            first = last
        auc /= of_class[1]
        for row in range(rows):
            influence = everything / of_class[int(labels[k, row])]
            total[row] += auc + (ranked[row] - auc) * influence
        scored += 1
    return scored


def category_ap(
    probabilities: Probabilities, labels: Bool, weight: Weights | None = None
) -> Float64:
    """(N,) average precision, equal probabilities taken as one threshold; NaN if a class lacks."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([_average_precision(p, y, weight) for p, y in pairs], np.float64)


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


def category_recall_at_k(
    probabilities: Probabilities, labels: Bool, k: int, weight: Weights | None = None
) -> Float64:
    """(N,) the share of a category's positives for which it is among the row's k most probable."""
    top = top_k(probabilities, k)
    found = np.take_along_axis(labels, top, axis=1)
    if weight is None:
        hits = np.bincount(top[found], minlength=labels.shape[1])
        return _where_any(hits, labels.sum(axis=0))
    of_hit = np.repeat(weight.astype(np.float64), found.sum(axis=1))
    hits = np.bincount(top[found], of_hit, minlength=labels.shape[1])
    return _where_any(hits, weight.astype(np.float64) @ labels)


def category_log_loss(
    probabilities: Probabilities, labels: Bool, weight: Weights | None = None
) -> Float64:
    """(N,) mean over rows, probabilities clipped to 1e-7."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([log_loss(p[:, None], y[:, None], weight) for p, y in pairs], np.float64)


def category_ece(
    probabilities: Probabilities, labels: Bool, weight: Weights | None = None
) -> Float64:
    """(N,) expected calibration error of each category."""
    pairs = zip(probabilities.T, labels.T, strict=True)
    return np.array([ece(p, y, weight=weight) for p, y in pairs], np.float64)


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


def ece(
    probabilities: Probabilities, labels: Bool, bins: int = ECE_BINS,
    *, weight: Weights | None = None,
) -> float:  # fmt: skip
    """Expected calibration error over all (row, category) pairs, in bins of equal width.

    Sum over bins of |mean probability - share of positives| * the bin's share of pairs
    (Naeini, Cooper, Hauskrecht, AAAI 2015).
    """
    return calibration_curve(probabilities, labels, bins, weight).ece


class CalibrationCurve(NamedTuple):
    """For each of the bins: how many pairs, by their weights, the sum of their probabilities, and
    positives."""

    pairs: Float64
    probability: Float64
    positives: Float64

    @property
    def ece(self) -> float:
        """The expected calibration error, see `ece`; NaN where pairs weigh nothing."""
        total = self.pairs.sum()
        gaps = np.abs(self.probability - self.positives).sum()
        return float(gaps / total) if total else float("nan")

    def ece_by_chance(self) -> float:
        """What the error is on average where every probability is right, of pairs that weigh 1 and
        are independent: the mean of the absolute value of a normal gap in each bin, as if all its
        pairs had the bin's mean probability. NaN where there is no pair."""
        total, pairs = self.pairs.sum(), np.maximum(self.pairs, 1)
        spread = np.sqrt(self.probability * (1 - np.minimum(self.probability / pairs, 1)))
        return float(math.sqrt(2 / math.pi) * spread.sum() / total) if total else float("nan")


def calibration_curve(
    probabilities: Probabilities, labels: Bool, bins: int, weight: Weights | None = None
) -> CalibrationCurve:
    """Sums over `bins` bins of equal width of [0, 1]."""
    p, y = probabilities.reshape(-1), labels.reshape(-1)
    # A probability of exactly 1 belongs to the last bin.
    index = np.minimum((p * bins).astype(np.int64), bins - 1)
    w = _of_pairs(weight, labels)
    values = p.astype(np.float64)
    return CalibrationCurve(
        np.bincount(index, w, minlength=bins).astype(np.float64),
        np.bincount(index, values if w is None else values * w, minlength=bins).astype(np.float64),
        np.bincount(index[y], None if w is None else w[y], minlength=bins).astype(np.float64),
    )


def _of_pairs(weight: Weights | None, labels: Bool) -> Float64 | None:
    """(R * N,) the weight of each (row, category) pair, of labels (R, N) or (R,)."""
    if weight is None:
        return None
    return np.repeat(weight.astype(np.float64), labels.size // max(len(labels), 1))


def _auc(p: Probabilities, y: Bool, weight: Weights | None = None) -> float:
    if weight is None:
        wins = _wins(p[y], p[~y])
        return float(wins.mean()) if len(wins) else float("nan")
    return mean(_wins(p[y], p[~y], weight[~y]), weight[y])


def _wins(ours: Probabilities, theirs: Probabilities, weight: Weights | None = None) -> Float64:
    """Of each of ours the share of theirs below it, ties half; empty where there are none.

    weight: of theirs.
    """
    if not len(theirs):
        return np.zeros(0)
    if weight is None:
        ordered = np.sort(theirs)
        below = np.searchsorted(ordered, ours, "left").astype(np.float64)
        return (below + np.searchsorted(ordered, ours, "right")) / (2 * len(theirs))
    order = np.argsort(theirs)
    ordered, summed = theirs[order], _summed(weight[order])
    below = summed[np.searchsorted(ordered, ours, "left")]
    shares: Float64 = (below + summed[np.searchsorted(ordered, ours, "right")]) / (2 * summed[-1])
    return shares


def _summed(weight: Weights) -> Float64:
    """(n + 1,) the sum of the first 0 to n."""
    return np.concatenate([[0.0], np.cumsum(weight, dtype=np.float64)])


def _average_precision(p: Probabilities, y: Bool, weight: Weights | None = None) -> float:
    if not y.any() or y.all():
        return float("nan")
    if weight is None:
        positives, everything = np.sort(p[y]), np.sort(p)
        true = len(positives) - np.searchsorted(positives, positives, "left")
        flagged = len(p) - np.searchsorted(everything, positives, "left")
        return float((true / flagged).mean())
    order = np.argsort(p)
    everything, acted, w = p[order], y[order], weight[order].astype(np.float64)
    at = np.searchsorted(everything, everything[acted], "left")
    of_positives, of_all = _summed(w * acted), _summed(w)
    precision = (of_positives[-1] - of_positives[at]) / (of_all[-1] - of_all[at])
    return mean(precision, w[acted])


def _row_recall(top: Int64, labels: Bool) -> Float64:
    found = np.take_along_axis(labels, top, axis=1).sum(axis=1)
    return _where_any(found, labels.sum(axis=1))


def _row_ndcg(top: Int64, labels: Bool) -> Float64:
    discount = 1 / np.log2(np.arange(2, top.shape[1] + 2))
    gain = np.take_along_axis(labels, top, axis=1) @ discount
    best = np.concatenate([[0.0], np.cumsum(discount)])
    return _where_any(gain, best[np.minimum(labels.sum(axis=1), top.shape[1])])


def _where_any(part: Float64 | Int64, whole: Float64 | Int64) -> Float64:
    shares: Float64 = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def mean(values: Float64, weight: Weights | None = None) -> float:
    """Mean of the values that are defined, which are not NaN; NaN where none is."""
    kept = ~np.isnan(values)
    defined = values[kept]
    if not len(defined):
        return float("nan")
    if weight is None:
        return float(defined.mean())
    of = weight[kept].astype(np.float64)
    return float(of @ defined / of.sum())
