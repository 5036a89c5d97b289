"""What a batch of events will do, before the vector of any customer is looked at.

Nothing here depends on stored vectors, so a replay prepares the next batch while the one before is
folded (past/prefetch.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stream_scorer.core.events.batch import DeadLetter, EventBatch
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.validation import EventRules, judge
from stream_scorer.core.features.fold import REMEMBER_ALL, stream_of
from stream_scorer.core.features.fold_plan import Memory, Stream
from stream_scorer.core.features.ignored_values import IgnoredCount, ignored_values
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.trend_events import TrendEvents


@dataclass(frozen=True, slots=True)
class PreparedEvents:
    """The valid events; the stream's customers are rows of customer_ids. dead_letters: of all
    records that are no event or no valid one. ignored: values that features can't use.
    ignored_events: how many events were of ignored customers; erased_events: how many the rules
    left out because their customers were forgotten on request. trend: what they add to the shop's
    trend, None where the declaration has none. watched: what `Preparation.watch` noted of them.
    """

    customer_ids: list[str]
    stream: Stream
    dead_letters: list[DeadLetter]
    ignored: Sequence[IgnoredCount] = ()
    ignored_events: int = 0
    trend: TrendEvents | None = None
    watched: Any = None
    erased_events: int = 0


@dataclass(frozen=True)
class Preparation:
    """What events must be like, and what they do; memory as in `fold.fold_events`. watch: what else
    is noted of the valid events, which is handed on."""

    rules: EventRules
    space: FeatureSpace
    memory: Memory = REMEMBER_ALL
    watch: Callable[[EventBatch, EventColumns], Any] | None = None

    def prepare(self, batch: DecodedBatch, now_ms: int) -> PreparedEvents:
        """Validate the events as of now_ms, and find the columns that each one touches."""
        events, dead_letters, ignored_events, erased_events = judge(batch, self.rules, now_ms)
        customer, ids = events.customer_id.intern()
        columns = EventColumns(events)
        stream, _ = stream_of(events, customer, self.space, self.memory, columns)
        ignored = ignored_values(self.space, columns)
        trend = TrendEvents.of(self.space, events, columns)
        watched = None if self.watch is None else self.watch(events, columns)
        return PreparedEvents(
            ids, stream, dead_letters, ignored, ignored_events, trend, watched, erased_events
        )
