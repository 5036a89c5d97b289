"""Which rows a labelled snapshot is to have, checked before any event is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.labels.event_rows import ROWS_AT, EventSample, MomentCounts, RowsAt
from stream_scorer.errors import InputError
from stream_scorer.io.files.row_moments import RowMoments

MOST_SEED = 2**63 - 1  # the largest whole number that every reader of a manifest takes


@dataclass(frozen=True)
class RowsAsked:
    """cutoffs_ms: ascending. rows_at: at cut-offs, after events between them, or both. seed: of the
    sample of events.
    """

    cutoffs_ms: tuple[int, ...]
    rows_at: RowsAt
    seed: int

    @classmethod
    def of(cls, cutoffs_ms: Sequence[int], rows_at: str, seed: int) -> RowsAsked:
        """Raises InputError for what can't be asked for."""
        cutoffs = tuple(sorted(set(cutoffs_ms)))
        found: RowsAt | None = next((kind for kind in ROWS_AT if kind == rows_at), None)
        if found is None:
            raise InputError("--rows-at", rows_at, "give cutoffs, events or both")
        if not 0 <= seed <= MOST_SEED:
            raise InputError("--seed", seed, f"give a whole number from 0 to {MOST_SEED}")
        if found != "cutoffs" and len(cutoffs) < 2:
            remedy = (
                f"is one moment, and rows as of events (--rows-at {found}) lie between the first "
                "cut-off and the last; give two or more"
            )
            raise InputError("--cutoffs", moment_text(cutoffs[0]), remedy)
        return cls(cutoffs, found, seed)

    @property
    def at_cutoffs(self) -> bool:
        """Whether rows as of cut-offs are asked for."""
        return self.rows_at != "events"

    @property
    def at_events(self) -> bool:
        """Whether rows as of events are asked for."""
        return self.rows_at != "cutoffs"

    def sample(self, counts: MomentCounts) -> EventSample:
        """Which moments after events are rows. Raises InputError where there is none."""
        if not counts.event_moments:
            remedy = (
                f"and {moment_text(self.cutoffs_ms[-1])} have no event between them; give cut-offs "
                "further apart, or --rows-at cutoffs"
            )
            raise InputError("--cutoffs", moment_text(self.cutoffs_ms[0]), remedy)
        return EventSample.like_cutoffs(self.cutoffs_ms, self.seed, counts)

    def written(self, cutoff_rows: int, event_rows: int) -> RowMoments:
        """What the manifest says."""
        seed = self.seed if self.at_events else None
        return RowMoments(self.cutoffs_ms, cutoff_rows, event_rows, seed)
