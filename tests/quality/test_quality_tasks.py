"""The parts of `make quality` that need neither data nor training."""

from __future__ import annotations

import judged
import movielens
import numpy as np
import pyarrow as pa
import rivals
from judged import Judged
from scipy import sparse
from scipy.special import expit

from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable
from stream_scorer.model.spec import Layout

DAY_MS = 86_400_000


def ratings(user: str, seconds: list[int], film: str = "f") -> list[tuple[str, str, int]]:
    return [(user, film, second * 1000) for second in seconds]


def table(rows: list[tuple[str, str, int]]) -> pa.Table:
    user, film, at = zip(*sorted(rows, key=lambda row: row[2]), strict=True)
    return pa.table({"customer_id": user, "category_id": film, "occurred_at": pa.array(at)})


def test_films_are_asked_for_after_the_tenth_and_the_twentieth_rating() -> None:
    far = ratings("other", [10_000_000])
    found = movielens.moments(table(ratings("1", list(range(25))) + far))
    rows = [pair for part in found.values() for pair in part if pair[0] == "1"]
    assert rows == [("1", 9_001), ("1", 19_001)]


def test_a_row_whose_day_is_not_over_is_left_out() -> None:
    end = ratings("other", [86_400 + 9])
    found = movielens.moments(table(ratings("1", list(range(25))) + end))
    assert [pair for part in found.values() for pair in part if pair[0] == "1"] == [("1", 9_001)]


def test_a_user_is_of_one_part_alone() -> None:
    parts = [movielens.part_of(str(user)) for user in range(1, 944)]
    assert {name: parts.count(name) for name in movielens.PARTS} == {
        "train": 579, "validation": 145, "test": 219,
    }  # fmt: skip


def test_only_films_that_fifty_training_users_rated_are_asked_for() -> None:
    users = [str(u) for u in range(1, 944) if movielens.part_of(str(u)) == "train"]
    others = [str(u) for u in range(1, 944) if movielens.part_of(str(u)) != "train"]
    rows = [(u, "often", 1) for u in users[:50]] + [(u, "seldom", 1) for u in users[:49]]
    rows += [(u, "seldom", 1) for u in others]
    assert movielens.categories(table(rows)) == ["often"]


def test_the_linear_rival_has_the_least_penalised_loss() -> None:
    draw = np.random.default_rng(1)
    x = sparse.random(200, 5, 0.5, format="csr", random_state=2, dtype=np.float32)
    truth = draw.normal(size=(5, 3)) * 3
    y = (draw.random((200, 3)) < expit(x @ truth)).astype(np.float32)
    start = np.zeros((6, 3), np.float32)
    found = rivals.least_penalised(x, y, 2.0, start)

    def loss(weights: np.ndarray) -> float:
        logits = x @ weights[:-1] + weights[-1]
        return float(rivals.binary_loss(logits, y).sum() + (weights[:-1] ** 2).sum())

    for _ in range(50):
        assert loss(found) <= loss(found + draw.normal(size=found.shape) * 0.02) + 1e-3
    assert loss(found) < loss(start)


def test_a_pair_has_its_categorys_own_columns_the_customers_and_the_trend() -> None:
    layout = Layout(
        8, 3, (0, 2), 2, own=((0, 3), (3, 6)), customer=((6, 7),), trend=(7,), contrasts=1
    )
    matrix = np.arange(1, 9, dtype=np.float32)[None]
    rows = LabelledRows(
        ["a"], np.array([0]), sparse.csr_matrix(matrix),
        np.array([0, 0]), np.zeros(0, np.uint32), np.zeros(0, np.uint8),
    )  # fmt: skip
    trend = TrendTable(7, np.array([[[0, 0, 0]], [[0.5, 0, 0.25]]], np.float32))  # day 8 is second
    pairs = rivals.pairs_of(rows, layout, np.array([-1.0, -2.0], np.float32), trend)
    assert pairs.tolist() == [[1, 4, 7, 0.5, -1, 0], [3, 6, 7, 0.25, -2, 1]]


def test_a_limit_that_is_missed_is_named() -> None:
    found = {"log_loss": 0.15394, "macro_auc": 0.8204, "ece": None}
    assert judged.missed(found, {"log_loss": 0.1539, "macro_auc": 0.820}) == []
    assert judged.missed(found, {"log_loss": 0.1538, "macro_auc": 0.821, "ece": 0.1}) == [
        "log_loss 0.1539, not 0.1538", "macro_auc 0.820, not 0.821", "ece is not defined",
    ]  # fmt: skip


def test_rare_categories_are_held_against_their_own_rate() -> None:
    acted = np.zeros((100, 2), bool)
    acted[:50, 0], acted[:2, 1] = True, True
    customer = np.arange(100)
    ours = Judged(np.full((100, 2), 0.5), acted, customer)
    rate = Judged(np.full((100, 2), 0.02), acted, customer)
    found = judged.rare_categories([ours], rate, acted.sum(axis=0))
    assert found is not None
    assert found["categories"] == 1
    assert found["difference"]["low"] > 0
    assert judged.rare_categories([ours], rate, np.array([50, 20])) is None
