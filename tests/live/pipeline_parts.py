"""What tests of the pipeline are made of: events, a log that is source and sink, a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.propensity_encoder import (
    PublishedPropensities,
    decode_propensities,
)
from stream_scorer.core.events.batch import DeadLetter, RecordBatch
from stream_scorer.core.events.validation import EventRules
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.features.state_codec import pack
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.live.pipeline import Pipeline
from stream_scorer.live.scoring import Scoring
from stream_scorer.model.engines.native import NativeEngine

NOW_MS = 1_700_000_000_000
CATEGORIES = ("soup", "bread", "milk", "tea")
SPACE = FeatureSpace.compile(
    [
        Feature("bought", by=("category_id",), half_lives=("2d", "14d")),
        Feature("total", half_lives=("7d",)),
    ],
    {"category_id": CATEGORIES},
)
RULES = EventRules(frozenset({"view", "purchase"}), frozenset(CATEGORIES), True, 60_000, 10)


def event(customer: str, category: str | None = "soup", **fields: Any) -> dict[str, Any]:
    at = fields.pop("at", NOW_MS - 1000)
    return {"event_id": "e", "customer_id": customer, "event_type": "purchase",
            "category_id": category, "occurred_at": at, **fields}  # fmt: skip


def batch(values: Sequence[bytes | None], first_offset: int = 0, partition: int = 0) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        list(values), [b"key"] * n, [("events", partition)], np.zeros(n, np.int32),
        np.arange(first_offset, first_offset + n), np.full(n, NOW_MS),
    )  # fmt: skip


class Log:
    """A source of given batches and a sink in one: what was delivered and committed, in order."""

    def __init__(self, *batches: RecordBatch) -> None:
        self._batches: Iterator[RecordBatch] = iter(batches)
        self.story: list[str] = []
        self.values: list[bytes] = []
        self.dead_letters: list[DeadLetter] = []
        self.headers: dict[bytes, Any] = {}
        self.failures: list[Exception] = []
        self.backlog = False
        self.polled: Callable[[], object] = lambda: None
        self.claimed = {0: 0, 1: 0}  # by partition
        self.offsets: dict[tuple[str, int], int] = {}

    def poll(self, *, ahead: bool = False) -> RecordBatch:
        if ahead and not self.backlog:
            return batch([])
        self.polled()
        return next(self._batches, batch([]))

    def claims(self) -> dict[tuple[str, int], int]:
        return {("events", partition): claim for partition, claim in self.claimed.items()}

    def committed(self) -> dict[tuple[str, int], int]:
        return self.offsets

    def commit(self, next_offsets: dict[tuple[str, int], int]) -> None:
        self.story.append(f"commit {next_offsets['events', 0]}")

    def leader_epochs(self, next_offsets: Any) -> dict[tuple[str, int], int]:
        return dict.fromkeys(next_offsets, 3)

    def deliver(
        self, keys: Any, values: Any, dead_letters: Any, next_offsets: Any, headers: Any
    ) -> None:
        self.headers |= headers
        if self.failures:
            raise self.failures.pop()
        self.story.append(f"deliver {len(values)}")
        self.values += values
        self.dead_letters += dead_letters

    @property
    def published(self) -> PublishedPropensities:
        return decode_propensities(self.values)


def pipeline(
    log: Log, store: Any, engine: NativeEngine, mode: Any = "all", worker: Executor | None = None,
    traces: Any = None, precision: Any = "float32",
) -> Pipeline:  # fmt: skip
    policy = PublishPolicy(mode, top_k=2, precision=precision)
    return Pipeline(
        log, store, Scoring(engine, SPACE, policy, lambda: NOW_MS), log,
        decoder=Decoder(lambda _key: None, max_record_bytes=1000),
        preparation=Preparation(RULES, SPACE), clock_ms=lambda: NOW_MS, worker=worker,
        traces=traces,
    )  # fmt: skip


def records_of(store: MemoryStore) -> list[bytes]:
    return [r for states in store.scan() for r in pack(states, SPACE.fingerprint)]


class NotedStore(MemoryStore):
    """Writes into the story of its log what it was asked to write, in order."""

    def __init__(self, story: list[str]) -> None:
        super().__init__(SPACE.fingerprint)
        self._story = story

    def save(self, states: Any, rows: Any, made_from: Any = None) -> Any:
        self._story.append(f"save {len(rows)}")
        return super().save(states, rows, made_from)

    def advance(self, next_offsets: Any, epochs: Any = None) -> None:
        self._story.append(f"advance {next_offsets['events', 0]}")
        super().advance(next_offsets, epochs)


class Overtaken(MemoryStore):
    """Another owner writes the whole stream just before our first save."""

    def __init__(self, theirs: MemoryStore, times: int) -> None:
        super().__init__(SPACE.fingerprint)
        self._theirs, self._times = theirs, times

    def save(self, states: Any, rows: Any, made_from: Any = None) -> Any:
        if self._times:
            self._times -= 1
            for newer in self._theirs.scan():
                super().save(newer, np.arange(len(newer)))
        return super().save(states, rows, made_from)
