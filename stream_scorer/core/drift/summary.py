"""What drift there is: live rows, scores and events of a window against training, with a verdict.

Shares of the bins are compared by the population stability index (stability.py). Blocks of a
calendar are judged only where the window covers their cycle: in three hours no day looks like all
days. Where training had no rows just after events, the index shows a difference that is no drift:
customers who just did something are more active than all. It is told then, and not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream_scorer.core.drift.blocks import watched_blocks
from stream_scorer.core.drift.counts import DEVIATION_UNIT, SCORE_UNIT, Binning, DriftCounts
from stream_scorer.core.drift.live_quality import HORIZON, LiveQuality
from stream_scorer.core.drift.reference import AFTER_EVENTS, BlockReference
from stream_scorer.core.drift.stability import (
    ACT,
    JUDGED,
    LEAST_ROWS,
    NO_CHANCE,
    Judged,
    state_of,
)
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import Block, FeatureSpace
from stream_scorer.core.labels.labels import DAY_MS
from stream_scorer.result import Result

HOUR_MS = 3_600_000
CYCLE_MS = {"hour_of_day": DAY_MS, "day_of_week": 7 * DAY_MS}
# So many positives are expected at least before predicted over seen is judged: by chance their
# number then moves by a tenth.
LEAST_EXPECTED = 100
MOST_RATIO = 1.5
MOST_REASONS = 10  # that are named
NORMAL_95 = 1.96
MOST_MOVED = 5  # columns of a block that are named

AT_CUTOFFS = (
    "training had too few rows just after events, as live ones are, so that drift of features and "
    "scores is not judged; make labelled rows with `replay --rows-at both`, or of a whole period"
)
BY_CHANCE_ALONE = (
    "the index is no larger than chance alone may make it of so few customers or entries; sample "
    "more with a lower drift.one_in, or wait for a longer drift.window"
)
CYCLE_NOT_COVERED = "the window does not cover the cycle of this calendar; see drift.window"


@dataclass(frozen=True)
class DriftLimits:
    """max_psi: from which index on to act. max_ratio: how many times too much or too little may be
    predicted of what was then seen."""

    max_psi: float = ACT
    max_ratio: float = MOST_RATIO


@dataclass(frozen=True)
class ColumnShare(Result):
    """A column's share of all entries of its block, of the window and of training."""

    column: str
    share: float
    training_share: float


@dataclass(frozen=True)
class BlockDrift(Result):
    """A feature with one half-life. psi: the larger of psi_amount and psi_columns, of those that
    chance does not explain where there is one. mean_shift: of the amount, in standard deviations of
    training. state: "stable", "watch", "drifted", "too_few_rows" or "not_judged", which `note`
    explains. edges: right ends of the bins of amounts that are not 0, but for the last; shares,
    training_shares: of rows, whose amount is 0, then by bin. moved_columns: those whose share of
    entries differs most, of those counted apart. psi_by_chance: what `psi` is on average where
    nothing moved; psi_limit: what it is beyond in one of a thousand cases then; null without
    `psi`. mean_shift_by_chance: 95 of 100 shifts lie within so much of 0 where nothing moved."""

    block: str
    kind: str
    psi: float | None
    psi_amount: float | None
    psi_columns: float | None
    mean_shift: float | None
    state: str
    note: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    training_shares: tuple[float, ...]
    moved_columns: tuple[ColumnShare, ...]
    psi_by_chance: float | None
    psi_limit: float | None
    mean_shift_by_chance: float | None


@dataclass(frozen=True)
class ScoreDrift(Result):
    """The probability of acting in one category, "" for all together. mean, training_mean: of
    it. psi_by_chance, psi_limit: as of a block."""

    category_id: str
    psi: float | None
    mean: float | None
    training_mean: float
    state: str
    psi_by_chance: float | None
    psi_limit: float | None


@dataclass(frozen=True)
class EventDrift(Result):
    """events: in the window. shares: of each event type, training_shares: in training, null where
    its snapshots do not say it. psi: of these. unknown_words, training_unknown_words: by field, the
    share of events with a word that its vocabulary lacks. psi_by_chance, psi_limit: as of a
    block."""

    events: int
    shares: dict[str, float]
    training_shares: dict[str, float] | None
    psi: float | None
    state: str
    unknown_words: dict[str, float]
    training_unknown_words: dict[str, float] | None
    psi_by_chance: float | None
    psi_limit: float | None


