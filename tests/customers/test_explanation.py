"""Explanations add up to what the engine scores, and say where they do not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from stream_scorer.customers.current_model import OpenModel
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.explanation_in_words import explanation_in_words
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.errors import InputError
from stream_scorer.model import artefact
from stream_scorer.model.spec import NetworkSpec
from tests.customers.conftest import NOW_MS, START_MS, Shop, random_model


def open_reader(shop: Shop, now_ms: int = NOW_MS) -> CustomerReader:
    return CustomerReader.open(shop.settings, lambda: now_ms)


@pytest.fixture(scope="module")
def soup(shop: Shop) -> Explanation:
    with open_reader(shop) as reader:
        return reader.explain("anna", ["soup"], top_inputs=4)


def test_the_amounts_that_are_named_and_the_others_add_up_to_the_logit(
    shop: Shop, soup: Explanation
) -> None:
    (one,) = soup.explained
    assert len(one.inputs) == 4
    assert one.other_inputs > 5
    total = one.base + one.history + sum(i.amount for i in one.inputs) + one.other_amount
    assert total - one.residual == pytest.approx(one.logit, abs=1e-12)
    assert abs(one.residual) < 1e-9
    assert one.logit == pytest.approx(one.scale * one.network_logit + one.shift)
    assert soup.ok
    amounts = [i.amount for i in one.inputs]
    assert amounts == sorted(amounts, reverse=True)
    assert all(i.amount == pytest.approx(i.linear + i.attributed) for i in one.inputs)
    with open_reader(shop) as reader:
        (whole,) = reader.explain("anna", ["soup"], top_inputs=None).explained
    assert (whole.other_inputs, whole.other_amount) == (0, 0)
    least = min(abs(i.amount) for i in one.inputs)
    assert sum(abs(i.amount) >= least for i in whole.inputs) == 4
    trend = [i for i in whole.inputs if i.column is None]
    assert [i.name for i in trend] == ["trend@2d/14d[category_id=soup]"]
    assert trend[0].value != 0


def test_the_probability_is_that_of_the_engine_and_of_show(shop: Shop) -> None:
    with open_reader(shop) as reader:
        shown = reader.show("anna", top_k=3).propensities
        explained = reader.explain("anna").explained
    assert [(e.category_id, e.class_index) for e in explained] == [
        (p.category_id, p.class_index) for p in shown
    ]
    assert [e.engine_probability for e in explained] == [p.probability for p in shown]
    for one in explained:
        assert one.probability == pytest.approx(one.engine_probability, abs=1e-5)
        assert one.engine_agrees


@pytest.mark.parametrize("engine", ["onnx", pytest.param("mxnet", marks=pytest.mark.mxnet)])
def test_it_is_the_same_whatever_engine_scores(
    shop: Shop, soup: Explanation, engine: Literal["onnx", "mxnet"]
) -> None:
    model = shop.settings.model.model_copy(update={"engine": engine})
    settings = shop.settings.model_copy(update={"model": model})
    with CustomerReader.open(settings, lambda: NOW_MS) as reader:
        found = reader.explain("anna", ["soup"], top_inputs=4)
    assert found.ok
    (one,), (native,) = found.explained, soup.explained
    scored = one.engine_probability, one.engine_agrees
    assert replace(native, engine_probability=scored[0], engine_agrees=scored[1]) == one


def test_each_class_of_several_has_its_own_sum(shop: Shop, tmp_path: Path) -> None:
    labels = shop.settings.labels.model_copy(update={"actions": (("view",), ("purchase",))})
    model = shop.settings.model.model_copy(update={"path": tmp_path / "m"})
    settings = shop.settings.model_copy(update={"labels": labels, "model": model})
    artefact.save(random_model(settings, 4, NetworkSpec((6, 5), pooled=(5,))), tmp_path / "m")
    with CustomerReader.open(settings, lambda: NOW_MS) as reader:
        found = reader.explain("anna", ["tea"])
        best = reader.explain("anna", top_categories=4).explained
        shown = reader.show("anna", top_k=4).propensities
    assert found.ok
    assert [(one.class_index, one.action) for one in found.explained] == [
        (1, "view"), (2, "purchase"),
    ]  # fmt: skip
    odds = [math.exp(one.logit) for one in found.explained]
    for one, odd in zip(found.explained, odds, strict=True):
        assert one.probability == pytest.approx(odd / (1 + sum(odds)))
    assert [(e.category_id, e.class_index) for e in best] == [
        (p.category_id, p.class_index) for p in shown
    ]


def test_an_artefact_that_the_engine_does_not_score_so_is_noticed(
    shop: Shop, soup: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as after a fault in either: here the engine is given other weights."""
    with open_reader(shop) as reader:
        serving = reader.models.serving
        assert serving is not None
        layout = serving.active.artefact.layout
        other = artefact.unsaved(random_model(shop.settings, 9, NetworkSpec((4,))))
        assert other.layout == layout
        wrong = OpenModel(other, serving.active.engine)
        monkeypatch.setattr(reader.models, "serving", replace(serving, active=wrong))
        found = reader.explain("anna", ["soup"])
    assert not found.explained[0].engine_agrees
    assert found.explained[0].adds_up
    assert not found.ok
    assert any("THE ENGINE SCORES" in line for line in explanation_in_words(found))
    (one,) = soup.explained
    off = replace(soup, explained=(replace(one, residual=0.5, adds_up=False),))
    assert not off.ok
    assert any("THE AMOUNTS DO NOT ADD UP" in line for line in explanation_in_words(off))


