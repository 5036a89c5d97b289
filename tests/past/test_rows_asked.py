"""What `replay --cutoffs` is asked for, and what it answers where that makes no sense."""

from __future__ import annotations

from fractions import Fraction

import pytest

from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.core.labels.sampled_moments import MomentCounts
from stream_scorer.errors import InputError
from stream_scorer.past.rows_asked import RowsAsked

DAY = 86_400_000
HORIZON = 14 * DAY


def ms(text: str) -> int:
    return nearest_ms(parse_iso_8601(text))


def asked(text: str, rows_at: str = "cutoffs", seed: int = 0, every: int = DAY) -> RowsAsked:
    return RowsAsked.parse(text, rows_at, seed, every_ms=every, horizon_ms=HORIZON, moment_ms=ms)


def test_cutoffs_are_ascending_and_named_once() -> None:
    assert RowsAsked.of([3, 1, 3], "both", 0).cutoffs_ms == (1, 3)


def test_moments_alone_are_cutoffs_as_ever() -> None:
    found = asked("2026-09-21T00:00Z, 2026-09-07T00:00Z")
    assert found == RowsAsked.of([ms("2026-09-07T00:00Z"), ms("2026-09-21T00:00Z")])
    assert (found.at_cutoffs, found.samples) == (True, False)


def test_cutoffs_bound_the_rows_between_them() -> None:
    found = asked("2026-09-07T00:00Z,2026-09-21T00:00Z,event:0.1,quiet")
    assert found.at_cutoffs
    assert (found.event_share, found.quiet_share) == (Fraction(1, 10), Fraction(1))
    assert found.period_ms == found.cutoffs_ms == (ms("2026-09-07T00:00Z"), ms("2026-09-21T00:00Z"))
    assert found.every_ms == DAY


def test_a_period_bounds_them_and_has_no_rows_of_its_own() -> None:
    found = asked("2026-09-07T00:00Z..2026-09-21T00:00Z,event")
    assert (found.at_cutoffs, found.cutoffs_ms, found.every_ms) == (False, (), 0)
    assert found.span_ms() == (ms("2026-09-07T00:00Z"), ms("2026-09-21T00:00Z") - 1)
    moments = found.moments(5, 9, HORIZON)
    assert (moments.from_ms, moments.to_ms) == found.period_ms


def test_a_period_alone_is_the_mix_that_run_serves() -> None:
    """About two rows of a customer in a horizon, of each kind; all weigh the same then."""
    found = asked("2026-09-07T00:00Z..2026-09-21T00:00Z")
    assert (found.event_share, found.quiet_share) == (Fraction(1, 7), Fraction(1, 7))
    sample = found.sample(found.moments(5, 9, HORIZON), MomentCounts(0, 30, 50))
    assert sample.weights == (0.0, 1.0, 1.0)
    hourly = asked("2026-09-07T00:00Z..2026-09-21T00:00Z", every=DAY // 24)
    assert (hourly.event_share, hourly.quiet_share) == (Fraction(1, 7), Fraction(1, 7 * 24))
    never = asked("2026-09-07T00:00Z..2026-09-21T00:00Z", every=0)
    assert (never.event_share, never.quiet_share) == (Fraction(1, 7), Fraction(0))


def test_without_moments_rows_lie_in_the_whole_log_but_its_last_horizon() -> None:
    found = asked("event")
    assert found.span_ms() is None
    moments = found.moments(100 * DAY, 150 * DAY, HORIZON)
    # The last day of a log counts as whole, as for cut-offs.
    assert (moments.from_ms, moments.to_ms) == (100 * DAY, 150 * DAY + DAY - HORIZON + 1)
    with pytest.raises(InputError, match="--cutoffs: 'event': no horizon of a row is over"):
        found.moments(100 * DAY, 110 * DAY, HORIZON)


@pytest.mark.parametrize(("counts", "kind"), [((1, 0, 9), "event"), ((1, 9, 0), "quiet")])
def test_a_kind_without_a_row_is_named(counts: tuple[int, int, int], kind: str) -> None:
    found = asked("2026-09-07T00:00Z,2026-09-21T00:00Z,event:0.1,quiet")
    with pytest.raises(InputError, match=f"--cutoffs: '{kind}': no such row between 2026-09-07"):
        found.sample(found.moments(5, 9, HORIZON), MomentCounts(*counts))


@pytest.mark.parametrize(("text", "said"), [
    ("event,event:0.1", "names event rows twice"),
    ("event:0", "its rate is a share above 0 and up to 1"),
    ("quiet:1.5", "its rate is a share above 0 and up to 1"),
    ("event:often", "its rate is a share above 0 and up to 1"),
    ("event:1/0", "its rate is a share above 0 and up to 1"),
    ("event:1e-999999999", "its rate is a share above 0 and up to 1"),
    ("event:1/1e999999999", "its rate is a share above 0 and up to 1"),
    ("event:", "its rate is a share above 0 and up to 1"),
    ("event,", "names nothing at one place"),
    ("", "names nothing at one place"),
    ("2026-09-07T00:00Z..", "lacks one of its two moments"),
    ("2026-09-07T00:00Z..2026-09-07T00:00Z", "is empty, since its end is excluded"),
    ("2026-09-07T00:00Z..2026-09-21T00:00Z,2026-09-08T00:00Z", "has cut-offs and a period"),
    ("2026-09-07T00:00Z,event", "has one moment, which bounds no event or quiet rows"),
    ("2026-09-21T00:00Z..2026-09-07T00:00Z", "ends before it begins"),
    ("2026-09-07T00:00Z..2026-09-08T00:00Z,2026-09-07T00:00Z..2026-09-08T00:00Z", "second period"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        asked(text)


def test_quiet_rows_need_a_refresh_that_scores_them() -> None:
    with pytest.raises(InputError, match=r"refresh\.every says never"):
        asked("quiet", every=0)


@pytest.mark.parametrize(
    "text", ["event:0.1", "event:.1", "event:1/10", "event:1e-1", "event: 0.1"]
)
def test_a_rate_is_a_decimal_number_or_a_fraction(text: str) -> None:
    assert asked(text).event_share == Fraction(1, 10)


def test_more_rounds_of_a_refresh_than_can_be_gone_through_are_refused() -> None:
    """It would take hours without a word, or all memory."""
    found = asked("quiet:0.00001", every=1000)
    with pytest.raises(InputError, match=r"every 1 seconds would have begun 1,296,000 rounds"):
        found.moments(100 * DAY, 128 * DAY, HORIZON)
    found.moments(100 * DAY, 115 * DAY, HORIZON)
    # What lies before the first event has no round.
    far = asked("1970-01-01T00:00Z..2026-09-21T00:00Z,quiet", every=60_000)
    assert far.moments(ms("2026-09-01T00:00Z"), ms("2026-10-21T00:00Z"), HORIZON).from_ms == 0


def test_rows_at_goes_with_moments_alone() -> None:
    with pytest.raises(InputError, match="--rows-at: 'both': goes with moments alone"):
        asked("event", rows_at="both")
    with pytest.raises(InputError, match="--seed"):
        asked("event", seed=-1)
