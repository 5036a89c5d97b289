"""What is stored of a customer and follows from it now: vector, positions, propensities.

A column's value stands there twice: `value` as of the moment, in the unit of its words, and
`model_value`, after transform and scale, as the model multiplies it. A record keeps a fading sum as
of a landmark, and of a time only the moments of events; `stored`, `first_event` and `newest_event`
are those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features import csr
from stream_scorer.core.features.erasure import boundary_sources, erased_ms
from stream_scorer.core.features.feature_words import column_in_words, value_in_words
from stream_scorer.core.features.moments import stored_moments
from stream_scorer.core.features.space import Block, FeatureSpace
from stream_scorer.core.features.state import (
    NEVER,
    CustomerStates,
    Float32,
    StateArrays,
    take,
    topic_hash,
)
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.core.propensities import PublishPolicy, select
from stream_scorer.io.stores.customer_records import StoredCustomers
from stream_scorer.model.engines.engine import Engine
from stream_scorer.result import Result

MOST_WORDS = 65_536  # columns whose words are kept: about 20 MB


@dataclass(frozen=True)
class ShownPropensity(Result):
    """class_index, in JSON `class`: 1 and up; action: the event types that it stands for."""

    category_id: str
    class_index: int
    action: str
    probability: float

    def as_json(self) -> dict[str, Any]:
        """`class` is no name of a field in Python."""
        found = super().as_json()
        return {"class" if key == "class_index" else key: value for key, value in found.items()}


class Propensities(NamedTuple):
    """One customer's, most probable first."""

    model_version: str
    entries: tuple[ShownPropensity, ...]


class ChosenPropensities(NamedTuple):
    """One customer's as numbers, most probable first: positions among the categories of a model,
    classes from 1 up, and probabilities."""

    category: list[int]
    class_index: list[int]
    probability: list[float]


@dataclass(frozen=True)
class ShownSource(Result):
    """Up to which offset of a partition the record holds the customer's events. topic: null where
    it is another one than kafka.input_topic, such as that of replayed event files; the record has
    the hash of its name alone.
    """

    topic: str | None
    topic_hash: str
    partition: int
    offset: int


@dataclass(frozen=True)
class ShownColumn(Result):
    """One column that is not empty. value: as of the moment, as `words` says; value_in_words: in a
    unit that people know, such as "76.2 days"; model_value: after transform and scale. stored: the
    number in the record, null where it is of the moment, or a moment itself. first_event,
    newest_event: null where the record keeps no such moment.
    """

    column: int
    name: str
    words: str
    kind: str
    value: float
    model_value: float
    stored: float | None
    first_event: str | None
    newest_event: str | None
    value_in_words: str


@dataclass(frozen=True)
class CustomerShown(Result):
    """One customer; where `found` is false all else but erased_until is empty or null.

    as_of: the moment of vector and propensities. newest_event: of those that the record holds, and
    age_seconds from it to as_of. forgotten: whether the customer has been silent for longer than
    store.time_to_live_seconds as of then, so that the next event begins a new record;
    forgotten_from: when that is so. expires_in_seconds: until Redis deletes the record, null where
    it never does, or where this user may not ask (expiry_known). model_version: "" where no model
    computed propensities. erased_until: of a customer who was erased on request, the moment up to
    which nothing counts any more.
    """

    customer_id: str
    found: bool
    as_of: str
    newest_event: str | None = None
    age_seconds: float | None = None
    forgotten: bool = False
    forgotten_from: str | None = None
    record_bytes: int = 0
    expires_in_seconds: float | None = None
    expiry_known: bool = True
    sources: tuple[ShownSource, ...] = ()
    model_version: str = ""
    propensities: tuple[ShownPropensity, ...] = ()
    columns: tuple[ShownColumn, ...] = ()
    erased_until: str | None = None


@dataclass(frozen=True)
class ShownCustomers(Result):
    """The customers that were asked for, in that order. not_found: how many are not known.
    namespace_known: whether anything was ever read into the namespace. model_problem: why no
    propensities were computed, or not by the announced model; "" where all is well.
    """

    namespace: str
    customers: tuple[CustomerShown, ...]
    not_found: int
    namespace_known: bool
    model_problem: str


