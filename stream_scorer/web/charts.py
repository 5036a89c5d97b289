"""Where lines and bars of small charts run, in units of their own boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_scorer.customers.explanation import ExplainedPropensity

WIDTH, HEIGHT = 240, 48


@dataclass(frozen=True)
class Area:
    """Points of a line and of the area below it, as SVG takes them, in a box of WIDTH x HEIGHT;
    largest: the value at the upper edge."""

    line: str
    area: str
    largest: float


def area(values: Sequence[float]) -> Area:
    """Of values at even distances, from the left edge to the right one; 0 is the lower edge."""
    largest = max(values, default=0.0)
    across, up = WIDTH / max(len(values) - 1, 1), (HEIGHT - 4) / (largest or 1.0)
    points = [f"{i * across:.1f},{HEIGHT - 1 - up * v:.1f}" for i, v in enumerate(values)]
    line = " ".join(points)
    return Area(line, f"0,{HEIGHT} {line} {WIDTH},{HEIGHT}", largest)


def largest_amount(one: ExplainedPropensity) -> float:
    """The amount whose bar is the longest, without its sign."""
    amounts = (one.base, one.history, one.other_amount, *(i.amount for i in one.inputs))
    return max(abs(amount) for amount in amounts)


def bar(value: float, largest: float) -> float:
    """The length of a bar in percent; never nothing where there is something."""
    if value <= 0 or largest <= 0:
        return 0.0
    return round(max(100 * min(value / largest, 1.0), 0.8), 2)
