"""Faults put into the code by hand, each with the tests that must notice it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
LIST = Path(__file__).parent / "mutants.toml"


@dataclass(frozen=True)
class Mutant:
    """One fault; the fields are those of mutants.toml."""

    name: str
    file: str
    before: str
    after: str
    tests: list[str]
    schedules: int = 0  # how many simulated ones find it, 0 where the simulation does not

    def occurrences(self, root: Path) -> int:
        """How often the text to be replaced stands in its file under `root`."""
        return (root / self.file).read_text(encoding="utf-8").count(self.before)

    def put_into(self, root: Path) -> None:
        """Replace the text in the copy of the sources under `root`."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")


def listed() -> list[Mutant]:
    """All mutants of mutants.toml."""
    return [Mutant(**fields) for fields in tomllib.loads(LIST.read_text("utf-8"))["mutants"]]
