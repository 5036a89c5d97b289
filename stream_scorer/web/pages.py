"""Templates of the pages, and what they are filled with."""

from __future__ import annotations

from typing import Any

import jinja2

from stream_scorer.core.drift.stability import ACT, WATCH
from stream_scorer.web import charts, words

FILTERS = {
    "count": words.count, "rate": words.rate, "duration": words.duration,
    "milliseconds": words.milliseconds, "size": words.size, "share": words.share,
    "signed": words.signed, "clock": words.clock, "moment_of": words.moment_of,
    "ranges": words.ranges, "measure": words.measure, "area": charts.area,
    "largest_amount": charts.largest_amount,
}  # fmt: skip


class Pages:
    """Pages of one server. standing: what every page shows, such as the group's name."""

    def __init__(self, **standing: Any) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("stream_scorer.web"), autoescape=True,
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._environment.filters |= FILTERS
        self._environment.globals |= {
            "bar": charts.bar, "act_psi": ACT, "watch_psi": WATCH, **standing,
        }  # fmt: skip

    def render(self, template: str, **context: Any) -> str:
        """template: its name, as status.html."""
        return self._environment.get_template(template).render(**context)
