"""What our model is compared with: simpler models, fitted to the same rows.

prior: each category's share of training rows. own logistic: one logistic regression for each
category on that category's own columns. linear: one layer from all columns to all categories with
an L2 penalty, which validation chooses. pooled pairs: LightGBM over (row, category) pairs, where it
is installed (the extra `quality`). All but the prior and the logistic, which are measured as they
are in `evaluate`, get our calibration on the validation rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logit

from stream_scorer.core.evaluation import logistic_baseline
from stream_scorer.core.evaluation.intervals import CustomerNumbers
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import LabelledRows, dense_labels
from stream_scorer.core.trend import TrendTable
from stream_scorer.model import calibration
from stream_scorer.model.column_statistics import ColumnStatistics
from stream_scorer.model.spec import Layout

LINEAR_ROWS = 20_000
LINEAR_STEPS = 30
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1_000.0)  # of a square, against losses summed over rows
POOLED_PAIRS = 3_000_000
POOLED_ROUNDS = 1_000
POOLED = {
    "objective": "binary", "learning_rate": 0.1, "num_leaves": 63, "min_data_in_leaf": 200,
    "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0,
    "verbosity": -1, "cat_smooth": 50, "min_data_per_group": 200,
}  # fmt: skip
LEAST, MOST = 1e-7, 1 - 1e-7
Rival = Callable[[LabelledRows], np.ndarray]  # (R, N) float32 probabilities of acting


@dataclass(frozen=True)
class Fitting:
    """Rows that rivals are fitted to. acted: a label of class `least_class` or above. trend: the
    shop's, for these and all later rows, where the layout has contrasts."""

    train: LabelledRows
    validation: LabelledRows
    space: FeatureSpace
    layout: Layout
    least_class: int = 1
    trend: TrendTable | None = None

    @property
    def index(self) -> np.ndarray:
        """(N,) the categories, as indices into the vocabulary."""
        return np.array(self.layout.category_index, np.int64)

    def acted(self, rows: LabelledRows) -> np.ndarray:
        """(R, N) bool."""
        return dense_labels(rows, self.index) >= self.least_class

    def share(self) -> np.ndarray:
        """(N,) the share of training rows that acted, smoothed by half a row."""
        return (self.acted(self.train).sum(axis=0) + 0.5) / (len(self.train) + 1)


def baselines(fitting: Fitting) -> dict[str, Rival]:
    """Those of `evaluate`, by name."""
    found: dict[str, Rival] = {"prior": prior(fitting)}
    if fitting.layout.own:
        found["own logistic"] = own_logistic(fitting)
    return found


def fitted(fitting: Fitting, say: Callable[[str], None]) -> dict[str, Rival]:
    """All that can be fitted here, by name."""
    found = baselines(fitting)
    say("fitting linear")
    found["linear"] = calibrated(linear(fitting), fitting)
    if find_spec("lightgbm") is not None:
        say("fitting pooled pairs")
        found["pooled LightGBM"] = calibrated(pooled_pairs(fitting), fitting)
    return found


def prior(fitting: Fitting) -> Rival:
    share = fitting.share().astype(np.float32)
    return lambda rows: np.broadcast_to(share, (len(rows), len(share)))


def own_logistic(fitting: Fitting) -> Rival:
    rows = labelled_from(fitting.train, fitting.least_class)
    weights = logistic_baseline.fit([rows], fitting.layout)
    return lambda other: logistic_baseline.probabilities(weights, other, fitting.layout)


def labelled_from(rows: LabelledRows, least_class: int) -> LabelledRows:
    """The same rows with labels of these classes alone, as class 1."""
    kept = rows.label_class >= least_class
    indptr = np.concatenate([[0], np.cumsum(kept)])[rows.label_indptr]
    return replace(
        rows,
        label_indptr=indptr.astype(np.int64),
        label_category=rows.label_category[kept],
        label_class=np.ones(int(kept.sum()), np.uint8),
    )


def calibrated(rival: Rival, fitting: Fitting) -> Rival:
    """With scale and shift of its logits, chosen on validation as for our model."""
    owner = np.array(CustomerNumbers().of(fitting.validation.customer_ids), np.int64)
    found = calibration.choose(
        logits_of(rival(fitting.validation)),
        fitting.acted(fitting.validation).astype(np.uint8),
        owner,
    )

    def probabilities(rows: LabelledRows) -> np.ndarray:
        z = calibration.calibrated_logits(found, logits_of(rival(rows)))
        return expit(z[:, :, 0])

    return probabilities


def logits_of(p: np.ndarray) -> np.ndarray:
    """(R, N, 1) float32."""
    return logit(np.clip(p.astype(np.float64), LEAST, MOST)).astype(np.float32)[:, :, None]