def test_the_words_say_what_pushes_and_how_it_was_calibrated(soup: Explanation) -> None:
    words = "\n".join(explanation_in_words(soup))
    (one,) = soup.explained
    assert f"soup, purchase: probability {one.probability:.4f}" in words
    assert "base: a customer of whom nothing is known" in words
    assert "having anything of this category at all" in words
    assert "calibrated (per_category)" in words
    assert f"{one.other_inputs} other inputs" in words
    assert "integrated gradients" in words
    for named in one.inputs:
        assert named.words in words


def test_who_is_unknown_or_forgotten_is_not_explained(shop: Shop) -> None:
    ttl_ms = 1000 * shop.settings.store.time_to_live_seconds
    with open_reader(shop, START_MS + 86_400_000 + ttl_ms + 1) as reader:
        nobody, old = reader.explain("nobody"), reader.explain("old")
    assert (nobody.found, nobody.ok, nobody.explained) == (False, False, ())
    assert (old.forgotten, old.ok, old.explained) == (True, False, ())
    assert "not known in namespace shop" in explanation_in_words(nobody)[0]
    assert "forgotten: silent" in explanation_in_words(old)[1]


def test_categories_that_the_model_has_not_are_refused(shop: Shop, tmp_path: Path) -> None:
    with open_reader(shop) as reader:
        with pytest.raises(InputError, match="is 'soup' meant"):
            reader.explain("anna", ["Soup"])
        with pytest.raises(InputError, match="at most at a time"):
            reader.explain("anna", [str(i) for i in range(101)])
    model = shop.settings.model.model_copy(update={"path": tmp_path / "none"})
    settings = shop.settings.model_copy(update={"model": model})
    with CustomerReader.open(settings) as reader, pytest.raises(InputError, match="no model can"):
        reader.explain("anna")


def test_json_has_its_keys(soup: Explanation) -> None:
    found = json.loads(json.dumps(soup.as_json()))
    assert list(found) == [
        "customer_id", "found", "namespace", "as_of", "newest_event", "forgotten", "model_version",
        "method", "calibration", "explained", "model_problem", "erased_until",
    ]  # fmt: skip
    assert list(found["explained"][0]) == [
        "category_id", "class", "action", "probability", "logit", "base", "history", "inputs",
        "other_inputs", "other_amount", "network_logit", "scale", "shift", "residual", "tolerance",
        "adds_up", "engine_probability", "engine_agrees", "pieces",
    ]  # fmt: skip
    assert list(found["explained"][0]["inputs"][0]) == [
        "column", "name", "words", "value", "model_value", "amount", "linear", "attributed", "odds",
        "value_in_words",
    ]  # fmt: skip