class VectorWords:
    """Customers' records as `CustomerShown`. Safe for several threads."""

    def __init__(self, space: FeatureSpace, input_topic: str, ttl_ms: int) -> None:
        self._space, self._ttl_ms = space, ttl_ms
        self._topics = {topic_hash(input_topic): input_topic}
        # The same columns, before transform and scale.
        blocks = tuple(replace(b, transform="none", scale=1.0) for b in space.blocks)
        self._plain = FeatureSpace(space.features, space.vocabularies, blocks)
        self._starts = np.array([b.start for b in space.blocks])
        self._stored = {
            number: (one.blocks[0], one.first)
            for one in stored_moments(space)
            for number in one.blocks
        }
        self._words: dict[int, tuple[str, str]] = {}

    def shown(
        self,
        stored: StoredCustomers,
        row: int,
        matrix: sparse.csr_matrix,
        as_of_ms: int,
        *,
        forgotten: bool,
        propensities: Propensities | None,
    ) -> CustomerShown:
        """Row `row` of the stored customers; matrix (B, F): their vectors as of their moments."""
        customer_id, as_of = stored.states.customer_ids[row], moment_text(as_of_ms)
        states = take(stored.states, np.array([row]))
        newest_ms = int(states.arrays.newest_ms[0])
        erased_until = erased_until_of(states)
        if newest_ms == NEVER:
            return CustomerShown(customer_id, False, as_of, erased_until=erased_until)
        left_ms = stored.expires_in_ms[row]
        version, entries = propensities or ("", ())
        return CustomerShown(
            customer_id, True, as_of,
            newest_event=moment_text(newest_ms),
            age_seconds=(as_of_ms - newest_ms) / 1000,
            forgotten=forgotten,
            forgotten_from=moment_text(newest_ms + self._ttl_ms) if self._ttl_ms else None,
            record_bytes=stored.record_bytes[row],
            expires_in_seconds=None if left_ms is None else left_ms / 1000,
            expiry_known=stored.expiry_known,
            sources=tuple(self._sources(states.arrays)),
            model_version=version,
            propensities=entries,
            columns=self._columns(states, matrix[row], as_of_ms),
            erased_until=erased_until,
        )  # fmt: skip

    def name_and_words(self, column: int) -> tuple[str, str]:
        """A column's name, and what it holds as a sentence."""
        found = self._words.get(column)
        if found is None:
            if len(self._words) >= MOST_WORDS:
                self._words = {}  # those that are asked for often are there again soon
            found = self._space.column_name(column), column_in_words(self._space, column)
            self._words[column] = found
        return found

    def value_in_words(self, column: int, value: float) -> str:
        """Of a column before transform and scale."""
        return value_in_words(self._space.blocks[self._block_of(column)], value)

    def values(self, states: CustomerStates, as_of_ms: int) -> list[float]:
        """Of one customer, before transform and scale, in the order of the CSR row's entries."""
        found: list[float] = csr.build(states, self._plain, np.array([as_of_ms])).data.tolist()
        return found

    def _columns(
        self, states: CustomerStates, vector: sparse.csr_matrix, as_of_ms: int
    ) -> tuple[ShownColumn, ...]:
        """Those whose newest event is known first, newest first; those of the moment last."""
        found = []
        for column, value, model_value in zip(
            vector.indices.tolist(),
            self.values(states, as_of_ms),
            vector.data.tolist(),
            strict=True,
        ):
            number = self._block_of(column)
            block = self._space.blocks[number]
            kept = self._kept(states.arrays, number, block, column)
            newest = kept.newest_ms if kept.newest_ms is not None else kept.first_ms
            of_moment = block.kind in ("calendar", "trend")
            order = (of_moment, newest is None, -(newest or 0), column)
            shown = ShownColumn(
                column, *self.name_and_words(column), block.kind, value, model_value, kept.value,
                None if kept.first_ms is None else moment_text(kept.first_ms),
                None if kept.newest_ms is None else moment_text(kept.newest_ms),
                value_in_words(block, value),
            )  # fmt: skip
            found.append((order, shown))
        return tuple(shown for _, shown in sorted(found, key=lambda one: one[0]))

    def _block_of(self, column: int) -> int:
        return int(np.searchsorted(self._starts, column, side="right")) - 1

    def _kept(self, a: StateArrays, number: int, block: Block, column: int) -> _Kept:
        """What the record of the one customer in `a` keeps for a column of block `number`."""
        if block.kind in ("calendar", "trend"):
            return _Kept()
        holder, keeps_first = self._stored.get(number, (number, False))
        at = column - block.start + self._space.blocks[holder].start
        sums = np.flatnonzero(a.sum_column == at)
        stamps = np.flatnonzero(a.stamp_column == at)
        value = float(a.sum_value[sums[0]]) if len(sums) else None
        if block.kind == "latest" and len(stamps):
            value = float(a.stamp_value[stamps[0]])
        moments = a.stamp_ms[stamps].tolist()
        first = moments[0] if keeps_first and moments else None
        # Where both are kept, the first stands before the newest.
        newest = moments[-1] if len(moments) > (1 if keeps_first else 0) else None
        return _Kept(value, first, newest)

    def _sources(self, a: StateArrays) -> list[ShownSource]:
        """By topic and partition."""
        kept = ~boundary_sources(a)
        found = [
            ShownSource(self._topics.get(topic), f"{topic:08x}", partition, offset)
            for topic, partition, offset in zip(
                a.source_topic[kept].tolist(), a.source_partition[kept].tolist(),
                a.source_offset[kept].tolist(), strict=True,
            )
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one.topic is None, one.topic_hash, one.partition))


class _Kept(NamedTuple):
    value: float | None = None
    first_ms: int | None = None
    newest_ms: int | None = None


def chosen_of(scores: Float32, policy: PublishPolicy) -> list[ChosenPropensities]:
    """Of each row of scores (B, N, C), what the policy chooses."""
    chosen = select(scores, policy)
    category, class_index = chosen.category.tolist(), chosen.class_index.tolist()
    probability = chosen.probability.tolist()
    return [
        ChosenPropensities(
            category[first:last], class_index[first:last], probability[first:last]
        )
        for first, last in pairwise(chosen.indptr.tolist())
    ]  # fmt: skip


def propensities_of(chosen: ChosenPropensities, engine: Engine, rule: LabelRule) -> Propensities:
    """What was chosen of this engine's scores, with its names."""
    entries = tuple(
        ShownPropensity(engine.categories[n], k, action_of(rule, k), p)
        for n, k, p in zip(*chosen, strict=True)
    )
    return Propensities(engine.model_version, entries)


def erased_until_of(states: CustomerStates) -> str | None:
    """Of the one customer in states: up to when nothing counts, None for one who was not erased."""
    boundary_ms = int(erased_ms(states)[0])
    return None if boundary_ms == NEVER else moment_text(boundary_ms)


def action_of(rule: LabelRule, class_index: int) -> str:
    """The event types that a class stands for: "purchase", "cart or view"."""
    return " or ".join(rule.actions[class_index - 1])
