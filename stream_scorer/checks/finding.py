"""What a check of `stream-scorer doctor` yields; one with a remedy is a problem, or a warning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stream_scorer.result import Result


@dataclass(frozen=True)
class Finding(Result):
    """Result of one check: what was found, and the remedy where that is a problem.

    warning: it works as it is, and would be better with the remedy.
    """

    check: str
    found: str
    remedy: str | None = None
    warning: bool = False

    @property
    def ok(self) -> bool:
        """Whether it is no problem."""
        return self.remedy is None or self.warning

    def as_json(self) -> dict[str, Any]:
        """With "ok", so that nobody has to know what a remedy of null means."""
        return {
            "check": self.check, "ok": self.ok, "found": self.found, "remedy": self.remedy,
            "warning": self.warning,
        }  # fmt: skip
