"""How far two models agree, on few rows whose figures can be worked out by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from stream_scorer.core.evaluation.agreement import Agreement

CATEGORIES = ("soup", "tea", "milk", "bread")


def two_classes(acting: list[list[float]]) -> npt.NDArray[np.float32]:
    p = np.array(acting, np.float32)
    return np.stack([1 - p, p], axis=2)


# Differences: 0, .25, 0, -.125; 0, 0, 0, 0; .5, -.5, 0, 0
ACTIVE = two_classes([[0.5, 0.25, 0.125, 0.25], [0.5, 0.25, 0.125, 0.0], [0.25, 0.75, 0.0, 0.5]])
OTHER = two_classes([[0.5, 0.5, 0.125, 0.125], [0.5, 0.25, 0.125, 0.0], [0.75, 0.25, 0.0, 0.5]])


def measured(*pieces: slice, k: int = 2) -> Agreement:
    found = Agreement(CATEGORIES, CATEGORIES, k)
    for piece in pieces:
        found.add(ACTIVE[piece], OTHER[piece])
    return found


def test_figures_of_three_rows_are_those_worked_out_by_hand() -> None:
    found = measured(slice(None)).figures()
    assert (found.rows, found.k, found.categories) == (3, 2, 4)
    # Top two: soup, tea in both of the first and second row, where equals keep their order; tea,
    # bread against soup, bread in the third.
    assert found.overlap == pytest.approx((2 + 2 + 1) / 6)
    assert found.same_order == pytest.approx(2 / 3)
    assert found.mean == pytest.approx(0.125 / 12)
    assert found.mean_absolute == pytest.approx((0.25 + 0.125 + 1.0) / 12)
    # Of twelve pairs: eight of 0, then .125, .25, .5 and .5; ranks 6, 11 and 12.
    assert (found.p50, found.p90, found.p99, found.max) == (0.0, 0.5, 0.5, 0.5)


def test_the_same_top_in_another_order_overlaps_in_full() -> None:
    found = Agreement(CATEGORIES, CATEGORIES, 2)
    found.add(two_classes([[0.5, 0.25, 0.0, 0.0]]), two_classes([[0.25, 0.5, 0.0, 0.0]]))
    figures = found.figures()
    assert (figures.overlap, figures.same_order) == (1.0, 0.0)


def test_any_split_into_batches_gives_the_same_figures() -> None:
    draw = np.random.default_rng(1)
    ours, theirs = draw.dirichlet([1, 1, 1], (2000, 4)), draw.dirichlet([1, 1, 1], (2000, 4))
    active, other = ours.astype(np.float32), theirs.astype(np.float32)
    whole = Agreement(CATEGORIES, CATEGORIES, 3)
    whole.add(active, other)
    parts = Agreement(CATEGORIES, CATEGORIES, 3)
    for cut in np.split(np.arange(2000), [1, 3, 700, 701, 1800]):
        part = Agreement(CATEGORIES, CATEGORIES, 3)
        part.add(active[cut], other[cut])
        parts.merge(part)
    assert parts.figures() == whole.figures()
    difference = (other[:, :, 1:] - active[:, :, 1:]).reshape(-1)
    figures = whole.figures()
    assert figures.mean == pytest.approx(float(difference.mean(dtype=np.float64)), abs=1e-9)
    assert figures.mean_absolute == pytest.approx(np.abs(difference).mean(), abs=1e-6)
    for share, quantile in ((0.5, figures.p50), (0.9, figures.p90), (0.99, figures.p99)):
        exact = np.quantile(np.abs(difference), share, method="inverted_cdf")
        assert quantile is not None
        assert exact * (1 - 1 / 128) <= quantile <= exact
    assert figures.max == np.abs(difference).max()


def test_only_categories_that_both_models_have_are_compared_and_the_rest_is_counted() -> None:
    found = Agreement(CATEGORIES, ("milk", "cake", "soup"), 1)
    found.add(
        two_classes([[0.25, 1.0, 0.5, 1.0]]), two_classes([[0.5, 1.0, 0.5]])
    )  # soup .25 to .5; milk .5 to .5
    figures = found.figures()
    assert (figures.categories, figures.only_active, figures.only_challenger) == (2, 2, 1)
    assert (figures.mean, figures.max) == (0.125, 0.25)
    # The active model's first is milk; equals keep the active model's order, so theirs is soup.
    assert figures.overlap == 0.0


def test_k_is_at_most_what_can_be_chosen() -> None:
    figures = measured(slice(None), k=50).figures()
    assert (figures.k, figures.overlap) == (4, 1.0)


def test_a_difference_of_one_has_a_bin() -> None:
    found = Agreement(CATEGORIES[:1], CATEGORIES[:1], 1)
    found.add(two_classes([[0.0], [1.0]]), two_classes([[1.0], [0.0]]))
    figures = found.figures()
    assert (figures.mean, figures.mean_absolute, figures.p50, figures.max) == (0.0, 1.0, 1.0, 1.0)


def test_without_rows_nothing_is_defined() -> None:
    figures = measured().figures()
    assert (figures.rows, figures.overlap, figures.mean, figures.p50, figures.max) == (
        0, None, None, None, None,
    )  # fmt: skip


def test_agreements_of_other_models_are_not_merged() -> None:
    with pytest.raises(ValueError, match="other categories"):
        measured().merge(Agreement(CATEGORIES[:2], CATEGORIES[:2], 2))
    with pytest.raises(ValueError, match="no category in common"):
        Agreement(("soup",), ("tea",), 1)
