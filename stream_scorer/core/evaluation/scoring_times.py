"""At which moments of the past a backtest scores which customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_scorer.core.features.space import parse_duration_ms
from stream_scorer.core.labels.as_of import KnownEvents, Moments, after_events, at_cutoffs
from stream_scorer.errors import InputError

EVENT = "event"
GIVEN_CUTOFFS = "given cut-offs"


@dataclass(frozen=True)
class ScoringTimes:
    """From from_ms inclusive to to_ms exclusive, ms since 1970 UTC.

    every: a duration such as "12h", or `EVENT`: after every event, as live. cutoffs_ms: these
    moments in place of `every`.
    """

    from_ms: int
    to_ms: int
    every: str
    cutoffs_ms: tuple[int, ...] = ()

    @property
    def every_in_words(self) -> str:
        """How often, for a report."""
        return GIVEN_CUTOFFS if self.cutoffs_ms else self.every

    def moments(self, known: KnownEvents) -> Moments:
        """Every (customer, moment) to score: only customers with an event known before it.

        Raises InputError where there is none, or where `every` never ends; ConfigError where it is
        no duration.
        """
        found = self._moments(known)
        if not len(found.as_of_ms):
            remedy = "no customer is known by then; choose a later time, or give older events"
            raise InputError("--from", np.datetime64(self.from_ms, "ms"), remedy)
        return found

    def _moments(self, known: KnownEvents) -> Moments:
        if self.cutoffs_ms:
            return at_cutoffs(known, sorted(set(self.cutoffs_ms)))
        if self.every == EVENT:
            return after_events(known, self.from_ms, self.to_ms)
        step = parse_duration_ms(self.every)
        if not step:  # "inf", which only half-lives can be
            raise InputError("--every", self.every, 'give a duration such as "12h", or "event"')
        return at_cutoffs(known, range(self.from_ms, self.to_ms, step))