@dataclass(frozen=True)
class DriftSummary(Result):
    """Drift of one model in one window.

    verdict: "stable", "watch", "drifted", or "unknown" where nothing could be judged; reasons: what
    it comes of, the worst first. from_ms, to_ms: the first and the last moment of the window of
    which anything was counted, null of nothing. rows: that were sampled; passed_over: customers
    who were not looked at, as a minute had its rows. training_rows, training_rows_of: of training,
    "event" or "all". scores: of all categories, then of those that are followed. quality: of every
    model that is followed. notes: what is missing, with the remedy. customers: whose the rows are,
    about.
    """

    model_version: str
    verdict: str
    reasons: tuple[str, ...]
    from_ms: int | None
    to_ms: int | None
    members: int
    rows: int
    passed_over: int
    training_rows: int | None
    training_rows_of: str | None
    blocks: tuple[BlockDrift, ...]
    scores: tuple[ScoreDrift, ...]
    events: EventDrift | None
    quality: tuple[LiveQuality, ...]
    notes: tuple[str, ...]
    customers: int

    def score_psi(self) -> tuple[float | None, float | None]:
        """The index of all scores together, and of the category where it is largest; None where it
        can't be judged."""
        judged = [(s.category_id, s.psi or 0.0) for s in self.scores if s.state in JUDGED]
        of_all = next((value for name, value in judged if not name), None)
        return of_all, max((value for name, value in judged if name), default=None)

    @property
    def passed(self) -> bool:
        """Whether nothing is beyond a threshold."""
        return self.verdict != "drifted"


def block_drifts(
    space: FeatureSpace, binning: Binning, counts: DriftCounts, covered_ms: int, max_psi: float
) -> tuple[BlockDrift, ...]:
    """Of every block. covered_ms: from the first to the last moment that was counted."""
    reference, customers = binning.reference, max(counts.customers, 1)
    found = []
    pairs = zip(reference.blocks, watched_blocks(space), strict=True)
    for number, (own, block) in enumerate(pairs):
        rows = counts.amounts[number, : len(own.shares)]
        worst = Judged.of(
            np.array(own.shares), rows, reference.rows, (reference.rows, customers), counts.rows,
            max_psi,
        )  # fmt: skip
        amount, columns = worst.psi, None
        of_columns = _columns_judged(binning, block, counts, number, max_psi)
        if of_columns is not None and of_columns.psi is not None:
            columns = of_columns.psi
            worst = max(worst, of_columns, key=lambda one: one.rank)
        shift = None
        if counts.rows and own.deviation > 0:
            shift = float(counts.deviations[number]) / DEVIATION_UNIT / counts.rows
        state, note = worst.state, ""
        cycle_ms = max((CYCLE_MS.get(f, 0) for f in block.fields), default=0)
        if block.kind == "calendar" and covered_ms < cycle_ms:
            state, note = "not_judged", CYCLE_NOT_COVERED
        elif reference.rows_of != AFTER_EVENTS:
            state, note = "not_judged", AT_CUTOFFS
        elif state == "too_few_rows" and counts.rows >= LEAST_ROWS:
            note = BY_CHANCE_ALONE
        found.append(
            BlockDrift(
                block.name, block.kind, worst.psi, amount, columns, shift, state, note, own.edges,
                tuple((rows / max(counts.rows, 1)).tolist()), own.shares,
                _moved(space, own, block, counts.columns[number]), *_chance(worst),
                None if shift is None else NORMAL_95 * (1 / reference.rows + 1 / customers) ** 0.5,
            )
        )  # fmt: skip
    return tuple(found)


def score_drifts(
    binning: Binning, counts: DriftCounts, categories: Sequence[str], max_psi: float
) -> tuple[ScoreDrift, ...]:
    """Of all scores together, then of each category that is followed."""
    reference = binning.reference
    found = []
    for number, own in enumerate(reference.scores):
        everything = own.category < 0
        pairs = len(categories) if everything else 1
        judged = Judged.of(
            np.array(own.shares), counts.scores[number, : len(own.shares)],
            # Scores of one row are alike, so that they count as one.
            reference.scored_rows * pairs, (reference.scored_rows, counts.customers),
            counts.rows, max_psi,
        )  # fmt: skip
        mean = None
        if counts.rows:
            mean = float(counts.score_sums[number]) / SCORE_UNIT / (counts.rows * pairs)
        name = "" if everything else categories[own.category]
        state = judged.state
        if reference.scored_rows_of != AFTER_EVENTS:
            state = "not_judged"
        found.append(ScoreDrift(name, judged.psi, mean, own.mean, state, *_chance(judged)))
    return tuple(found)


