"""Which moments a model's training rows stood at, and whether it fits those that are scored.

A consumer scores customers just after their events, and, where it refreshes, at any other moment.
Rows as of cut-offs have customers of both kinds: some have just acted, others have been quiet for
long; so have quiet rows. Rows just after events have none of the second (docs/decisions/0021 has
the figures).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# In the manifest's `training`.
CUTOFF_ROWS, EVENT_ROWS, QUIET_ROWS = "cutoff_rows", "event_rows", "quiet_rows"
REMEDY = "replay with quiet rows or cut-offs as well, and train again"


def trained_moments(cutoff_rows: int, event_rows: int, quiet_rows: int) -> dict[str, int]:
    """What the manifest's `training` says: how many rows stood at cut-offs, after events, and where
    a refresh scores."""
    return {CUTOFF_ROWS: cutoff_rows, EVENT_ROWS: event_rows, QUIET_ROWS: quiet_rows}


def moments_it_lacks(training: Mapping[str, Any], *, refreshes: bool) -> str | None:
    """What is scored although no training row was like it; None where nothing is.

    training: as a manifest says it; an older one says nothing of moments, and None is returned.
    refreshes: whether quiet customers are scored as well.
    """
    if not refreshes or CUTOFF_ROWS not in training or EVENT_ROWS not in training:
        return None
    quiet = training[CUTOFF_ROWS] + training.get(QUIET_ROWS, 0)
    if training[EVENT_ROWS] and not quiet:
        return (
            "all training rows stand just after events, but [refresh] also scores quiet customers"
        )
    return None
