"""Which moments the rows of labelled snapshots stand at, as their manifests say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stream_scorer.core.events.batch import Int64, UInt8
from stream_scorer.core.labels.sampled_moments import row_kinds
from stream_scorer.result import Result


@dataclass(frozen=True)
class RowMoments(Result):
    """A row whose as_of is one of `cutoffs_ms` is as of that cut-off; of the others, one whose
    as_of is a whole multiple of `quiet_every_ms` (where that is not None) is as a refresh scores,
    and every other stands 1 ms after an event of its customer.

    cutoff_rows, event_rows, quiet_rows: how many there are of each. seed: of the sample of events
    and quiet moments, None where there was none. period_ms: from which moment on and before which
    one the sampled rows lie, None where the cut-offs say it. weights: of a row at a cut-off, after
    an event, and of a quiet one. Older snapshots do not have the last four keys.
    """

    cutoffs_ms: tuple[int, ...]
    cutoff_rows: int
    event_rows: int
    seed: int | None
    quiet_rows: int = 0
    quiet_every_ms: int | None = None
    period_ms: tuple[int, int] | None = None
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def of(cls, manifest: Mapping[str, Any] | None, rows: int) -> RowMoments | None:
        """From its `as_json`; rows: of all. Raises KeyError, TypeError, ValueError."""
        if manifest is None:
            return None
        period, weights = manifest.get("period_ms"), manifest.get("weights", (1.0, 1.0, 1.0))
        start, end = (0, 0) if period is None else period
        cutoff, event, quiet = weights
        found = cls(
            tuple(manifest["cutoffs_ms"]), manifest["cutoff_rows"], manifest["event_rows"],
            manifest["seed"], manifest.get("quiet_rows", 0), manifest.get("quiet_every_ms"),
            None if period is None else (start, end), (cutoff, event, quiet),
        )  # fmt: skip
        numbers = [
            *found.cutoffs_ms, found.cutoff_rows, found.event_rows, found.seed or 0,
            found.quiet_rows, found.quiet_every_ms or 0, start, end,
        ]  # fmt: skip
        if any(type(number) is not int for number in numbers):
            raise TypeError("row_moments has a number that is none")
        if not all(type(w) is float and math.isfinite(w) for w in weights):
            raise TypeError("row_moments has a weight that is none")
        older = {name: value for name, value in found.as_json().items() if name in manifest}
        all_rows = found.cutoff_rows + found.event_rows + found.quiet_rows
        if older != manifest or all_rows != rows:
            raise ValueError(f"row_moments does not describe its {rows} rows")
        return found

    def kinds(self, as_of_ms: Int64) -> UInt8:
        """(R,) uint8, of which kind the row at each moment is: `sampled_moments.KINDS`."""
        return row_kinds(as_of_ms, self.cutoffs_ms, self.quiet_every_ms or 0)
