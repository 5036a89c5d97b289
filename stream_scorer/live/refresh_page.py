"""Some customers of a refresh: whose score is due, who of them moved, and their new records.

Records are read together with the watermarks: where Redis lost writes, and until the log has been
read again, nothing is published. Under exactly_once a page is one transaction, with the committed
offsets once more, so that the broker refuses a member whose partitions went to another. What was
published is noted after its confirmation: a crash between the two repeats a refresh.

Who was forgotten on request between the load and the note has a score of before in the output
topic, perhaps behind the tombstone of the request. The note shows it, and the score is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.forgetting import is_forgotten
from stream_scorer.core.features.state import NEVER, CustomerStates, take
from stream_scorer.core.freshness import (
    UNKNOWN_MODEL,
    Published,
    is_due,
    model_number,
    newest_source,
    packed_marks,
    published,
)
from stream_scorer.core.propensities import largest_change
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.refresh_store import RefreshStore
from stream_scorer.live.consumer import Consumer
from stream_scorer.live.refresh_round import Round


@dataclass(frozen=True)
class PageDone:
    """What came of B customers.

    outcomes: "refreshed", "unmoved", "fresh", "waiting" or "forgotten", "" where a customer is not
    this member's to look at. models: the version that their newest record was of before this.
    partitions: of their newest events. waited_seconds: for Kafka's confirmation.
    """

    outcomes: list[str]
    models: list[str]
    partitions: list[int]
    waited_seconds: float


class PageRefresher:
    """Refreshes pages of customers of one consumer. Not thread-safe.

    served_at: the model version that scored the event at (partition, offset). clock_ms: now, in ms
    since 1970 UTC. seconds: a clock that never goes back. `least_change` may be set at any time.
    """

    def __init__(
        self,
        consumer: Consumer,
        store: RefreshStore,
        served_at: Callable[[int, int], str],
        clock_ms: Callable[[], int],
        seconds: Callable[[], float],
    ) -> None:
        settings = consumer.settings
        self._consumer, self._store, self._served_at = consumer, store, served_at
        self._clock_ms, self._seconds = clock_ms, seconds
        self._to_take_back: list[str] = []  # whose score of before is in the output topic
        self._topic, self._memory = settings.kafka.input_topic, settings.memory()
        self.least_change = settings.refresh.least_change

    def refresh(self, now_round: Round, ids: list[str], model: str) -> PageDone | None:
        """Publish anew what is due of these customers, by `model`, and note it.

        Takes partitions out of the round whose store lost writes and is being filled again: its
        records are older than what was published of them. None where no partition is left.
        """
        self._take_back(now_round)
        # SCAN may give a key twice.
        states, marks, stored = self._store.load(list(dict.fromkeys(ids)))
        committed = self._consumer.source.acknowledged()
        now_round.partitions -= {
            p for (_, p), o in committed.items() if o > stored.get((self._topic, p), 0)
        }
        if not now_round.partitions:
            return None
        source = partition, offset = newest_source(states, self._topic)
        positions = list(zip(partition.tolist(), offset.tolist(), strict=True))
        served = [self._served_at(p, o) for p, o in positions]
        known = published(states, source, marks, served)
        as_of, outcome = self._outcomes(now_round, states, positions, known, model)
        due = np.flatnonzero(outcome == "unmoved")
        moved = due if now_round.everyone else self._moved(states, due, known, as_of, model)
        waited_seconds = 0.0
        if len(moved):
            some, at = take(states, moved), as_of[moved]
            mine = sorted((self._topic, p) for p in now_round.partitions)
            keys, values = self._consumer.scoring.records(some, at, mine, BatchReport())
            began = self._seconds()
            self._consumer.sink.deliver(keys, values, [], {tp: committed[tp] for tp in mine})
            waited_seconds = self._seconds() - began
            noted = packed_marks(at, (partition[moved], offset[moved]), model_number(model))
            ttl_ms = self._memory.time_to_live_ms
            self._to_take_back = self._store.note(some, noted, self._clock_ms(), ttl_ms)
            self._take_back(now_round)
        outcome[moved] = "refreshed"
        names = {model_number(version): version for version in (model, *served)}
        before = [names.get(number, UNKNOWN_MODEL) for number in known.model.tolist()]
        return PageDone(outcome.tolist(), before, partition.tolist(), waited_seconds)

    def _take_back(self, now_round: Round) -> None:
        """Publish behind a score of before what is true now: a tombstone, or the score of a
        customer who has come back since. Stays due until it is confirmed."""
        if not self._to_take_back:
            return
        states, _, _ = self._store.load(self._to_take_back)
        gone = states.arrays.newest_ms == NEVER
        keys = [states.customer_ids[row].encode() for row in np.flatnonzero(gone)]
        values: list[bytes | None] = [None] * len(keys)
        back = take(states, np.flatnonzero(~gone))
        committed = self._consumer.source.acknowledged()
        mine = [tp for tp in sorted(committed) if tp[1] in now_round.partitions]
        if len(back):
            as_of = np.maximum(back.arrays.newest_ms, self._clock_ms())
            scored = self._consumer.scoring.records(back, as_of, mine, BatchReport())
            keys, values = [*keys, *scored[0]], [*values, *scored[1]]
        self._consumer.sink.deliver(keys, values, [], {tp: committed[tp] for tp in mine})
        self._to_take_back = []

    def _outcomes(
        self,
        now_round: Round,
        states: CustomerStates,
        positions: list[tuple[int, int]],
        known: Published,
        model: str,
    ) -> tuple[Int64, npt.NDArray[np.str_]]:
        """The moment to score each of B customers as of (B,), and what to do (B,): "unmoved" where
        the score is due, "" where it is not this member's to look at, or why it is left out."""
        newest, now_ms = states.arrays.newest_ms, self._clock_ms()
        if now_round.as_of_ms is None:
            as_of = np.maximum(known.as_of_ms, np.maximum(newest, now_ms))
        else:
            as_of = np.full(len(states), now_round.as_of_ms, np.int64)
        committed = self._consumer.source.acknowledged()
        ends = {p: committed.get((self._topic, p), 0) for p in now_round.partitions} | {-1: 0}
        outcome = np.full(len(states), "fresh", "U9")
        due = is_due(known, model_number(model), now_round.before_ms, as_of)
        outcome[due & (newest <= as_of)] = "unmoved"
        outcome[is_forgotten(newest, as_of, self._memory)] = "forgotten"
        waits = [o >= ends.get(p, 0) for p, o in positions]
        outcome[np.array(waits, np.bool_)] = "waiting"
        # Its record is gone meanwhile, or its newest event came from another partition.
        gone = (newest == NEVER) | np.array([p not in ends for p, _ in positions], np.bool_)
        outcome[gone] = ""
        return as_of, outcome

    def _moved(
        self, states: CustomerStates, due: Int64, known: Published, as_of: Int64, model: str
    ) -> Int64:
        """Of the rows `due` (k,) those whose score moves by more than the least change, or is of
        another model, or the first, or was published with a trend of the shop that is not known any
        more. A canary's customers are not compared: they are few."""
        scoring, least = self._consumer.scoring, self.least_change
        same = known.model[due] == np.uint64(model_number(model))
        same &= known.as_of_ms[due] != NEVER
        same &= ~np.isin(due, scoring.canary_rows(states.customer_ids))
        again = due[same]
        if not least or not len(again):
            return due
        again = again[scoring.can_score_again(known.as_of_ms[again])]
        if not len(again):
            return due
        # What was published last, computed again: so that it need not be stored. Both at once,
        # since an engine's call costs as much as dozens of customers.
        twice = take(states, np.concatenate([again, again]))
        moments = np.concatenate([known.as_of_ms[again], as_of[again]])
        before, after = np.split(scoring.scores(twice, moments), 2)
        unmoved = again[largest_change(before, after, scoring.publish) <= least]
        return due[~np.isin(due, unmoved)]