def event_drift(binning: Binning, counts: DriftCounts, max_psi: float) -> EventDrift:
    """Of the events of the window."""
    reference, events = binning.reference, counts.event_types.total()
    training, judged = reference.event_types, None
    # Of training only the shares are known, of many more events than rows.
    rows = max(reference.rows, LEAST_ROWS)
    if training is not None and events:
        names = sorted({*training, *counts.event_types})
        shares = np.array([training.get(name, 0.0) for name in names])
        live = np.array([counts.event_types[name] for name in names], np.int64)
        judged = Judged.of(shares, live, rows, (rows, events), events, max_psi)
    if judged is None:
        judged = Judged(None, NO_CHANCE, state_of(None, events, max_psi))
    unknown = reference.unknown_words
    return EventDrift(
        events, {name: n / events for name, n in sorted(counts.event_types.items())},
        None if training is None else dict(training), judged.psi, judged.state,
        {name: n / events for name, n in sorted(counts.unknown_words.items())} if events else {},
        None if unknown is None else dict(unknown), *_chance(judged),
    )  # fmt: skip


def _chance(judged: Judged) -> tuple[float | None, float | None]:
    return (None, None) if judged.psi is None else (judged.chance.expected, judged.chance.limit)


def verdict_of(
    blocks: Sequence[BlockDrift], scores: Sequence[ScoreDrift], events: EventDrift | None,
    quality: LiveQuality | None, limits: DriftLimits,
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """The verdict, and a line for each that is beyond a threshold: quality, then the worst first.

    quality: of the model that serves.
    """
    indexes: list[tuple[BlockDrift | ScoreDrift | EventDrift, str]] = [
        (b, f"feature {b.block}") for b in blocks
    ]
    indexes += [(s, f"scores of {s.category_id or 'all categories'}") for s in scores]
    if events is not None:
        indexes.append((events, "the mix of event types"))
    indexes.sort(key=lambda one: -(one[0].psi or 0.0))

    def in_state(state: str) -> list[str]:
        return [
            f"{what}: index {of.psi or 0.0:.2f}, by chance {of.psi_by_chance or 0.0:.2f}"
            for of, what in indexes
            if of.state == state
        ]

    reasons = _of_quality(quality, limits) + in_state("drifted")
    if reasons:
        return "drifted", _first(reasons)
    watched = in_state("watch")
    if watched:
        return "watch", _first(watched)
    return ("stable" if any(of.state == "stable" for of, _ in indexes) else "unknown"), ()


def _first(reasons: Sequence[str]) -> tuple[str, ...]:
    """At most `MOST_REASONS`, and how many more there are."""
    more = len(reasons) - MOST_REASONS
    return (*reasons[:MOST_REASONS], *([f"and {more:,} more"] if more > 0 else []))


def _of_quality(quality: LiveQuality | None, limits: DriftLimits) -> list[str]:
    over = [d for d in quality.delays if d.delay == HORIZON] if quality else []
    found = []
    for one in over:
        if one.expected < LEAST_EXPECTED or one.positives < LEAST_EXPECTED / 10:
            continue
        ratio, reach = one.expected / one.positives, one.intervals.predicted_over_seen
        # What few customers did may be so far from what was predicted by chance alone.
        if reach.low is None or reach.high is None or reach.low <= 1 <= reach.high:
            continue
        if not 1 / limits.max_ratio <= ratio <= limits.max_ratio:
            found.append(
                f"predicted {ratio:.2f} times of what was then seen, 95 % interval "
                f"{reach.low:.2f} to {reach.high:.2f}"
            )
    return found


def _moved(
    space: FeatureSpace, own: BlockReference, block: Block, entries: Int64
) -> tuple[ColumnShare, ...]:
    """The columns whose share of entries differs most."""
    if block.stop - block.start < 2 or not entries.sum():
        return ()
    live = entries[: len(own.columns)] / entries.sum()
    before = np.array(own.column_shares[:-1])
    order = np.argsort(-np.abs(live - before), kind="stable")[:MOST_MOVED]
    return tuple(
        ColumnShare(
            space.column_name(block.start + own.columns[at]), float(live[at]), float(before[at])
        )
        for at in order.tolist()
    )


def _columns_judged(
    binning: Binning, block: Block, counts: DriftCounts, number: int, max_psi: float
) -> Judged | None:
    """Of which columns have entries; None for a block of one."""
    if block.stop - block.start < 2:
        return None
    own = binning.reference.blocks[number]
    apart = len(own.columns)
    live = np.append(counts.columns[number, :apart], counts.columns[number, apart:].sum())
    # Of a feature that few rows have there are few entries, however many rows there are.
    few = min(own.entries, binning.reference.rows), min(int(live.sum()), counts.customers)
    return Judged.of(np.array(own.column_shares), live, own.entries, few, counts.rows, max_psi)
