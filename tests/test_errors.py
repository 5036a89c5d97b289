"""Errors show a value as it is written in a config, not as Python shows it."""

from __future__ import annotations

import pytest

from stream_scorer.errors import InputError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(not given)"), (True, "'true'"), (["view", [1]], "'[\"view\", [1]]'"),
        (("view", "buy"), "'view, buy'"), ((), "(none)"),
        ("soup", "'soup'"), (3, "'3'"),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_people_write_it(value: object, shown: str) -> None:
    assert str(InputError("field", value, "remedy")) == f"field: {shown}: remedy"
