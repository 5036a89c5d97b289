"""`ss.open_customers` for notebooks."""

from __future__ import annotations

import pyarrow as pa
import pytest

import stream_scorer as ss
from tests.customers.conftest import NOW_MS, Shop


def test_customers_are_looked_at_and_explained(shop: Shop) -> None:
    with ss.open_customers(shop.settings) as customers:
        assert customers.problem == ""
        anna = customers.show("anna", NOW_MS, top_k=2)
        nobody, again = customers.show_all(["nobody", "anna"], NOW_MS, top_k=2)
        table = customers.propensities(["anna", "nobody", "ben"], NOW_MS)
        why = customers.explain("anna", "soup", NOW_MS, top_inputs=None)
        with pytest.raises(ss.InputError, match="give ISO 8601 with a zone"):
            customers.show("anna", "yesterday")
    assert isinstance(anna, ss.CustomerShown)
    assert isinstance(why, ss.Explanation)
    assert (nobody.found, again.columns, again.propensities) == (
        False, anna.columns, anna.propensities,
    )  # fmt: skip
    assert table.schema.field("probability").type == pa.float32()
    assert table["customer_id"].to_pylist() == ["anna"] * 4 + ["ben"] * 4
    first = table.to_pylist()[0]
    best = anna.propensities[0]
    assert (first["category_id"], first["class"], first["action"]) == (
        best.category_id, best.class_index, best.action,
    )  # fmt: skip
    assert first["model_version"] == anna.model_version
    assert [one.category_id for one in why.explained] == ["soup"]
    assert why.ok