def linear(fitting: Fitting) -> Rival:
    """Logits x W + b for all categories, with the penalty that is best on validation."""
    some = evenly(fitting.train, LINEAR_ROWS)
    scale = ColumnStatistics.of([some], fitting.space, fitting.layout).column_scale
    scale[list(fitting.layout.trend)] = 0  # a day's number says nothing of the days to come
    x, y = scaled(some.matrix, scale), fitting.acted(some).astype(np.float32)
    later = scaled(fitting.validation.matrix, scale)
    truth = fitting.acted(fitting.validation)
    start = np.zeros((x.shape[1] + 1, y.shape[1]), np.float32)
    start[-1] = logit(fitting.share())
    best, best_loss, weights = start, np.inf, start
    for penalty in sorted(PENALTIES, reverse=True):  # each from the one before: they lie close
        weights = least_penalised(x, y, penalty, weights)
        loss = float(binary_loss(later @ weights[:-1] + weights[-1], truth).mean())
        if loss >= best_loss:
            break
        best, best_loss = weights, loss
    return lambda rows: expit(scaled(rows.matrix, scale) @ best[:-1] + best[-1])


def evenly(rows: LabelledRows, most: int) -> LabelledRows:
    """At most so many of the rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, most).astype(np.int64))


def scaled(matrix: sparse.csr_matrix, scale: np.ndarray) -> sparse.csr_matrix:
    return sparse.csr_matrix(
        (matrix.data * scale[matrix.indices], matrix.indices, matrix.indptr), matrix.shape
    )


def binary_loss(logits: np.ndarray, acted: np.ndarray) -> np.ndarray:
    """(R, N) -log of the probability of what happened."""
    return np.logaddexp(0, logits) - acted * logits


def least_penalised(
    x: sparse.csr_matrix, y: np.ndarray, penalty: float, start: np.ndarray
) -> np.ndarray:
    """(F + 1, N) weights of least loss summed over rows and categories plus penalty / 2 times
    their squares; the last row is the intercept, which is free."""
    turned = x.T.tocsr()  # a product by rows of a CSR matrix is several times as fast as by columns

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape).astype(np.float32)
        logits = x @ weights[:-1] + weights[-1]
        error = expit(logits) - y
        gradient = np.empty(start.shape)
        gradient[:-1] = turned @ error + penalty * weights[:-1]
        gradient[-1] = error.sum(axis=0)
        squares = float((weights[:-1].astype(np.float64) ** 2).sum())
        total = float(binary_loss(logits, y).sum(dtype=np.float64)) + penalty / 2 * squares
        return total, gradient.reshape(-1)

    options = {"maxiter": LINEAR_STEPS, "maxcor": 5}
    found = minimize(loss, start.reshape(-1), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x, np.float32).reshape(start.shape)


def pooled_pairs(fitting: Fitting) -> Rival:
    """LightGBM over a sample of the pairs, stopped by validation."""
    import lightgbm  # noqa: PLC0415 - of an extra

    base = logit(fitting.share()).astype(np.float32)
    category = [pair_width(fitting.layout) - 1]

    def dataset(rows: LabelledRows, of: Any = None) -> Any:
        found = [pairs_of(part, fitting.layout, base, fitting.trend) for part in parts(rows)]
        y = fitting.acted(rows).reshape(-1).astype(np.float32)
        x = np.concatenate(found)
        return lightgbm.Dataset(x, y, categorical_feature=category, reference=of)

    most = POOLED_PAIRS // len(base)
    train = dataset(evenly(fitting.train, most))
    held_out = dataset(evenly(fitting.validation, most // 3), train)
    stop = lightgbm.early_stopping(30, verbose=False)
    trees = lightgbm.train(POOLED, train, POOLED_ROUNDS, valid_sets=[held_out], callbacks=[stop])

    def probabilities(rows: LabelledRows) -> np.ndarray:
        found = [
            trees.predict(pairs_of(part, fitting.layout, base, fitting.trend))
            for part in parts(rows)
        ]
        return np.concatenate(found).astype(np.float32).reshape(len(rows), -1)

    return probabilities


def parts(rows: LabelledRows, size: int = 2_000) -> list[LabelledRows]:
    starts = range(0, len(rows), size)
    return [rows.take(np.arange(at, min(at + size, len(rows)))) for at in starts]


def pair_width(layout: Layout) -> int:
    return len(layout.own) + layout.customer_columns + layout.contrasts + 2


def pairs_of(
    rows: LabelledRows, layout: Layout, base: np.ndarray, trend: TrendTable | None
) -> np.ndarray:
    """(R * N, K + W + G + 2) float32: of each pair the category's own columns, the customer-wide
    ones, the contrasts of the shop's trend, the log odds of the category's share, and its number.
    """
    index = np.array(layout.category_index, np.int64)
    shape = (len(rows), len(index), pair_width(layout))
    pairs = np.empty(shape, np.float32)
    for k, (first, last) in enumerate(layout.own):
        pairs[:, :, k] = rows.matrix[:, first:last].toarray()[:, index]
    at = len(layout.own)
    for first, last in layout.customer:
        pairs[:, :, at : at + last - first] = rows.matrix[:, first:last].toarray()[:, None]
        at += last - first
    if trend is not None and layout.contrasts:
        day = rows.matrix[:, layout.trend[0]].toarray()[:, 0].astype(np.int64) - trend.first_day
        for contrast in range(layout.contrasts):
            pairs[:, :, at + contrast] = trend.contrasts[day, contrast][:, index]
    pairs[:, :, -2], pairs[:, :, -1] = base, np.arange(len(index))
    return pairs.reshape(-1, shape[2])
