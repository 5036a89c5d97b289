"""Event and quiet rows: samples that depend neither on the future nor on batches."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features.fold_plan import Memory
from stream_scorer.core.features.space import Feature, FeatureSpace
from stream_scorer.core.labels import sampled_moments as m
from stream_scorer.core.labels.as_of import KnownEvents
from stream_scorer.core.labels.cutoffs import rows_at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector, LabelRule

DAY = 86_400_000
WORDS = ("soup", "bread", "milk")
SPACE = FeatureSpace.compile(
    [
        Feature("purchases", by=("category_id",), half_lives=("2d", "14d")),
        Feature("recency", kind="recency", by=("category_id",), half_lives=("7d",)),
        Feature("first", kind="first", by=("category_id",)),
        Feature("overdue", kind="overdue", by=("category_id",)),
    ],
    {"category_id": WORDS},
)
RULE = LabelRule("category_id", (("purchase",),), 5 * DAY)
CUTOFFS = (20 * DAY, 27 * DAY, 41 * DAY)
EVENTS = m.MomentSample(CUTOFFS, CUTOFFS[0], CUTOFFS[-1], event_share=Fraction(1))
SERVED = replace(EVENTS, cutoffs_ms=(), quiet_share=Fraction(1), every_ms=DAY)
Rows = dict[tuple[str, int], tuple[bytes, ...]]


def stream(seed: int = 1, count: int = 900, customers: int = 25) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    at = np.sort(draw.integers(0, 60 * DAY, count))
    return [
        {"customer": f"c{draw.integers(customers)}", "category": WORDS[draw.integers(3)],
         "at": int(t), "offset": i}
        for i, t in enumerate(at)
    ]  # fmt: skip


def log_of(make_events: Any, rows: list[dict[str, Any]]) -> KnownEvents:
    events = make_events(rows)
    return KnownEvents.of(events, events.occurred_at_ms)


def sample_of(log: KnownEvents, seed: int = 0) -> m.MomentSample:
    return replace(EVENTS, seed=seed).like_cutoffs(m.counted(log, EVENTS))


def rows_of(log: KnownEvents, sample: m.MomentSample) -> Rows:
    """By customer and moment the bits of features and labels."""
    labels = LabelCollector(RULE, WORDS)
    labels.add(log.events)
    found: Rows = {}
    for rows in sample.rows(log, SPACE, labels):
        at, said = rows.matrix.indptr, rows.label_indptr
        for i, customer in enumerate(rows.customer_ids):
            key = customer, int(rows.as_of_ms[i])
            assert key not in found
            row, label = slice(at[i], at[i + 1]), slice(said[i], said[i + 1])
            found[key] = (
                rows.matrix.indices[row].tobytes(), rows.matrix.data[row].tobytes(),
                rows.label_category[label].tobytes(), rows.label_class[label].tobytes(),
                rows.weight[i].tobytes(),
            )  # fmt: skip
    return found


def test_rows_stand_just_after_events_between_the_cutoffs(make_events: Any) -> None:
    log = log_of(make_events, stream())
    after = {(e["customer"], e["at"] + 1) for e in stream() if 20 * DAY <= e["at"] < 41 * DAY - 1}
    found = set(rows_of(log, sample_of(log)))
    counts = m.counted(log, EVENTS)
    labels = LabelCollector(RULE, WORDS)
    at_cutoffs = sum(map(len, rows_at_cutoffs(log.events, SPACE, labels, CUTOFFS)))
    assert counts == (at_cutoffs, len(after), 0)
    assert found < after
    # About as many as the cut-offs have: four standard deviations of so many draws.
    share = at_cutoffs / len(after)
    assert abs(len(found) - at_cutoffs) < 4 * (len(after) * share * (1 - share)) ** 0.5


def test_an_event_at_a_rows_moment_or_one_ms_later_changes_no_feature(make_events: Any) -> None:
    log = log_of(make_events, stream())
    sample = sample_of(log)
    whole = rows_of(log, sample)
    customer, moment = sorted(whole)[7]
    for at in (moment, moment + 1):
        event = {"customer": customer, "category": "milk", "at": at, "offset": 900}
        log = log_of(make_events, sorted([*stream(), event], key=lambda e: (e["at"], e["offset"])))
        assert rows_of(log, sample)[customer, moment][:2] == whole[customer, moment][:2]
        (milk,) = np.flatnonzero(np.array(WORDS) == "milk")
        known = np.frombuffer(rows_of(log, sample)[customer, moment][2], np.uint32)
        assert milk in known  # it is of what the customer did afterwards
    event = {"customer": customer, "category": "milk", "at": moment - 1, "offset": 900}
    log = log_of(make_events, sorted([*stream(), event], key=lambda e: (e["at"], e["offset"])))
    assert rows_of(log, sample)[customer, moment][:2] != whole[customer, moment][:2]


def test_what_happens_after_the_last_cutoff_takes_no_other_rows(make_events: Any) -> None:
    log = log_of(make_events, stream())
    before = log_of(make_events, [e for e in stream() if e["at"] < CUTOFFS[-1]])
    assert sample_of(before) == sample_of(log)
    features = {key: row[:2] for key, row in rows_of(log, sample_of(log)).items()}
    assert {key: row[:2] for key, row in rows_of(before, sample_of(before)).items()} == features


def test_labels_begin_at_the_rows_moment(make_events: Any) -> None:
    rows = rows_of(log := log_of(make_events, stream()), sample_of(log))
    for (customer, moment), (_, _, categories, *_) in rows.items():
        after = {
            e["category"] for e in stream()
            if e["customer"] == customer and moment <= e["at"] < moment + RULE.horizon_ms
        }  # fmt: skip
        assert {WORDS[c] for c in np.frombuffer(categories, np.uint32)} == after


def test_customers_divided_among_tasks_have_the_same_rows(make_events: Any) -> None:
    """Each task has some customers only; they share no more than the totals."""
    whole = log_of(make_events, stream())
    for tasks in (2, 7):
        logs = [
            log_of(make_events, [e for e in stream() if int(e["customer"][1:]) % tasks == t])
            for t in range(tasks)
        ]
        counts = m.MomentCounts(0, 0, 0)
        for log in logs:
            counts = counts.plus(m.counted(log, EVENTS))
        sample = EVENTS.like_cutoffs(counts)
        assert sample == sample_of(whole)
        together: Rows = {}
        for log in logs:
            together |= rows_of(log, sample)
        assert together == rows_of(whole, sample)


def test_the_size_of_groups_changes_nothing(
    make_events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_of(make_events, stream())
    whole = rows_of(log, sample_of(log))
    monkeypatch.setattr(m, "ROWS_TOGETHER", 3)
    assert rows_of(log, sample_of(log)) == whole


def test_another_seed_takes_others_and_the_same_one_the_same(make_events: Any) -> None:
    log = log_of(make_events, stream())
    first, again, other = (set(rows_of(log, sample_of(log, seed))) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_all_moments_are_rows_where_there_are_no_more_than_of_cutoffs(make_events: Any) -> None:
    few = [e for e in stream() if e["at"] < 20 * DAY or e["offset"] % 20 == 0]
    log = log_of(make_events, few)
    found = sample_of(log)
    assert found.event_share == 1
    assert len(rows_of(log, found)) == m.counted(log, EVENTS).event_moments > 0


def test_a_moment_that_is_a_cutoff_is_a_row_of_the_cutoff_alone(make_events: Any) -> None:
    on_it = {"customer": "c1", "category": "soup", "at": 27 * DAY - 1, "offset": 0}
    log = log_of(make_events, [on_it])
    assert m.counted(log, EVENTS) == (2, 0, 0)


def test_whether_an_event_is_taken_does_not_depend_on_what_follows(make_events: Any) -> None:
    """The share of rows whose customer acts again within a day is that of all events.

    Of the newest events before a cut-off it is far lower, because nothing follows them until then.
    """
    log = log_of(make_events, stream(count=20_000, customers=400))
    every = EVENTS.taken(log)
    taken = sample_of(log).taken(log)
    order = np.lexsort((log.known_at_ms, log.customer))
    key = log.customer[order].astype(np.int64) * 100 * DAY + log.known_at_ms[order]

    def acted(moments: Any) -> float:
        at = moments.customer.astype(np.int64) * 100 * DAY + moments.as_of_ms
        first, last = np.searchsorted(key, at), np.searchsorted(key, at + DAY)
        return float((last > first).mean())

    share = acted(every)
    assert 200 < len(taken.customer) < len(every.customer) / 2
    deviation = (share * (1 - share) / len(taken.customer)) ** 0.5
    assert abs(acted(taken) - share) < 4 * deviation


def test_quiet_rows_stand_at_rounds_of_a_refresh_for_all_who_are_known_by_then(
    make_events: Any,
) -> None:
    log = log_of(make_events, events := stream(count=60))
    first = {}
    for event in reversed(events):
        first[event["customer"]] = event["at"]
    expected = {
        (customer, day * DAY)
        for customer, at in first.items() for day in range(20, 41) if at < day * DAY
    }  # fmt: skip
    quiet = replace(SERVED, event_share=Fraction(0))
    assert set(rows_of(log, quiet)) == expected
    assert m.counted(log, quiet) == (0, 0, len(expected))


def test_nobody_is_quiet_before_their_first_event_or_once_forgotten(make_events: Any) -> None:
    events = make_events([{"customer": "c1", "category": "soup", "at": 22 * DAY, "offset": 0}])
    log = KnownEvents.of(events, events.occurred_at_ms, Memory(time_to_live_ms=3 * DAY))
    # At 22 days the event is not known yet; at 25 days it is 3 days old, which is remembered.
    found = replace(SERVED, event_share=Fraction(0)).taken(log).as_of_ms
    assert found.tolist() == [23 * DAY, 24 * DAY, 25 * DAY]


@pytest.mark.parametrize("share", [Fraction(1, 4), Fraction(1)])
def test_tasks_have_the_same_event_and_quiet_rows_with_the_same_weights(
    make_events: Any, share: Fraction
) -> None:
    asked = replace(SERVED, cutoffs_ms=CUTOFFS, event_share=Fraction(1, 2), quiet_share=share)
    whole = log_of(make_events, stream())
    sample = asked.weighted(m.counted(whole, asked))
    logs = [
        log_of(make_events, [e for e in stream() if int(e["customer"][1:]) % 3 == t])
        for t in range(3)
    ]
    counts = m.MomentCounts(0, 0, 0)
    for log in logs:
        counts = counts.plus(m.counted(log, asked))
    assert asked.weighted(counts) == sample
    together: Rows = {}
    for log in logs:
        together |= rows_of(log, sample)
    assert together == rows_of(whole, sample)


def test_a_sampled_row_stands_for_all_moments_of_its_kind(make_events: Any) -> None:
    log = log_of(make_events, stream())
    asked = replace(
        SERVED, cutoffs_ms=CUTOFFS, event_share=Fraction(1, 2), quiet_share=Fraction(1, 10)
    )
    counts = m.counted(log, asked)
    sample = asked.weighted(counts)
    cutoff, event, quiet = sample.weights
    assert event / cutoff == pytest.approx(2)
    assert quiet / cutoff == pytest.approx(10)
    assert sum(n * w for n, w in zip(counts, sample.weights, strict=True)) == pytest.approx(
        sum(counts)
    )
    labels = LabelCollector(RULE, WORDS)
    rows = list(sample.rows(log, SPACE, labels))
    kinds = np.concatenate([sample.kinds(part.as_of_ms) for part in rows])
    weights = np.concatenate([part.weight for part in rows])
    assert weights.dtype == np.float32
    assert (weights == np.array(sample.weights, np.float32)[kinds]).all()
    assert np.bincount(kinds, minlength=3).tolist() == [0, *counts[1:]]


def test_kinds_without_rows_weigh_nothing_and_one_kind_alone_weighs_one() -> None:
    asked = replace(EVENTS, event_share=Fraction(1, 7))
    assert asked.weighted(m.MomentCounts(0, 40, 0)).weights == (0.0, 1.0, 0.0)


def test_a_row_after_an_event_that_falls_on_a_round_is_a_quiet_row_alone(make_events: Any) -> None:
    on_it = {"customer": "c1", "category": "soup", "at": 25 * DAY - 1, "offset": 0}
    log = log_of(make_events, [on_it])
    assert m.counted(log, SERVED) == (0, 0, 16)
    assert m.counted(log, replace(SERVED, quiet_share=Fraction(0), every_ms=0)) == (0, 1, 0)


def test_a_later_event_changes_no_feature_of_a_quiet_row(make_events: Any) -> None:
    log = log_of(make_events, stream())
    whole = rows_of(log, SERVED)
    moment = 30 * DAY
    for at, same in ((moment, True), (moment + 5, True), (moment - 1, False)):
        event = {"customer": "c1", "category": "milk", "at": at, "offset": 900}
        log = log_of(make_events, sorted([*stream(), event], key=lambda e: (e["at"], e["offset"])))
        found = rows_of(log, SERVED)["c1", moment]
        assert (found[:2] == whole["c1", moment][:2]) == same


def test_quiet_rows_of_a_customer_are_evenly_spaced_and_customers_begin_at_other_rounds(
    make_events: Any,
) -> None:
    log = log_of(make_events, stream())
    third = replace(SERVED, event_share=Fraction(0), quiet_share=Fraction(1, 3))
    taken = third.taken(log)
    of_customer = [np.sort(taken.as_of_ms[taken.customer == c]) for c in np.unique(taken.customer)]
    assert len(of_customer) == 25
    for moments in of_customer:
        assert set(np.diff(moments)) == {3 * DAY}
    assert {int(moments[0]) for moments in of_customer} == {20 * DAY, 21 * DAY, 22 * DAY}
    other = replace(third, seed=1).taken(log)
    assert {*zip(*taken, strict=True)} != {*zip(*other, strict=True)}
