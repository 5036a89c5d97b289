"""Print what pip installs with the package and its tests where MXNet has no wheel, and numpy 2.

`make test-numpy2` makes an environment of it: pyproject.toml's requirements, with markers evaluated
as on a processor for which the package installs no MXNet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
ELSEWHERE = {"platform_machine": "aarch64"}
EXTRAS = ("test", "onnx", "reports", "demo")


def requirements() -> list[str]:
    """One line for each, without its marker."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [line for extra in EXTRAS for line in extras[extra]]
    found = []
    for line in cast(list[str], lines):
        one = Requirement(line)
        if one.name == project["name"] or (one.marker and not one.marker.evaluate(ELSEWHERE)):
            continue
        one.marker = None
        found.append(str(one))
    return [*found, "numpy>=2"]


if __name__ == "__main__":
    print("\n".join(requirements()))
