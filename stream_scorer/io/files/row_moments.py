"""Which moments the rows of labelled snapshots stand at, as their manifests say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stream_scorer.result import Result


@dataclass(frozen=True)
class RowMoments(Result):
    """A row whose as_of is one of `cutoffs_ms` is as of that cut-off, every other 1 ms after an
    event of its customer. cutoff_rows and event_rows: how many there are of each. seed: of the
    sample of events, None where there was none.
    """

    cutoffs_ms: tuple[int, ...]
    cutoff_rows: int
    event_rows: int
    seed: int | None

    @classmethod
    def of(cls, manifest: Mapping[str, Any] | None, rows: int) -> RowMoments | None:
        """From its `as_json`; rows: of all. Raises KeyError, TypeError, ValueError."""
        if manifest is None:
            return None
        found = cls(
            tuple(manifest["cutoffs_ms"]), manifest["cutoff_rows"], manifest["event_rows"],
            manifest["seed"],
        )  # fmt: skip
        numbers = [*found.cutoffs_ms, found.cutoff_rows, found.event_rows, found.seed or 0]
        if any(type(number) is not int for number in numbers):
            raise TypeError("row_moments has a number that is none")
        if found.as_json() != manifest or found.cutoff_rows + found.event_rows != rows:
            raise ValueError(f"row_moments does not describe its {rows} rows")
        return found
