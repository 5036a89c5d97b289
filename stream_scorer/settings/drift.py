"""The settings of [drift]: how what is scored is compared with what training looked like."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stream_scorer.core.drift.stability import ACT
from stream_scorer.core.drift.summary import HOUR_MS, MOST_RATIO, DriftLimits
from stream_scorer.core.features.space import parse_duration_ms
from stream_scorer.settings.connections import Duration, Section

MOST_WINDOW_HOURS = 24 * 31


class DriftSettings(Section):
    """Which customers are sampled, and from which values on there is something to do."""

    one_in: Annotated[int, Field(ge=0, le=1_000_000)] = 16
    window: Duration = "1d"
    max_psi: Annotated[float, Field(gt=0, le=100)] = ACT
    max_ratio: Annotated[float, Field(gt=1, le=100)] = MOST_RATIO

    @property
    def window_hours(self) -> int:
        """The window in whole hours, from 1 to `MOST_WINDOW_HOURS`."""
        window_ms = parse_duration_ms(self.window) or MOST_WINDOW_HOURS * HOUR_MS
        return max(1, min(-(-window_ms // HOUR_MS), MOST_WINDOW_HOURS))

    @property
    def limits(self) -> DriftLimits:
        """From which values on there is something to do."""
        return DriftLimits(self.max_psi, self.max_ratio)
