"""`customer show` and `customer explain` on the command line: words, JSON and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from stream_scorer.cli import app
from tests.customers.conftest import Shop

AS_OF = ("--as-of", "2022-04-18T00:00:00Z")  # the shop's customers are forgotten by now


def call(shop: Shop, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["customer", *arguments, "-c", str(shop.config)])


def test_show_prints_customers_and_fails_for_one_who_is_not_known(
    shop: Shop, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("ben\nc1\n")
    ran = call(shop, "show", "anna", "--ids-file", str(ids), "--json", *AS_OF)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert [c["customer_id"] for c in found["customers"]] == ["anna", "ben", "c1"]
    ran = call(shop, "show", "nobody", "anna", "--top-k", "1", *AS_OF)
    assert ran.exit_code == 1
    assert "customer nobody: not known in namespace shop" in ran.stdout
    assert "number of purchase events with category_id soup" in ran.stdout


def test_explain_prints_a_sum_or_one_object(shop: Shop) -> None:
    ran = call(
        shop, "explain", "anna", "--category", "soup", "--category", "tea", "--top", "2", *AS_OF
    )
    assert ran.exit_code == 0, ran.output
    assert "soup, purchase: probability" in ran.stdout
    assert "tea, purchase: probability" in ran.stdout
    ran = call(shop, "explain", "anna", "--json", *AS_OF)
    assert len(json.loads(ran.stdout)["explained"]) == 3
    assert call(shop, "explain", "nobody").exit_code == 1
    ran = call(shop, "explain", "anna")
    assert ran.exit_code == 1
    assert "forgotten" in ran.stdout


def test_several_are_explained_in_one_object_by_the_model_that_is_wanted(
    shop: Shop, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("ben\nnobody\n")
    model = ("--model", str(shop.settings.model.path))
    ran = call(shop, "explain", "anna", "--ids-file", str(ids), "--json", *model, *AS_OF)
    assert ran.exit_code == 1, ran.output
    found = json.loads(ran.stdout)
    assert found["not_ok"] == 1
    assert [(c["customer_id"], c["found"]) for c in found["customers"]] == [
        ("anna", True),
        ("ben", True),
        ("nobody", False),
    ]
    assert found["customers"][0] == json.loads(
        call(shop, "explain", "anna", "--json", *AS_OF).stdout
    )
    ran = call(shop, "explain", "anna", "ben", *AS_OF)
    assert ran.exit_code == 0
    assert "customer anna in" in ran.stdout
    assert "\n\n\ncustomer ben in" in ran.stdout


def test_wrong_input_is_one_line_with_status_2(shop: Shop) -> None:
    for arguments, said in (
        (["show"], "give a customer's id"),
        (["show", ""], "is empty"),
        (["show", "anna", "--as-of", "2999-01-01T00:00Z"], "lies in the future"),
        (["show", "anna", "--as-of", "2022-01-01T00:00Z"], "has had an event at"),
        (["explain", "anna", "--category", "soop", *AS_OF], "is 'soup' meant?"),
        (["explain"], "give a customer's id"),
        (["explain", "anna", ""], "is empty"),
        (["explain", "anna", "--model", "nowhere", *AS_OF], "nowhere"),
    ):
        ran = call(shop, *arguments)
        assert (ran.exit_code, ran.stdout) == (2, ""), arguments
        assert said in ran.stderr
        assert ran.stderr.count("\n") == 1
