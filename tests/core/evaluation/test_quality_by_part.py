"""Quality by part: every number is that of a loop over rows and categories."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.evaluation import metrics, quality_by_part
from stream_scorer.core.evaluation.intervals import bootstrap_mean, bootstrap_ratios
from stream_scorer.core.evaluation.quality_by_part import (
    Estimate,
    MeasuredRows,
    PartQuality,
    Quality,
    quality_of,
)

ROWS, CATEGORIES, CUSTOMERS = 90, 14, 25
POSITIVES = np.array([0, 3, 19, 20, 21, 99, 100, 101, 999, 1000, 1001, 5, 50, 500])


def rows_of(seed: int = 1, *, kinds: bool = True) -> MeasuredRows:
    draw = np.random.default_rng(seed)
    p = draw.random((ROWS, CATEGORIES)).astype(np.float32) ** 2
    p[:, 3] = np.round(p[:, 3], 1)  # ties
    return MeasuredRows(
        p, draw.random((ROWS, CATEGORIES)) < p * 0.8, draw.integers(CUSTOMERS, size=ROWS),
        draw.choice([0.5, 1.0, 3.0], ROWS).astype(np.float32),
        draw.integers(3, size=ROWS).astype(np.uint8) if kinds else None,
        draw.integers(9, size=ROWS),
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> MeasuredRows:
    return rows_of()


@pytest.fixture(scope="module")
def prior() -> np.ndarray:
    return np.random.default_rng(9).random(CATEGORIES)


@pytest.fixture(scope="module")
def found(measured: MeasuredRows, prior: np.ndarray) -> Quality:
    return quality_of(measured, prior, POSITIVES, 1234)


def by_hand(of: MeasuredRows, prior: np.ndarray, rows: Any, columns: Any) -> dict[str, Any]:
    """Sums over pairs, one at a time."""
    loss = prior_loss = weight = predicted = seen = 0.0
    recalls: dict[str, list[tuple[float, float]]] = {"model": [], "prior": []}
    bins = np.zeros((3, metrics.ECE_BINS))
    for r in rows:
        w = float(of.weight[r])
        top = np.argsort(-of.p[r], kind="stable")[:10].tolist()
        prior_top = np.argsort(-prior.astype(np.float32), kind="stable")[:10].tolist()
        acting = [n for n in columns if of.acted[r, n]]
        for n in columns:
            p, q, y = float(of.p[r, n]), float(np.float32(prior[n])), bool(of.acted[r, n])
            loss -= w * np.log(max(p if y else 1 - p, 1e-7)) / len(columns)
            prior_loss -= w * np.log(max(q if y else 1 - q, 1e-7)) / len(columns)
            at = min(int(of.p[r, n] * np.float32(metrics.ECE_BINS)), metrics.ECE_BINS - 1)
            bins[:, at] += [w, w * p, w * y]
            predicted, seen = predicted + w * p, seen + w * y
        weight += w
        if acting:
            for name, chosen in (("model", top), ("prior", prior_top)):
                recalls[name].append((w, len(set(acting) & set(chosen)) / len(acting)))
    aucs = []
    for n in columns:
        won = lost = 0.0
        for a, b in product(rows, rows):
            if of.acted[a, n] and not of.acted[b, n]:
                both = float(of.weight[a]) * float(of.weight[b])
                won += both * (0.5 * (of.p[a, n] == of.p[b, n]) + (of.p[a, n] > of.p[b, n]))
                lost += both
        if lost:
            aucs.append(won / lost)
    return {
        "log_loss": loss / weight,
        "prior_log_loss": prior_loss / weight,
        "log_loss_minus_prior": (loss - prior_loss) / weight,
        "macro_auc": float(np.mean(aucs)),
        "recall_at_10": mean_of(recalls["model"]),
        "prior_recall_at_10": mean_of(recalls["prior"]),
        "predicted_over_seen": predicted / seen,
        "ece": float(np.abs(bins[1] - bins[2]).sum() / bins[0].sum()),
        "rows": len(rows),
        "customers": len({int(of.customer[r]) for r in rows}),
        "categories": len(columns),
        "positives": sum(int(of.acted[r, n]) for r in rows for n in columns),
    }  # fmt: skip


def mean_of(weighted: list[tuple[float, float]]) -> float:
    return sum(w * value for w, value in weighted) / sum(w for w, _ in weighted)


def assert_is(part: PartQuality, expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        said = getattr(part, name)
        said = said.value if isinstance(said, Estimate) else said
        assert said == pytest.approx(value, rel=1e-5), name


def test_all_rows_are_measured_as_by_hand(
    measured: MeasuredRows, prior: np.ndarray, found: Quality
) -> None:
    assert found.rows == 1234
    assert_is(found.overall, by_hand(measured, prior, range(ROWS), range(CATEGORIES)))


def test_each_kind_of_moment_is_measured_as_by_hand(
    measured: MeasuredRows, prior: np.ndarray, found: Quality
) -> None:
    assert [part.part for part in found.by_moment] == ["cutoff", "event", "quiet"]
    assert measured.kinds is not None
    for kind, part in enumerate(found.by_moment):
        rows = np.flatnonzero(measured.kinds == kind).tolist()
        assert_is(part, by_hand(measured, prior, rows, range(CATEGORIES)))


def test_each_length_of_history_is_measured_as_by_hand(
    measured: MeasuredRows, prior: np.ndarray, found: Quality
) -> None:
    assert len(found.by_history) == quality_by_part.HISTORY_PARTS
    assert sum(part.rows for part in found.by_history) == ROWS
    for part in found.by_history:
        assert part.least is not None
        assert part.most is not None
        inside = (measured.history >= part.least) & (measured.history <= part.most)
        rows = np.flatnonzero(inside).tolist()
        assert_is(part, by_hand(measured, prior, rows, range(CATEGORIES)))


def test_each_size_of_category_is_measured_as_by_hand(
    measured: MeasuredRows, prior: np.ndarray, found: Quality
) -> None:
    names = ["0 to 19", "20 to 99", "100 to 999", "1,000 or more"]
    assert [part.part for part in found.by_category_size] == names
    columns = [[0, 1, 2, 11], [3, 4, 5, 12], [6, 7, 8, 13], [9, 10]]
    for part, of_part in zip(found.by_category_size, columns, strict=True):
        assert_is(part, by_hand(measured, prior, range(ROWS), of_part))


def test_intervals_draw_customers_with_all_their_rows(
    measured: MeasuredRows, prior: np.ndarray, found: Quality
) -> None:
    """The same draws, each resample written out row by row."""
    loss = metrics.row_log_loss(measured.p, measured.acted)
    other = metrics.row_log_loss(
        np.broadcast_to(prior.astype(np.float32), measured.p.shape), measured.acted
    )
    customers = np.unique(measured.customer)
    draw = np.random.default_rng(0)
    differences, ratios = [], []
    for _ in range(1000):
        drawn = customers[draw.integers(len(customers), size=len(customers))]
        rows = np.concatenate([np.flatnonzero(measured.customer == c) for c in drawn])
        w = measured.weight[rows].astype(np.float64)
        differences.append(w @ (loss - other)[rows] / w.sum())
        expected = w @ measured.p[rows].sum(axis=1, dtype=np.float64)
        ratios.append(expected / (w @ measured.acted[rows].sum(axis=1)))
    for said, values in (
        (found.overall.log_loss_minus_prior, differences),
        (found.overall.predicted_over_seen, ratios),
    ):
        low, high = np.quantile(values, [0.025, 0.975])
        assert said.low == pytest.approx(low, rel=1e-9)
        assert said.high == pytest.approx(high, rel=1e-9)


def test_pieces_change_nothing(
    measured: MeasuredRows, prior: np.ndarray, found: Quality, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_by_part, "PIECE_PAIRS", 3 * CATEGORIES)
    assert_close(quality_of(measured, prior, POSITIVES, 1234).as_json(), found.as_json())


def assert_close(ours: Any, theirs: Any) -> None:
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            assert_close(value, theirs[key])
    elif isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
    else:
        assert ours == (pytest.approx(theirs) if isinstance(theirs, float) else theirs)


def test_the_calibration_curve_has_every_pair_once_and_its_weighted_means(
    measured: MeasuredRows, found: Quality
) -> None:
    assert list(found.calibration) == ["all", "cutoff", "event", "quiet"]
    points = found.calibration["all"]
    assert sum(point.pairs for point in points) == ROWS * CATEGORIES
    ascending = [point.probability for point in points]
    assert ascending == sorted(ascending)
    w = np.repeat(measured.weight.astype(np.float64), CATEGORIES)
    p, y = measured.p.reshape(-1).astype(np.float64), measured.acted.reshape(-1)
    inside = (p >= 0.5) & (p < 1 / (1 + np.exp(-0.5)))  # log odds from 0 to a half
    point = next(one for one in points if 0.5 < one.probability < 0.62)
    assert point.pairs == inside.sum()
    assert point.probability == pytest.approx(w[inside] @ p[inside] / w[inside].sum())
    assert point.acted == pytest.approx(w[inside] @ y[inside] / w[inside].sum())


def test_without_kinds_there_is_nothing_by_moment(prior: np.ndarray) -> None:
    found = quality_of(rows_of(kinds=False), prior, POSITIVES, ROWS)
    assert found.by_moment == ()
    assert list(found.calibration) == ["all"]


def test_what_is_not_defined_is_none_where_nobody_acted(prior: np.ndarray) -> None:
    of = rows_of()._replace(acted=np.zeros((ROWS, CATEGORIES), np.bool_))
    part = quality_of(of, prior, POSITIVES, ROWS).overall
    nothing = Estimate(None, None, None)
    assert part.macro_auc == part.recall_at_10 == part.predicted_over_seen == nothing
    assert part.prior_recall_at_10 is None
    assert part.log_loss.value is not None


def test_equal_histories_are_one_part(prior: np.ndarray) -> None:
    of = rows_of()._replace(history=np.full(ROWS, 4))
    (part,) = quality_of(of, prior, POSITIVES, ROWS).by_history
    assert (part.least, part.most, part.rows) == (4, 4, ROWS)


def test_a_ratio_of_sums_over_weights_is_the_mean_with_its_interval(
    measured: MeasuredRows,
) -> None:
    draw = np.random.default_rng(3)
    values, w = draw.normal(size=ROWS), measured.weight.astype(np.float64)
    (found,) = bootstrap_ratios((w * values)[:, None], w[:, None], measured.customer)
    expected = bootstrap_mean(values, measured.customer, weight=measured.weight)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_ratio_that_some_draw_can_not_form_has_no_interval() -> None:
    customer, one = np.arange(3), np.ones((3, 1))
    only_first = np.array([[1.0], [0.0], [0.0]])  # in 8 of 27 draws it is not drawn
    (found,) = bootstrap_ratios(one, only_first, customer)
    assert all(np.isnan(found))
    (nothing,) = bootstrap_ratios(np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0, np.int64))
    assert all(np.isnan(nothing))
