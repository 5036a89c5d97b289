"""Numbers where text is wanted, such as ids: written alike, whatever format they came in.

pandas makes doubles of whole numbers in a column with gaps, and JSON has one kind of number. So a
double that is whole is written as the integer it is, "5" and never "5.0": one customer has one id
in every file.
"""

from __future__ import annotations

import math

# From here on not every integer is a double, so a double may stand for the id beside it.
EXACT_DOUBLES = 2**53
EXACT_FLOATS = 2**24  # the same for numbers of 32 bits
# What to do where neither text nor such a number was given.
IDS_REMEDY = "give text or whole numbers"
ATTRIBUTES_REMEDY = "give text, numbers or booleans"


def number_as_text(number: int | float) -> str | None:
    """true and false for booleans, whole numbers in decimal, other doubles as Python writes them.

    None for NaN, by which pandas and others say that nothing is there.
    """
    if isinstance(number, bool):
        return "true" if number else "false"
    if isinstance(number, int):
        return str(number)
    if math.isnan(number):
        return None
    if is_exact(number):
        return str(int(number))
    return repr(number)


def is_exact(number: float, exact_below: int = EXACT_DOUBLES) -> bool:
    """Whether a double is a whole number, and no other whole number is rounded to it.

    exact_below: `EXACT_FLOATS` for a number that was written in 32 bits.
    """
    return number.is_integer() and abs(number) < exact_below
