"""Followed customers: hours that members note, and their scores judged by what happened after."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from stream_scorer.core.drift.followed import (
    Actions,
    EventWatch,
    Scores,
    customer_hashes,
    has_rank,
    packed_log_odds,
    rank_of_share,
    unpacked_log_odds,
)
from stream_scorer.core.drift.hour import HOUR_MS, MOST_ACTIONS, HourSample, most_scores
from stream_scorer.core.drift.live_quality import (
    HORIZON,
    LiveIntervals,
    LiveQuality,
    QualityAtDelay,
    live_quality,
)
from stream_scorer.core.drift.sampler import MINUTE_MS, Sampler
from stream_scorer.core.drift.summary import DriftLimits, verdict_of
from stream_scorer.core.evaluation.quality_by_part import Estimate
from stream_scorer.core.events.batch import EventBatch, StringColumn
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.labels.labels import DAY_MS, LabelRule

RULE = LabelRule("category_id", (("cart",), ("purchase",)), 7 * DAY_MS)
INDEX = np.array([0, 2, 3])  # of the model's categories in the vocabulary
NOW = 20_000 * DAY_MS
WORDS = ("soup", "bread", "milk", "tea")


def scores(*rows: tuple[int, int, list[float]]) -> Scores:
    """Of (customer, as_of_ms, probabilities); scored as of then."""
    as_of = np.array([at for _, at, _ in rows], np.int64)
    p = np.array([p for *_, p in rows], np.float32).reshape(len(rows), len(INDEX))
    who = np.array([who for who, *_ in rows], np.uint64)
    return Scores(who, as_of, as_of, packed_log_odds(p))


def actions(*rows: tuple[int, int, int]) -> Actions:
    """Of (customer, at_ms, category)."""
    who, at, category = np.array(rows, np.int64).reshape(len(rows), 3).T
    return Actions(
        who.astype(np.uint64), at, category.astype(np.int32), np.ones(len(rows), np.uint8)
    )


def hour(at_ms: int, noted: Scores, did: Actions | None = None, rank: int = 0) -> HourSample:
    sample = HourSample.begin(at_ms // HOUR_MS, "m1", INDEX, rank, None)
    sample.note(noted, Actions.none() if did is None else did)
    return sample


def judged(hours: list[HourSample], now_ms: int = NOW) -> LiveQuality:
    (found,) = live_quality(hours, RULE, now_ms)
    return found


P = [0.9, 0.05, 0.05]


def test_an_event_at_or_before_the_score_never_counts_and_one_just_after_does() -> None:
    at = NOW - 8 * DAY_MS
    for moment, counts in ((at - 1, 0), (at, 0), (at + 1, 1)):
        # The last action shows that events are known up to the horizon's end.
        did = actions((1, moment, 0), (99, NOW, 0))
        over = judged([hour(at, scores((1, at, P)), did)]).delays[-1]
        assert (over.delay, over.positives) == (HORIZON, counts), moment - at


def test_what_lies_beyond_a_delay_does_not_count_for_it() -> None:
    at = NOW - 8 * DAY_MS
    did = actions((1, at + HOUR_MS, 0), (1, at + HOUR_MS + 1, 2), (1, at + 7 * DAY_MS, 3),
                  (1, at + 7 * DAY_MS + 1, 3), (99, NOW, 1))  # fmt: skip
    by_delay = {d.delay: d for d in judged([hour(at, scores((1, at, P)), did)]).delays}
    # An hour after it, to the millisecond, belongs to it, since outcomes begin one after.
    assert by_delay["1h"].positives == 1
    assert by_delay["6h"].positives == 2
    assert by_delay["3d"].positives == 2
    assert by_delay[HORIZON].positives == 3
    assert "7d" not in by_delay, "the horizon is 7 days itself"
    assert by_delay["1h"].seen_share == pytest.approx(1 / 3)
    # Probabilities of 1.0 in all, a third of which is due by then, over one action.
    assert by_delay["1h"].predicted_over_seen == pytest.approx(1 / 3, rel=1e-3)
    assert by_delay[HORIZON].predicted_over_seen == pytest.approx(1 / 3, rel=1e-3)


def test_log_loss_and_calibration_are_of_whole_horizons_alone() -> None:
    at = NOW - 8 * DAY_MS
    found = judged([hour(at, scores((1, at, P)), actions((1, at + 5, 0), (99, NOW, 0)))])
    over = found.delays[-1]
    by_hand = -np.log([0.9, 0.95, 0.95]).mean()
    assert over.log_loss == pytest.approx(by_hand, rel=1e-3)
    assert over.ece == pytest.approx((0.1 + 0.05 + 0.05) / 3, abs=1e-3)
    assert over.recall_at_10 == 1.0
    assert over.micro_auc == 1.0
    for early in found.delays[:-1]:
        assert (early.log_loss, early.ece) == (None, None)
        assert early.recall_at_10 == 1.0


def shop_of(customers: int, seed: int) -> list[HourSample]:
    """Two scores each, of customers who act as is predicted."""
    draw = np.random.default_rng(seed)
    rows, did = [], [(99, NOW, 0)]
    for who in range(100, 100 + customers):
        p = draw.beta(1, 3, len(INDEX))
        for day in (9, 8):
            at = NOW - day * DAY_MS + who
            rows.append((who, at, p.tolist()))
        acts = INDEX[draw.random(len(INDEX)) < p]
        did += [(who, rows[-1][1] + 1 + n, int(category)) for n, category in enumerate(acts)]
    noted = scores(*rows)
    first = noted.take(np.arange(0, len(rows), 2))
    second = noted.take(np.arange(1, len(rows), 2))
    return [hour(NOW - 9 * DAY_MS, first), hour(NOW - 8 * DAY_MS, second, actions(*did))]


def test_intervals_hold_what_is_true_and_are_wider_of_fewer_customers() -> None:
    widths = []
    for customers in (20, 150):
        over = judged(shop_of(customers, 7)).delays[-1]
        reach = over.intervals
        for value, found in (
            (over.predicted_over_seen, reach.predicted_over_seen), (over.log_loss, reach.log_loss),
            (over.recall_at_10, reach.recall_at_10), (over.micro_auc, reach.micro_auc),
        ):  # fmt: skip
            assert found.value == value is not None
            assert found.low is not None
            assert found.high is not None
            assert found.low <= value <= found.high
        ratio = reach.predicted_over_seen
        assert ratio.low is not None
        assert ratio.high is not None
        assert ratio.low < 1 < ratio.high, "they act as often as was predicted"
        widths.append(ratio.high - ratio.low)
        assert over.ece is not None
        assert over.ece_by_chance is not None
        assert over.ece < 5 * over.ece_by_chance, "the probabilities are right"
    assert widths[0] > 1.5 * widths[1]


def test_nine_customers_have_no_interval() -> None:
    over = judged(shop_of(9, 3)).delays[-1]
    assert over.log_loss is not None
    assert (over.intervals.log_loss.low, over.intervals.log_loss.high) == (None, None)
    early = judged(shop_of(40, 3)).delays[0]
    assert early.intervals.log_loss.value is None
    assert early.ece_by_chance is None


def test_what_few_customers_did_is_no_verdict_and_what_many_did_is() -> None:
    limits = DriftLimits()
    for low, high, verdict in (
        (0.8, 3.9, "unknown"),
        (1.2, 2.9, "drifted"),
        (None, None, "unknown"),
    ):
        nothing = Estimate(None, None, None)
        one = QualityAtDelay(
            HORIZON, 500, 60, 100, 200.0, 1.0, 2.0, None, None, None, None,
            LiveIntervals(Estimate(2.0, low, high), nothing, nothing, nothing), None,
        )  # fmt: skip
        found, reasons = verdict_of((), (), None, LiveQuality("m1", 500, (one,)), limits)
        assert found == verdict
        assert all("95 % interval 1.20 to 2.90" in reason for reason in reasons)


def test_a_score_is_judged_once_events_and_time_have_passed_the_delay() -> None:
    at = NOW - 2 * DAY_MS
    noted = scores((1, at, P))
    until = at + 6 * HOUR_MS
    delays = [d.delay for d in judged([hour(at, noted, actions((9, until, 0)))]).delays]
    assert delays == ["1h", "6h"], "events are known for six hours after it"
    # The partition lagged: scored just now, though of two days ago.
    late = noted._replace(scored_at_ms=np.array([NOW - HOUR_MS]))
    sample = hour(NOW - HOUR_MS, late, actions((9, NOW, 0)))
    assert [d.delay for d in judged([sample]).delays] == ["1h"]
    assert judged([sample], NOW - 1).delays == ()


def test_one_score_a_day_of_each_customer_counts_the_first() -> None:
    day = (NOW // DAY_MS - 9) * DAY_MS
    first, second, next_day = day + HOUR_MS, day + 3 * HOUR_MS, day + DAY_MS
    hours = [
        hour(second, scores((1, second, [0.2, 0.2, 0.2])), actions((99, NOW, 0))),
        hour(first, scores((1, first, P))),
        hour(next_day, scores((1, next_day, P), (2, next_day, P))),
    ]
    found = judged(hours)
    assert found.followed == 3
    assert found.delays[-1].customers == 2
    assert found.delays[-1].expected == pytest.approx(3.0, rel=1e-3)


def test_the_order_of_members_and_hours_does_not_matter() -> None:
    draw = random.Random(3)
    start = NOW - 10 * DAY_MS
    hours = []
    for number in range(5):
        at = start + number * HOUR_MS
        noted = scores(*((draw.randrange(40), at + i, [draw.random() for _ in INDEX])
                         for i in range(8)))  # fmt: skip
        did = actions(*((draw.randrange(40), at + draw.randrange(9 * DAY_MS), draw.randrange(4))
                        for _ in range(60)))  # fmt: skip
        hours.append(hour(at, noted, did))
    first = live_quality(hours, RULE, NOW)
    assert first[0].delays[-1].positives > 0
    for order in itertools.islice(itertools.permutations(hours), 1, 40, 7):
        assert live_quality(list(order), RULE, NOW) == first


def test_customers_below_a_later_rank_are_left_out_since_their_actions_were_not_noted() -> None:
    low, high = 1 << 63, 1 << 40  # ranks 0 and 23
    at = NOW - 8 * DAY_MS
    noted = scores((low, at, P), (high, at, P))
    later = hour(NOW - HOUR_MS, scores(), actions((high, at + 5, 0), (high, NOW, 2)), rank=1)
    assert judged([hour(at, noted), later]).followed == 1
    earlier = hour(at - HOUR_MS, scores(), actions((high, at + 5, 0), (high, NOW, 2)), rank=1)
    assert judged([hour(at, noted), earlier]).followed == 2


def test_an_hour_is_bounded_by_following_fewer_customers_whole() -> None:
    ids = [f"customer-{n}".encode() for n in range(3_000)]
    hashes = customer_hashes(ids)
    at = np.arange(3_000) + NOW
    p = np.full((3_000, 3), 0.5, np.float32)
    many = Scores(hashes, at, at, packed_log_odds(p))
    sample = HourSample.begin(NOW // HOUR_MS, "m1", INDEX, 2, None)
    sample.note(many, Actions.none())
    assert len(sample.scores.customer) <= most_scores(3)
    assert sample.rank > 2
    kept = set(sample.scores.customer.tolist())
    assert kept == set(hashes[has_rank(hashes, sample.rank)].tolist())
    # Again in the same hour: the first scores stay, and no customer stands twice.
    sample.note(many._replace(as_of_ms=at + 5), Actions.none())
    assert sample.scores.as_of_ms.max() < NOW + 3_000
    assert len(sample.scores.customer) == len(kept)
    did = Actions(hashes, at, np.zeros(3_000, np.int32), np.ones(3_000, np.uint8))
    everyone = HourSample.begin(NOW // HOUR_MS, "m1", INDEX, 0, None)
    everyone.note(Scores.none(3), did)
    assert 0 < len(everyone.actions.customer) <= MOST_ACTIONS
    found = set(everyone.actions.customer.tolist())
    assert found == set(hashes[has_rank(hashes, everyone.rank)].tolist())


def test_calls_split_anyhow_note_the_same() -> None:
    ids = [f"c{n}".encode() for n in range(900)]
    hashes, at = customer_hashes(ids), np.arange(900) + NOW
    p = np.random.default_rng(1).random((900, 3)).astype(np.float32)
    noted = Scores(hashes, at, at, packed_log_odds(p))
    found = []
    for parts in (1, 3, 90):
        sample = HourSample.begin(NOW // HOUR_MS, "m1", INDEX, 0, None)
        for rows in np.array_split(np.arange(900), parts):
            sample.note(noted.take(rows), Actions.none())
        found.append(sample.to_text())
    assert found[0] == found[1] == found[2]


def test_an_hour_is_the_same_after_it_was_text() -> None:
    at = NOW - DAY_MS
    sample = hour(at, scores((5, at, P), (2**63 + 7, at + 1, P)), actions((5, at + 9, 3)))
    again = HourSample.from_text(sample.to_text().encode(), {})
    assert again.to_text() == sample.to_text()
    assert again.scores.customer.tolist() == [5, 2**63 + 7]
    np.testing.assert_array_equal(again.category_index, INDEX)


@pytest.mark.parametrize("text", [b"", b"x", b"eJyrVkrLz1eyUlBKSixSqgUAHCkEmA==", b"a" * 99])
def test_what_is_no_hour_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not what this program writes"):
        HourSample.from_text(text, {})


def test_probabilities_are_kept_to_within_a_thousandth_of_themselves() -> None:
    p = np.array([1e-6, 0.003, 0.5, 0.97, 0.99999], np.float32)
    found = unpacked_log_odds(packed_log_odds(p))
    np.testing.assert_allclose(found, p, rtol=5e-4)
    np.testing.assert_allclose(1 - found, 1 - p, rtol=5e-2)


def test_a_rank_is_a_share_of_customers() -> None:
    hashes = customer_hashes([f"{n}".encode() for n in range(20_000)])
    assert (rank_of_share(1), rank_of_share(16), rank_of_share(17)) == (0, 4, 5)
    assert has_rank(hashes, 0).all()
    assert has_rank(hashes, 4).mean() == pytest.approx(1 / 16, rel=0.1)
    assert not (has_rank(hashes, 5) & ~has_rank(hashes, 4)).any(), "higher ranks are nested"


def test_the_same_customers_are_sampled_and_no_more_than_a_minute_may_have() -> None:
    keys = [f"{n}".encode() for n in range(400)]
    of_rank = np.flatnonzero(has_rank(customer_hashes(keys), 2))
    assert len(of_rank) > 60
    sampler = Sampler(4, most_a_minute=60)
    rows, hashes = sampler.choose(keys[:100], 7 * MINUTE_MS)
    assert rows.tolist() == of_rank[of_rank < 100].tolist()
    assert hashes.tolist() == customer_hashes(keys)[rows].tolist()
    assert not sampler.full
    rest, _ = sampler.choose(keys[100:], 8 * MINUTE_MS - 1)
    assert (rest + 100).tolist() == of_rank[of_rank >= 100][: 60 - len(rows)].tolist()
    assert sampler.full
    assert len(sampler.choose(keys, 8 * MINUTE_MS - 1)[0]) == 0
    assert sampler.choose(keys, 8 * MINUTE_MS)[0].tolist() == of_rank[:60].tolist()


def test_events_are_counted_by_type_and_actions_of_followed_customers_noted() -> None:
    watch = EventWatch(RULE, WORDS, rank=0)
    rows = [
        ("a", "view", "soup"), ("a", "purchase", "tea"), ("b", "cart", "soup"),
        ("b", "purchase", "wine"), ("c", "purchase", None),
    ]  # fmt: skip
    events = event_batch(rows)
    found = watch(events, EventColumns(events))
    assert found.types == {"view": 1, "purchase": 3, "cart": 1}
    a, b = customer_hashes([b"a", b"b"]).tolist()
    noted = list(zip(*(column.tolist() for column in found.actions), strict=True))
    assert noted == [(a, 1, 3, 2), (b, 2, 0, 1)], "words that no category has make no label"
    nobody = EventWatch(RULE, WORDS, rank=60)(events, EventColumns(events))
    assert nobody.types == found.types
    assert not len(nobody.actions.customer)


def event_batch(rows: list[tuple[str, str, str | None]]) -> EventBatch:
    """Of (customer, event type, category); event n occurred at n."""
    n, nothing = len(rows), list[str | None]()
    nothing += [None] * n
    return EventBatch(
        event_id=StringColumn.of([f"e{i}" for i in range(n)]),
        customer_id=StringColumn.of([who for who, _, _ in rows]),
        event_type=StringColumn.of([kind for _, kind, _ in rows]),
        category_id=StringColumn.of([category for *_, category in rows]),
        product_id=StringColumn.of(nothing),
        value=np.zeros(n), has_value=np.zeros(n, np.bool_), occurred_at_ms=np.arange(n),
        attributes=StringColumn.of([""] * n), partitions=[("events", 0)],
        partition_index=np.zeros(n, np.int32), offsets=np.arange(n), record_index=np.arange(n),
    )  # fmt: skip
