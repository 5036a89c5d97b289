"""Writes alerts.yml from alerts.template.yml with the thresholds of a file:

    python deploy/prometheus/render_alerts.py [THRESHOLDS [ALERTS]]

by default those beside this file. It needs Python alone, from 3.11 on (3.10: with tomli). A file of
thresholds may name only those that differ from thresholds.toml.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
TEMPLATE, THRESHOLDS, ALERTS = (
    HERE / name for name in ("alerts.template.yml", "thresholds.toml", "alerts.yml")
)
SCHEMA = HERE.parent / "helm" / "stream-scorer" / "values.schema.json"
HEAD = """\
# Rendered from alerts.template.yml with thresholds.toml by `make manifests`, or without make by
# deploy/prometheus/render_alerts.py: change those.
#
"""
_MARK = re.compile(r"@([a-z_]+)@")


class ThresholdError(Exception):
    """A threshold that there is not, or that is out of its bounds; says which, and the remedy."""


def rendered(template: str, thresholds: Mapping[str, Any]) -> str:
    """The rules, with each mark `@name@` replaced by the threshold of that name."""
    return HEAD + _MARK.sub(lambda mark: str(thresholds[mark[1]]), template)


def read(path: Path) -> dict[str, Any]:
    """All thresholds: those of the file, and the defaults of the others. Raises ThresholdError."""
    found = tomllib.loads(THRESHOLDS.read_text(encoding="utf-8"))
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ThresholdError(f"{path}: it can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ThresholdError(f"{path}: it is not TOML: {error}") from None
    bounds = _bounds()
    for name, value in own.items():
        if name not in found:
            raise ThresholdError(f"{name}: {value}: there is no such threshold: see {THRESHOLDS}")
        _check(name, value, bounds.get(name, {}))
    return {**found, **own}


def _bounds() -> dict[str, dict[str, Any]]:
    """What the chart's schema says of each threshold, by its name here."""
    rule = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["prometheusRule"]
    found = rule["properties"]["thresholds"]["properties"]
    return {re.sub(r"[A-Z]", lambda c: f"_{c[0].lower()}", name): of for name, of in found.items()}


def _check(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    """Raises ThresholdError where a value is of another type than its default, or out of bounds."""
    if not bounds:
        if not isinstance(value, str) or re.search(r"[\n\\]", value):
            raise ThresholdError(f"{name}: {value!r}: give a text of one line, without a backslash")
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    least, most = bounds["minimum"], bounds["maximum"]
    if not number or not least <= value <= most:
        raise ThresholdError(f"{name}: {value!r}: give a number from {least} to {most}")


def main(arguments: list[str]) -> int:
    thresholds = Path(arguments[0]) if arguments else THRESHOLDS
    alerts = Path(arguments[1]) if len(arguments) > 1 else ALERTS
    try:
        text = rendered(TEMPLATE.read_text(encoding="utf-8"), read(thresholds))
    except ThresholdError as error:
        print(error, file=sys.stderr)
        return 2
    alerts.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
