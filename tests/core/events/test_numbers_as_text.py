"""One number is one text, whatever format it came in."""

from __future__ import annotations

import pytest

from stream_scorer.core.events.numbers_as_text import is_exact, number_as_text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        (-0.0, "0"),
        (2.5, "2.5"),
        (1e-7, "1e-07"),
        (float(2**53 - 1), "9007199254740991"),
        (float(2**53), "9007199254740992.0"),
        (2**53 + 1, "9007199254740993"),
        (True, "true"),
        (False, "false"),
        (float("inf"), "inf"),
        (float("nan"), None),
    ],
)
def test_whole_numbers_are_written_as_integers(number: float, text: str | None) -> None:
    assert number_as_text(number) == text


@pytest.mark.parametrize("number", [0.5, 2.0**53, -(2.0**53), float("inf"), float("nan")])
def test_a_double_that_may_stand_for_several_ids_is_none(number: float) -> None:
    assert not is_exact(number)
    assert is_exact(2.0**53 - 1)
