"""How good published scores turned out to be, from followed customers (followed.py, hour.py).

A score is judged at several delays. At a delay d, what its customer did within d after it counts.
Only the whole horizon is what was predicted, so log loss and calibration are measured there alone:
judged earlier, every model would seem to predict too much. Recall and AUC rank categories by the
same scores, so they say something at every delay. Once horizons are over, `seen_share` says which
part of all actions a delay had seen; what scores of today should have led to by then follows.

A score knows all events up to its customer's newest one, at as_of_ms. Outcomes begin one
millisecond later, as the labels of training rows that stand just after events do: an event at or
before as_of_ms never counts.

A score is judged at d once the events noted reach d past it, and once d has passed since it was
scored. The second is for partitions that lag: whoever catches up reads faster than time passes. The
sample is one score a day of each customer that was followed from the score's hour on without a
gap: of at least the highest rank of all those hours.

Intervals are of a bootstrap over customers, whose scores of several days stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from stream_scorer.core.drift.followed import (
    Scores,
    has_rank,
    joined_actions,
    joined_scores,
    unpacked_log_odds,
)
from stream_scorer.core.drift.hour import HourSample
from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import Interval, bootstrap_ratios
from stream_scorer.core.evaluation.quality_by_part import Estimate
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.labels.labels import (
    DAY_MS,
    LabelEvents,
    LabelledRows,
    LabelRule,
    dense_labels,
    point_in_time_labels,
)
from stream_scorer.result import Result

DELAYS_MS = {
    "1h": DAY_MS // 24, "6h": DAY_MS // 4, "1d": DAY_MS, "3d": 3 * DAY_MS, "7d": 7 * DAY_MS,
}  # fmt: skip
HORIZON = "horizon"
MOST_PAIRS = 1_000_000  # of score and category that are measured: about a second for all delays
BOOTSTRAPS = 200  # members make intervals every few minutes, so not as many as in a report
LEAST_CUSTOMERS = 10  # of fewer, a bootstrap is much too sure; of one, its interval is a point


@dataclass(frozen=True)
class LiveIntervals(Result):
    """The values of a delay with their 95 % intervals, of a bootstrap over customers. That of
    predicted over seen takes `seen_share` as it is."""

    predicted_over_seen: Estimate
    recall_at_10: Estimate
    micro_auc: Estimate
    log_loss: Estimate


@dataclass(frozen=True)
class QualityAtDelay(Result):
    """Scores of one model, judged by what happened within `delay` after each: "1h" to "7d", or
    "horizon". scores: so many; customers: of so many. positives: pairs of score and category on
    which the customer acted. expected: the sum of the probabilities, of the whole horizon.
    seen_share: the part of a horizon's positives that lies within the delay, from scores whose
    horizon is over; null where there are none. predicted_over_seen: expected times seen_share, over
    positives. log_loss, ece: of the horizon alone. Null where not defined. ece_by_chance: what
    `ece` is on average where every probability is right. intervals: null of fewer than 10
    customers.
    """

    delay: str
    scores: int
    customers: int
    positives: int
    expected: float
    seen_share: float | None
    predicted_over_seen: float | None
    recall_at_10: float | None
    micro_auc: float | None
    log_loss: float | None
    ece: float | None
    intervals: LiveIntervals
    ece_by_chance: float | None


@dataclass(frozen=True)
class LiveQuality(Result):
    """Of one model: at each delay at which at least one score can be judged. followed: scores of
    followed customers that were noted, judged already or not."""

    model_version: str
    followed: int
    delays: tuple[QualityAtDelay, ...]


def live_quality(
    hours: Sequence[HourSample], rule: LabelRule, now_ms: int
) -> tuple[LiveQuality, ...]:
    """Of every model, by version; the order of `hours` does not matter."""
    if not hours:
        return ()
    actions = joined_actions([hour.actions for hour in hours])
    reached = [int(column.max()) for h in hours
               for column in (h.scores.as_of_ms, h.actions.at_ms) if len(column)]  # fmt: skip
    # By hour the highest rank from then on.
    ranks: dict[int, int] = {}
    highest = 0
    for hour in sorted(hours, key=lambda h: -h.hour):
        highest = max(highest, hour.rank)
        ranks[hour.hour] = highest
    found = []
    for version in sorted({hour.model_version for hour in hours}):
        own = [h for h in hours if h.model_version == version]
        index = own[0].category_index
        complete = [h.scores.take(has_rank(h.scores.customer, ranks[h.hour])) for h in own]
        scores = _one_a_day(joined_scores(complete, len(index)))
        if not len(scores.customer):
            continue
        most = max(1, MOST_PAIRS // len(index))
        if len(scores.customer) > most:
            scores = scores.take(np.linspace(0, len(scores.customer) - 1, most).astype(np.int64))
        judge = _Judge(scores, index, rule, actions.customer, LabelEvents(
            np.zeros(0, np.int64), actions.at_ms, actions.category, actions.action_class
        ))  # fmt: skip
        found.append(LiveQuality(version, len(scores.customer), judge.delays(max(reached), now_ms)))
    return tuple(found)


def _one_a_day(scores: Scores) -> Scores:
    """The first score of each customer on each UTC day, in order of time."""
    order = np.lexsort((scores.scored_at_ms, scores.customer, scores.as_of_ms))
    ordered = scores.take(order)
    key = np.stack([ordered.customer, (ordered.as_of_ms // DAY_MS).astype(np.uint64)], axis=1)
    _, first = np.unique(key, axis=0, return_index=True)
    return ordered.take(np.sort(first))


class _Judge:
    """Scores of one model, and all actions, with customers numbered together."""

    def __init__(
        self, scores: Scores, index: Int64, rule: LabelRule,
        acting: npt.NDArray[np.uint64], events: LabelEvents,
    ) -> None:  # fmt: skip
        self._scores, self._index, self._horizon_ms = scores, index, rule.horizon_ms
        self._p = unpacked_log_odds(scores.log_odds)
        both = np.concatenate([scores.customer, acting])
        _, numbers = np.unique(both, return_inverse=True)
        self._customer = numbers[: len(scores.customer)].astype(np.int64)
        self._events = events._replace(customer=numbers[len(scores.customer) :].astype(np.int64))

    def delays(self, reached_ms: int, now_ms: int) -> tuple[QualityAtDelay, ...]:
        wanted = {name: ms for name, ms in DELAYS_MS.items() if ms < self._horizon_ms}
        wanted[HORIZON] = self._horizon_ms
        over = self._rows(self._horizon_ms, reached_ms, now_ms)
        in_all = int(self._acted(over, self._horizon_ms).sum())
        found = []
        for name, delay_ms in wanted.items():
            rows = self._rows(delay_ms, reached_ms, now_ms)
            if not len(rows):
                continue
            share = int(self._acted(over, delay_ms).sum()) / in_all if in_all else None
            found.append(self._measured(name, rows, self._acted(rows, delay_ms), share))
        return tuple(found)

    def _rows(self, delay_ms: int, reached_ms: int, now_ms: int) -> Int64:
        as_of, scored_at = self._scores.as_of_ms, self._scores.scored_at_ms
        return np.flatnonzero((as_of + delay_ms <= reached_ms) & (scored_at + delay_ms <= now_ms))

    def _acted(self, rows: Int64, delay_ms: int) -> Bool:
        """(k, N): whether each customer acted on each category within the delay."""
        # One past what the score knows of: labels begin at the moment that is given.
        after = self._scores.as_of_ms[rows] + 1
        labels = point_in_time_labels(self._customer[rows], after, self._events, delay_ms)
        labelled = LabelledRows([""] * len(rows), after, sparse.csr_matrix((len(rows), 0)), *labels)
        acted: Bool = dense_labels(labelled, self._index) > 0
        return acted

    def _measured(
        self, delay: str, rows: Int64, acted: Bool, seen_share: float | None
    ) -> QualityAtDelay:
        p, customer = self._p[rows], self._customer[rows]
        over = delay == HORIZON
        seen, expected = acted.sum(axis=1), p.sum(axis=1, dtype=np.float64)
        by_row = [
            metrics.row_recall_at_k(p, acted, metrics.TOP_K),
            metrics.row_micro_auc(p, acted),
            metrics.row_log_loss(p, acted) if over else np.full(len(rows), np.nan),
        ]
        known = [~np.isnan(values) for values in by_row]
        # Where it is not known which part was to be seen yet, there is nothing to divide.
        share, seen_now = (0.0, 0 * seen) if seen_share is None else (seen_share, seen)
        above = [expected * share, *(np.nan_to_num(values) for values in by_row)]
        ratio, recall, auc, loss = bootstrap_ratios(
            np.stack(above, axis=1), np.stack([seen_now, *known], axis=1).astype(np.float64),
            customer, samples=BOOTSTRAPS,
        )  # fmt: skip
        positives, predicted = int(seen.sum()), float(expected.sum())
        predicted_over_seen = predicted * share / positives if seen_now.any() else None
        at_10, micro_auc, log_loss = (metrics.defined(metrics.mean(of_rows)) for of_rows in by_row)
        customers = len(np.unique(customer))
        curve = metrics.calibration_curve(p, acted, metrics.ECE_BINS) if over else None
        return QualityAtDelay(
            delay, len(rows), customers, positives, predicted, seen_share, predicted_over_seen,
            at_10, micro_auc, log_loss,
            None if curve is None else metrics.defined(curve.ece),
            LiveIntervals(
                _estimate(predicted_over_seen, ratio, customers),
                _estimate(at_10, recall, customers),
                _estimate(micro_auc, auc, customers, most=1.0),
                _estimate(log_loss, loss, customers),
            ),
            None if curve is None else metrics.defined(curve.ece_by_chance()),
        )  # fmt: skip


def _estimate(
    value: float | None, found: Interval, customers: int, most: float = float("inf")
) -> Estimate:
    """A value, where there is one, with its interval, where there is one.

    most: beyond which no value lies; what is linearised may reach beyond it.
    """
    if customers < LEAST_CUSTOMERS:
        return Estimate(value, None, None)
    low, high = (metrics.defined(min(max(bound, 0.0), most)) for bound in found[1:])
    return Estimate(value, low, high)
