"""The page of a card, whatever is known of the model."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from stream_scorer.core.evaluation.model_card import (
    NO_VALIDATION,
    CardCategory,
    CardFeature,
    CardLabels,
    CardRows,
    CardSource,
    ModelCard,
    ScoringCost,
)
from stream_scorer.core.evaluation.quality_by_part import MeasuredRows, Quality, quality_of
from stream_scorer.core.evaluation.training_data import LeftOutCategory, MomentsOfKind
from stream_scorer.reports import model_card

ROWS = CardRows(
    (CardSource("/data/<train>", 900, 3, 5, 0),), 900, 120, "2026-01-01T00:00:00Z",
    "2026-03-01T00:00:00.5Z", "2026-03-15T00:00:00Z", ("2026-01-01T00:00:00Z",),
    (MomentsOfKind("cutoff", 300, 90.0), MomentsOfKind("event", 600, 810.0)), 900.0, 7,
)  # fmt: skip
CARD = ModelCard(
    1, "", "2026-11-29T08:00:00+00:00", "0123456789abcdef",
    CardLabels("category_id", (("view",), ("purchase",)), 14.0),
    {"hidden": (64, 32), "dropout": 0.1, "pooled": ()}, "platt", ROWS, None, 20,
    (CardFeature("bought", "decayed", "number of <events>", 10, 4),
     CardFeature("store", "latest", "the store", 8, 8)),
    18, 12, (CardCategory("soup & bread", 40, 0.05),),
    (LeftOutCategory("tea", 19, "too_few_customers"), LeftOutCategory("rice", 0, "no_customer")),
    23, None, ScoringCost("native", 900, 1000, "validation", 0.01, 90_000.0, "a processor"),
    (NO_VALIDATION,),
)  # fmt: skip


def measured(over: float) -> Quality:
    """Of probabilities that are `over` times the truth."""
    draw = np.random.default_rng(0)
    truth = draw.uniform(0.05, 0.3, (600, 12)).astype(np.float32)
    of = MeasuredRows(
        (truth * over).astype(np.float32), draw.random(truth.shape) < truth, np.arange(600) // 2,
        np.ones(600, np.float32), np.repeat(np.array([0, 1], np.uint8), 300),
        draw.integers(50, size=600),
    )  # fmt: skip
    return quality_of(of, np.full(12, 0.175), np.full(12, 40), 600)


def page_of(card: ModelCard) -> str:
    content, page = model_card.writer(card)("fedcba9876543210")
    assert json.loads(content)["model_version"] == "fedcba9876543210"
    return page.decode()


def test_the_json_has_all_parts_of_the_card() -> None:
    content, _ = model_card.writer(replace(CARD, quality=measured(1)))("fedcba9876543210")
    said = json.loads(content)
    assert said["left_out"][0] == {
        "category_id": "tea", "customers": 19, "reason": "too_few_customers",
    }  # fmt: skip
    assert said["training"]["moments"][1] == {"kind": "event", "rows": 600, "weight": 810.0}
    assert said["quality"]["overall"]["log_loss"].keys() == {"value", "low", "high"}
    assert said["scoring"]["customers_per_second"] == 90_000.0


def test_the_page_says_what_was_left_out_and_loads_nothing() -> None:
    page = page_of(replace(CARD, quality=measured(1), notes=()))
    for words in (
        "fedcba9876543210", "will view or purchase within 14 days", "soup &amp; bread",
        "too few customers", "nobody acted on it", "number of &lt;events&gt;",
        "/data/&lt;train&gt;",
        "No training row has a value of: store.", "7 training rows weigh 0",
        "2 of 3 categories are left out, and with them 23 labels", "600 (90.0% of the weight)",
        "every probability written out, at 90,000 customers per second", "a processor",
        "hidden 64-32", "Calibration: platt",
        "2026-03-01 00:00:00.5 UTC",
    ):  # fmt: skip
        assert words in page, words
    assert page.count("<svg") == 2
    assert not re.search(r'\b(src|href)="(?!#)', page)
    assert "<script" not in page


def test_without_matplotlib_the_page_has_no_plots_and_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = page_of(replace(CARD, quality=measured(1)))
    assert "<svg" not in page
    assert "pip install &#x27;stream-scorer[reports]&#x27;" in page
    assert "By the moment of the row" in page


def test_without_validation_the_page_says_that_nothing_was_measured() -> None:
    page = page_of(CARD)
    assert "Its quality was not measured." in page
    assert "There were no validation rows" in page
    assert "recall@10" not in page
    assert "<svg" not in page


def test_what_is_too_sure_or_no_better_than_the_prior_is_said_first() -> None:
    right = model_card.to_look_at(replace(CARD, quality=measured(1.0)))
    assert not [line for line in right if line.startswith("On all rows")]
    sure = model_card.to_look_at(replace(CARD, quality=measured(1.8)))
    assert any(re.match(r"On all rows it is [78]\d% too sure", line) for line in sure)
    assert any("not shown to be better than the prior" in line for line in sure)
    unsure = model_card.to_look_at(replace(CARD, quality=measured(0.5)))
    said = re.compile(r"On rows at cut-offs it is (4|5)\d% not sure enough")
    assert any(said.match(line) for line in unsure)


def test_a_card_of_which_nothing_stands_out_says_so() -> None:
    plain = replace(
        CARD, quality=measured(1.0), left_out=(), features=CARD.features[:1],
        training=replace(ROWS, without_weight=0),
    )  # fmt: skip
    assert model_card.to_look_at(plain) == ["Nothing stands out."]
    assert "None was left out." in page_of(plain)


def test_many_categories_are_cut_on_the_page_and_whole_in_the_json() -> None:
    many = tuple(CardCategory(f"c{i:04d}", i, 0.1) for i in range(1000))
    content, page = model_card.writer(replace(CARD, categories=many))("fedcba9876543210")
    assert len(json.loads(content)["categories"]) == 1000
    assert b"c0999" in page
    assert b"c0799" not in page
    assert b"the first 200 here, all in card.json" in page
