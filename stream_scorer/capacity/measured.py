"""Measured costs for `plan`: of the file in this package, renewed by a result of `bench`.

measured.json is what `stream-scorer bench capacity --json` printed on the machine that it names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from stream_scorer.core.measured_costs import MEANINGS, STAGE, MeasuredCosts
from stream_scorer.errors import InputError

RENEW = f"write one by `stream-scorer bench {STAGE} --json > FILE`"
UNITS = {"us": 1e-6, "bytes": 1.0}


@dataclass(frozen=True)
class Measured:
    """costs: medians; low, high: the least and the greatest of each over the runs. where: machine
    and date, in words."""

    costs: MeasuredCosts
    low: MeasuredCosts
    high: MeasuredCosts
    where: str


def shipped() -> Measured:
    """Of the file in this package."""
    text = resources.files("stream_scorer.capacity").joinpath("measured.json").read_text("utf-8")
    return _measured(json.loads(text), "measured.json")


def read(path: Path) -> Measured:
    """Of a file that `bench --json` wrote. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "--measured", path, f"it can't be read: {error.strerror}; {RENEW}"
        ) from None
    except ValueError:
        raise InputError("--measured", path, f"it is not JSON; {RENEW}") from None
    return _measured(found, path)


def _measured(found: Any, path: object) -> Measured:
    """Raises InputError where a result is missing or is no positive number."""
    results = found.get("results") if isinstance(found, Mapping) else None
    if not isinstance(results, list):
        raise InputError("--measured", path, f"it has no list of results; {RENEW}")
    by_case = {
        result.get("case"): result
        for result in results
        if isinstance(result, Mapping) and result.get("stage") == STAGE
    }
    values: dict[str, dict[str, float]] = {"median": {}, "min": {}, "max": {}}
    for field in fields(MeasuredCosts):
        case = MEANINGS[field.name]
        result: Mapping[str, Any] | None = by_case.get(case)
        if result is None:
            raise InputError("--measured", path, f"it lacks the result {case!r}; {RENEW}")
        factor = UNITS.get(str(result.get("unit")), 0.0)
        for key, kept in values.items():
            value: Any = result.get(key)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not factor or not 0 <= value < math.inf:
                remedy = f"the {key} of {case!r} is not a number in us or bytes; {RENEW}"
                raise InputError("--measured", path, remedy)
            kept[field.name] = factor * value
    machine = found.get("machine") or {}
    where = f"{machine.get('processor', 'a machine that is not named')}, "
    where += f"{found.get('measured_on', 'on a day that is not named')}"
    median, low, high = (MeasuredCosts(**kept) for kept in values.values())
    return Measured(median, low, high, where)
