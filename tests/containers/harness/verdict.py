"""What the consumers left behind, against what a single pass over the input topic gives.

`judge` reads the input topic back, folds it once, and compares: every customer's record in Redis
column by column; the newest propensity record of each customer, recomputed from its final vector;
and the account of all records. Each difference is a `Finding` with customer, feature and both
values. Plain counts of the published events check the single pass itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Message

from harness.stream import CATEGORIES, EVENT_TYPES, LIFETIME, SPACE, Stream
from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.propensity_encoder import PublishedPropensities, decode_propensities
from stream_scorer.core.events.batch import NO_TIMESTAMP, Int64, RecordBatch, TopicPartition
from stream_scorer.core.events.validation import EventRules, validate
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.state import CustomerStates, Float32, StateArrays
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.core.propensities import published_in_full
from stream_scorer.model.engines.native import NativeEngine

RELATIVE = 1e-6
PROBABILITY = 2e-5  # engines agree to 1e-5, and a batch's size may move the last bits
RULES = EventRules(frozenset(EVENT_TYPES), frozenset(CATEGORIES), False, 300_000, 631_152_000_000)
MAX_RECORD_BYTES = 1_000_000
SHOWN = 12


@dataclass(frozen=True)
class Finding:
    """One difference. kind: lost, doubled, wrong or stale."""

    kind: str
    customer: str
    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.kind}: {self.customer}, {self.what}: {self.expected} expected, {self.found}"


@dataclass
class Verdict:
    """Everything found. events: valid ones in the topic; lost, doubled: by lifetime counts."""

    events: int
    customers: int
    dead_letters: int = 0
    propensities: int = 0
    repeats: int = 0  # propensity records beyond the first of a customer, source offset and moment
    backwards: int = 0  # records of a customer that come after a newer one in the topic
    lost: int = 0
    doubled: int = 0
    findings: list[Finding] = field(default_factory=list)

    def assert_clean(self) -> None:
        kinds = dict(Counter(f.kind for f in self.findings))
        listing = "\n".join(str(f) for f in self.findings[:SHOWN])
        assert not self.findings, f"{kinds}, {self.lost} lost, {self.doubled} doubled:\n{listing}"

    def count(self, kind: str) -> int:
        return sum(f.kind == kind for f in self.findings)


@dataclass(frozen=True)
class Truth:
    """One pass over the input topic."""

    states: CustomerStates
    events: int
    records: int
    dead: set[tuple[int, int]]  # (partition, offset) of each record that can't be applied


def single_pass(messages: list[Message], remember_event_ids: int = 0) -> Truth:
    """Fold the whole topic at once, partition by partition in offset order."""
    topic = messages[0].topic() or ""
    partitions: list[TopicPartition] = [
        (topic, p) for p in sorted({m.partition() or 0 for m in messages})
    ]
    index = {tp: i for i, tp in enumerate(partitions)}
    records = RecordBatch(
        [m.value() for m in messages], [m.key() for m in messages], partitions,
        np.array([index[topic, m.partition() or 0] for m in messages], np.int32),
        np.array([m.offset() for m in messages], np.int64),
        np.full(len(messages), NO_TIMESTAMP, np.int64),
    )  # fmt: skip
    decoder = Decoder(lambda _key: None, max_record_bytes=MAX_RECORD_BYTES)
    events, undecodable = decoder.decode(records)
    now_ms = max(m.timestamp()[1] for m in messages)
    events, invalid = validate(events, records, RULES, now_ms)
    customer, ids = events.customer_id.intern()
    states = fold.fold_events(
        empty_states(ids), events, customer, SPACE, memory=Memory(remember_event_ids)
    ).states
    dead = {(dead_letter.partition, dead_letter.offset) for dead_letter in undecodable + invalid}
    return Truth(states, len(events), len(records), dead)


def judge(
    truth: Truth,
    stream: Stream,
    stored: CustomerStates,
    output: list[Message],
    dead: list[Message],
    engine: NativeEngine,
    *,
    moved: bool = False,
    refreshed: bool = False,
) -> Verdict:
    """Everything that differs.

    refreshed: scores may be as of later moments than customers' newest events.

    moved: customers moved between partitions. Then a customer's newest propensities are the last
    in the output topic, else those with the highest source offset; and the order of two
    partitions, which is nobody's, decides when an entry that no model sees any more is dropped.
    """
    verdict = Verdict(truth.events, len(truth.states))
    _check_truth(verdict, truth, stream)
    _check_records(verdict, truth.states, stored, float(csr.INVISIBLE) if moved else 0.0)
    published = decode_propensities([m.value() or b"" for m in output])
    _check_output(verdict, truth.states, published, engine, moved, refreshed)
    _check_dead(verdict, truth, dead)
    return verdict


def _check_truth(verdict: Verdict, truth: Truth, stream: Stream) -> None:
    """The single pass against plain counts of what was published."""
    found: Counter[tuple[str, str]] = Counter()
    block = next(b for b in SPACE.blocks if b.name.startswith(LIFETIME))
    for customer, columns in zip(truth.states.customer_ids, _sums(truth.states), strict=True):
        for column, value in columns.items():
            if block.start <= column < block.stop:
                found[customer, CATEGORIES[column - block.start]] += round(value)
    published = stream.made + stream.repeated
    if found != stream.lifetime or truth.records != published or len(truth.dead) != stream.bad:
        made = f"{published} records, {stream.bad} bad"
        read = f"{truth.records} records, {len(truth.dead)} bad"
        verdict.findings.append(Finding("wrong", "all", "the topic", made, read))


def _check_records(
    verdict: Verdict, expected: CustomerStates, stored: CustomerStates, unseen: float
) -> None:
    stored_rows = {customer: row for row, customer in enumerate(stored.customer_ids)}
    theirs, ours = _sums(stored), _sums(expected)
    for row, customer in enumerate(expected.customer_ids):
        stored_row = stored_rows.pop(customer, None)
        at_ms = int(expected.arrays.newest_ms[row])
        wanted, found = _columns(expected, row, ours[row], at_ms), dict[str, float]()
        if stored_row is not None:
            found = _columns(stored, stored_row, theirs[stored_row], at_ms)
        for what in sorted({*wanted, *found}):
            a, b = wanted.get(what, 0), found.get(what, 0)
            if abs(a - b) <= max(RELATIVE * max(abs(a), abs(b)), unseen):
                continue
            kind = "lost" if b < a else "doubled"
            verdict.findings.append(Finding(kind, customer, what, a, b))
            if what.startswith(LIFETIME):
                verdict.lost += round(max(a - b, 0))
                verdict.doubled += round(max(b - a, 0))
    for customer in stored_rows:
        verdict.findings.append(Finding("wrong", customer, "record", "none", "one"))


def _columns(
    states: CustomerStates, row: int, sums: dict[int, float], at_ms: int
) -> dict[str, float]:
    """A customer's record as named numbers; sums as they are worth at `at_ms`."""
    a = states.arrays
    newest_ms = int(a.newest_ms[row])
    named: dict[str, float] = {"newest event time": newest_ms}
    for column, value in sums.items():
        h = next(b.half_life_ms for b in SPACE.blocks if b.start <= column < b.stop)
        faded = 2.0 ** (newest_ms // h - at_ms / h) if h else 1.0
        named[SPACE.column_name(column)] = value * faded
    for i in range(a.source_at[row], a.source_at[row + 1]):
        named[f"offset in partition {a.source_partition[i]}"] = int(a.source_offset[i])
    for i in range(a.stamp_at[row], a.stamp_at[row + 1]):
        name = SPACE.column_name(int(a.stamp_column[i]))
        named[f"{name}, value"] = float(a.stamp_value[i])
        named[f"{name}, time"] = int(a.stamp_ms[i])
    return named


def _sums(states: CustomerStates) -> list[dict[int, float]]:
    a = states.arrays
    spans = [slice(int(a.sum_at[r]), int(a.sum_at[r + 1])) for r in range(len(states))]
    return [
        dict(zip(a.sum_column[s].tolist(), a.sum_value[s].tolist(), strict=True)) for s in spans
    ]


def _check_output(
    verdict: Verdict,
    states: CustomerStates,
    published: PublishedPropensities,
    engine: NativeEngine,
    moved: bool,
    refreshed: bool,
) -> None:
    verdict.propensities = len(published)
    moments = published.as_of_ms.tolist()
    sources = list(
        zip(published.customer_ids, published.partition, published.offset, moments, strict=True)
    )
    verdict.repeats = len(sources) - len(set(sources))
    ranks: dict[str, tuple[int, int]] = {}
    for customer, _, offset, at in sources:
        rank = int(offset), int(at)
        verdict.backwards += rank < ranks.get(customer, rank)
        ranks[customer] = rank
    newest = _newest(published, moved)
    as_of_ms = states.arrays.newest_ms.copy()
    if refreshed:
        for row, customer in enumerate(states.customer_ids):
            if at := newest.get(customer):
                as_of_ms[row] = max(as_of_ms[row], moments[at[-1]])
    expected = _scores(states, engine, as_of_ms)
    last = _last_offsets(states.arrays)
    for row, customer in enumerate(states.customer_ids):
        rows = newest.pop(customer, [])
        if not rows:
            verdict.findings.append(Finding("lost", customer, "propensities", "a record", "none"))
        for found in rows:
            as_of, newest_source = int(as_of_ms[row]), last[row]
            position = (int(published.partition[found]), int(published.offset[found]))
            if position not in newest_source:
                verdict.findings.append(
                    Finding("stale", customer, "source", newest_source, position)
                )
            elif published.as_of_ms[found] != as_of:
                theirs = int(published.as_of_ms[found])
                verdict.findings.append(Finding("stale", customer, "as of", as_of, theirs))
            elif published.probabilities is not None:
                a, b = expected[row], published.probabilities[found]
                worst = int(np.abs(a - b).argmax())
                if abs(a[worst] - b[worst]) > PROBABILITY:
                    what = f"probability of {engine.categories[worst]}"
                    verdict.findings.append(Finding("stale", customer, what, a[worst], b[worst]))
    for customer in newest:
        verdict.findings.append(Finding("wrong", customer, "propensities", "none", "a record"))


def _newest(published: PublishedPropensities, by_log: bool) -> dict[str, list[int]]:
    """For each customer the rows that hold its newest propensities."""
    newest: dict[str, list[int]] = {}
    ranks = list(zip(published.offset.tolist(), published.as_of_ms.tolist(), strict=True))
    for row, customer in enumerate(published.customer_ids):
        rows = newest.setdefault(customer, [])
        if by_log or (rows and ranks[rows[0]] < ranks[row]):
            rows.clear()
        if not rows or ranks[rows[0]] == ranks[row]:
            rows.append(row)
    return newest


def _scores(states: CustomerStates, engine: NativeEngine, as_of_ms: Int64) -> Float32:
    return published_in_full(engine.score(csr.build(states, SPACE, as_of_ms)))


def _last_offsets(a: StateArrays) -> list[list[tuple[int, int]]]:
    """For each customer the last position in each partition that fed it."""
    return [
        [
            (int(a.source_partition[i]), int(a.source_offset[i]))
            for i in range(a.source_at[row], a.source_at[row + 1])
        ]
        for row in range(len(a.newest_ms))
    ]


def _check_dead(verdict: Verdict, truth: Truth, dead: list[Message]) -> None:
    dead_letters = decode_dead_letters([m.value() or b"" for m in dead])
    found = {(dead_letter.partition, dead_letter.offset) for dead_letter in dead_letters}
    verdict.dead_letters = len(found)
    for missing in sorted(truth.dead - found):
        verdict.findings.append(Finding("lost", "unknown", "dead letter", missing, "none"))
    for extra in sorted(found - truth.dead):
        verdict.findings.append(Finding("wrong", "unknown", "dead letter", "none", extra))
