"""The baseline: the regression that a general optimiser finds, from sparse columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import optimize, sparse

from stream_scorer.core.evaluation import logistic_baseline as own_logistic
from stream_scorer.core.labels.labels import LabelledRows, concatenate_rows
from stream_scorer.model.spec import Layout

LAYOUT = Layout(10, 4, (0, 1, 3), 2, ((0, 4), (5, 9)), ())


def shop(rows: int, seed: int) -> LabelledRows:
    draw = np.random.default_rng(seed)
    x = (draw.exponential(1, (rows, 10)) * (draw.random((rows, 10)) < 0.3)).astype(np.float32)
    logits = -1.5 + 1.2 * x[:, :4] - 0.5 * x[:, 5:9]
    row, category = np.nonzero(draw.random(logits.shape) < 1 / (1 + np.exp(-logits)))
    return LabelledRows(
        [str(i) for i in range(rows)], np.zeros(rows, np.int64), sparse.csr_matrix(x),
        np.searchsorted(row, np.arange(rows + 1)).astype(np.int64), category.astype(np.uint32),
        np.ones(len(row), np.uint8),
    )  # fmt: skip


def test_fit_is_the_least_penalised_loss() -> None:
    rows = shop(500, 1)
    found = own_logistic.fit([rows.take(np.arange(200)), rows.take(np.arange(200, 500))], LAYOUT)
    dense = rows.matrix.toarray().astype(np.float64)
    acted = np.zeros((500, 4), bool)
    acted[np.repeat(np.arange(500), np.diff(rows.label_indptr)), rows.label_category] = True
    for n, category in enumerate(LAYOUT.category_index):
        own = dense[:, [category, 5 + category]]
        scale = np.sqrt((own**2).sum(axis=0) / (own != 0).sum(axis=0))
        y = acted[:, category]

        def loss(beta: np.ndarray, x: np.ndarray = own / scale, y: np.ndarray = y) -> float:
            z = beta[0] + x @ beta[1:]
            return float(np.logaddexp(0, z).sum() - z[y].sum() + (beta[1:] ** 2).sum() / 2)

        best = optimize.minimize(loss, np.zeros(3), method="BFGS").x
        assert np.allclose(found.intercept[n], best[0], atol=1e-3)
        assert np.allclose(found.weight[n] * scale, best[1:], atol=1e-3)
    p = own_logistic.probabilities(found, rows, LAYOUT)
    assert p.shape == (500, 3)
    assert np.allclose(p.mean(axis=0), acted[:, LAYOUT.category_index].mean(axis=0), atol=1e-4)


def test_category_that_nobody_has_columns_of_gets_its_share() -> None:
    rows = shop(100, 2)
    empty = LabelledRows(
        rows.customer_ids, rows.as_of_ms, sparse.csr_matrix((100, 10), dtype=np.float32),
        rows.label_indptr, rows.label_category, rows.label_class,
    )  # fmt: skip
    p = own_logistic.probabilities(own_logistic.fit([empty], LAYOUT), empty, LAYOUT)
    share = np.bincount(rows.label_category, minlength=4)[[0, 1, 3]] / 100
    assert np.allclose(p, share, atol=1e-3)


def test_a_row_of_weight_2_is_two_rows() -> None:
    rows = shop(300, 3)
    twice = np.random.default_rng(0).random(300) < 0.4
    doubled = concatenate_rows([rows, rows.take(np.flatnonzero(twice))])
    weighted = replace(rows, weight=np.where(twice, 2, 1).astype(np.float32))
    found, expected = (own_logistic.fit([some], LAYOUT) for some in (weighted, doubled))
    assert np.allclose(found.intercept, expected.intercept, atol=1e-6)
    assert np.allclose(found.weight, expected.weight, atol=1e-6)
    assert not np.allclose(found.weight, own_logistic.fit([rows], LAYOUT).weight, atol=1e-3)
