"""`python sabotage.py KIND run -c FILE`: the consumer with one guarantee broken, for the harness to
catch; or unbroken, but suspended at the worst moment, or with a challenger that fails or is in a
hurry.

commit-before-save      offsets and watermark move before the records are saved: events get lost
commit-before-delivery  offsets are committed before propensities are delivered: old ones remain,
                        or none
ignore-offsets          an event is applied however often it comes: events get doubled
Each of these suspends itself (SIGSTOP) once, between the two steps that a kill is to come between:
kills at random moments may all come elsewhere.

stop-after-load         SIGSTOP once, with old records in hand
stop-before-delivery    SIGSTOP once, records saved and propensities not yet sent
stop-before-first-delivery  the same in the first batch, when the group has committed nothing yet

challenger-fails        whatever the challenger is to score
challenger-reports      of its challenger several times a second rather than once a minute
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from stream_scorer import cli
from stream_scorer.core.features import fold
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.sink import KafkaSink
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.live import challenger, challenger_report, pipeline
from stream_scorer.live.store_fold import StoreFold

STOP_AT_CALL = 10
BETWEEN_AT_CALL = 3
SENT_SECONDS = 0.5  # in which the client's threads have sent what was given to them


def between_steps() -> Callable[[], None]:
    """To be called between two steps: suspends this process once, when the first one is done."""
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        if count == BETWEEN_AT_CALL:
            time.sleep(SENT_SECONDS)
            os.kill(os.getpid(), signal.SIGSTOP)

    return call


def commit_before_save() -> None:
    between = between_steps()
    rightly = pipeline.Pipeline.__init__

    class Hasty(StoreFold):
        def __init__(self, source: Any, store: Any, *rest: Any) -> None:
            super().__init__(store, *rest)
            self._source = source

        def fold(self, prepared: Any, report: Any) -> Any:
            self._store.advance(report.next_offsets)
            self._source.commit(report.next_offsets)
            between()
            return super().fold(prepared, report)

    def wrongly(self: Any, source: Any, store: Any, *more: Any, **rest: Any) -> None:
        rightly(self, source, store, *more, **rest)
        self._fold = Hasty(source, store, rest["preparation"].space)

    pipeline.Pipeline.__init__ = wrongly  # type: ignore[method-assign]


def commit_before_delivery() -> None:
    between = between_steps()
    rightly = pipeline.Pipeline.__init__

    class Hasty:
        def __init__(self, source: Any, sink: Any) -> None:
            self._source, self._sink = source, sink

        def deliver(
            self, keys: Any, values: Any, dead_letters: Any, next_offsets: Any, headers: Any
        ) -> None:
            self._source.commit(next_offsets)
            between()
            self._sink.deliver(keys, values, dead_letters, next_offsets, headers)

    def wrongly(self: Any, source: Any, store: Any, scoring: Any, sink: Any, **rest: Any) -> None:
        rightly(self, source, store, scoring, Hasty(source, sink), **rest)

    pipeline.Pipeline.__init__ = wrongly  # type: ignore[method-assign]


def ignore_offsets() -> None:
    rightly = fold.fold_stream

    def wrongly(states: CustomerStates, *rest: Any, **more: Any) -> Any:
        a = states.arrays
        forgetful = a._replace(source_offset=np.full_like(a.source_offset, -1))
        applied = rightly(CustomerStates(states.customer_ids, forgetful), *rest, **more)
        new = applied.states.arrays
        for row in range(len(states)):  # a record's sources keep their order, new ones come after
            old = a.source_offset[a.source_at[row] : a.source_at[row + 1]]
            at = int(new.source_at[row])
            span = new.source_offset[at : at + len(old)]
            np.maximum(span, old, out=span)
        return applied

    fold.fold_stream = wrongly
    between, commit = between_steps(), KafkaSource.commit

    def late(self: Any, next_offsets: Any) -> None:
        between()
        commit(self, next_offsets)

    KafkaSource.commit = late  # type: ignore[method-assign]


def stopping(calls: int, rightly: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """`rightly`, with this process suspended once, at that call."""
    count = 0

    def call(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls and not after:
            os.kill(os.getpid(), signal.SIGSTOP)
        answer = rightly(*arguments)
        if count == calls and after:
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    return call


def stop_after_load() -> None:
    RedisStore.load = stopping(STOP_AT_CALL, RedisStore.load, after=True)  # type: ignore[method-assign]


def stop_before_delivery(call: int = STOP_AT_CALL) -> None:
    KafkaSink.deliver = stopping(call, KafkaSink.deliver, after=False)  # type: ignore[method-assign]


def challenger_fails() -> None:
    def score(_self: Any, _matrix: Any) -> Any:
        raise ValueError("sabotaged")

    challenger.Challenger._score = score  # type: ignore[assignment, method-assign]


def challenger_reports() -> None:
    vars(challenger_report)["REPORT_SECONDS"] = 0.2


KINDS = {
    "commit-before-save": commit_before_save,
    "commit-before-delivery": commit_before_delivery,
    "ignore-offsets": ignore_offsets,
    "stop-after-load": stop_after_load,
    "stop-before-delivery": stop_before_delivery,
    "stop-before-first-delivery": lambda: stop_before_delivery(1),
    "challenger-fails": challenger_fails,
    "challenger-reports": challenger_reports,
}

if __name__ == "__main__":
    KINDS[sys.argv.pop(1)]()
    cli.main()
