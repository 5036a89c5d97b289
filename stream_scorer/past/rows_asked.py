"""Which rows `replay` is asked for: at cut-offs, after events, and as a refresh scores.

`--cutoffs` names them, with commas between: moments, which are cut-offs with a row of every
customer; `event` or `event:RATE` and `quiet` or `quiet:RATE`, rows as the consumer and a refresh
score, all of them or a share; and at most one period `TIME..TIME`, in which those lie. Without a
period they lie between the first cut-off and the last, or, where there is no cut-off, in the whole
log but its last horizon. A period alone asks for the mix that `run` serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.labels.labels import DAY_MS, latest_horizon_end_ms
from stream_scorer.core.labels.sampled_moments import MomentCounts, MomentSample
from stream_scorer.errors import InputError
from stream_scorer.io.files.row_moments import RowMoments

MOST_SEED = 2**63 - 1  # the largest whole number that every reader of a manifest takes
ROWS_AT = ("cutoffs", "events", "both")
EVENT, QUIET = "event", "quiet"
# With one, the public data of tests/quality/complete_journey.py had a log loss .0004 higher.
ROWS_IN_HORIZON = 2
NO_ROW = "give a longer period, or a higher rate"
# Each round goes through all customers twice; so many take minutes for the smallest shop.
MOST_ROUNDS = 200_000
# A power of ten of more digits would be computed in full, and could take all memory.
RATE = re.compile(r"[0-9.]{1,30}([eE]-?[0-9]{1,2}|/[0-9]{1,30})?")


@dataclass(frozen=True)
class RowsAsked:
    """cutoffs_ms: ascending; at_cutoffs: whether rows stand there. event_share, quiet_share: 0 to
    1, of all moments of the kind; like_cutoffs: as many event rows as the cut-offs have, whatever
    event_share says. period_ms: from inclusive, to exclusive, None: the whole log. every_ms: from
    one round of a refresh to the next, 0 without quiet rows. seed: of what is sampled.
    """

    cutoffs_ms: tuple[int, ...]
    at_cutoffs: bool = True
    event_share: Fraction = Fraction(0)
    quiet_share: Fraction = Fraction(0)
    like_cutoffs: bool = False
    period_ms: tuple[int, int] | None = None
    every_ms: int = 0
    seed: int = 0

    @classmethod
    def of(cls, cutoffs_ms: Sequence[int], rows_at: str = "cutoffs", seed: int = 0) -> RowsAsked:
        """Rows at cut-offs, after events between them ("events"), or "both".

        Raises InputError for what can't be asked for.
        """
        cutoffs = tuple(sorted(set(cutoffs_ms)))
        _check_seed(seed)
        if rows_at not in ROWS_AT:
            raise InputError("--rows-at", rows_at, "give cutoffs, events or both")
        if rows_at == "cutoffs":
            return cls(cutoffs, seed=seed)
        if len(cutoffs) < 2:
            remedy = (
                f"is one moment, and rows as of events (--rows-at {rows_at}) lie between the first "
                "cut-off and the last; give two or more"
            )
            raise InputError("--cutoffs", moment_text(cutoffs[0]), remedy)
        return cls(
            cutoffs, rows_at == "both", Fraction(1), like_cutoffs=True,
            period_ms=(cutoffs[0], cutoffs[-1]), seed=seed,
        )  # fmt: skip

    @classmethod
    def parse(
        cls, text: str, rows_at: str, seed: int, *, every_ms: int, horizon_ms: int,
        moment_ms: Callable[[str], int],
    ) -> RowsAsked:  # fmt: skip
        """What `--cutoffs`, `--rows-at` and `--seed` ask for.

        every_ms: of `[refresh]`, 0 where customers are not refreshed. moment_ms: reads a moment.
        Raises InputError for what can't be asked for.
        """
        cutoffs, shares, period = _parts(text, moment_ms)
        if period is None and not shares:
            return cls.of(sorted(cutoffs), rows_at, seed)
        _check_seed(seed)
        if rows_at != "cutoffs":
            remedy = "goes with moments alone; name event and quiet rows in --cutoffs instead"
            raise InputError("--rows-at", rows_at, remedy)
        if QUIET in shares and not every_ms:
            remedy = (
                "quiet rows stand where a refresh scores, and refresh.every says never; set it, or "
                "leave them out"
            )
            raise InputError("--cutoffs", text, remedy)
        if period is None and len(cutoffs) == 1:
            remedy = (
                "has one moment, which bounds no event or quiet rows; give two or more, none, or a "
                "period TIME..TIME"
            )
            raise InputError("--cutoffs", text, remedy)
        if not shares and cutoffs:
            remedy = (
                "has cut-offs and a period, in which only event and quiet rows lie: name event or "
                "quiet as well, or give the period alone for the mix that `run` serves"
            )
            raise InputError("--cutoffs", text, remedy)
        if not shares:
            shares = _as_served(every_ms, horizon_ms)
        if period is None and cutoffs:
            period = (min(cutoffs), max(cutoffs))
        quiet = shares.get(QUIET, Fraction(0))
        return cls(
            tuple(sorted(cutoffs)), bool(cutoffs), shares.get(EVENT, Fraction(0)), quiet,
            period_ms=period, every_ms=every_ms if quiet else 0, seed=seed,
        )  # fmt: skip

    @property
    def samples(self) -> bool:
        """Whether rows other than those of cut-offs are asked for."""
        return bool(self.event_share or self.quiet_share)

    def span_ms(self) -> tuple[int, int] | None:
        """No row stands before the first or after the last; None where the log decides."""
        ends = list(self.cutoffs_ms)
        if self.samples:
            if self.period_ms is None:
                return None
            ends += [self.period_ms[0], self.period_ms[1] - 1]
        return min(ends), max(ends)

    def moments(self, first_event_ms: int, last_event_ms: int, horizon_ms: int) -> MomentSample:
        """Which moments are rows, before anything is known of their number.

        Raises InputError where the log is no longer than a horizon, or where a refresh would have
        begun more than `MOST_ROUNDS` rounds.
        """
        period = self.period_ms
        if period is None:
            # The last moments whose horizon is over.
            period = first_event_ms, latest_horizon_end_ms(last_event_ms) - horizon_ms + 1
            if period[0] >= period[1]:
                remedy = (
                    "no horizon of a row is over: the events begin at "
                    f"{moment_text(first_event_ms)} and end at {moment_text(last_event_ms)}; "
                    "give more events, or a shorter labels.horizon"
                )
                raise InputError("--cutoffs", self._words(), remedy)
        if self.every_ms:
            rounds = (period[1] - max(period[0], first_event_ms)) // self.every_ms
            if rounds > MOST_ROUNDS:
                remedy = (
                    f"a refresh every {self.every_ms / 1000:g} seconds would have begun {rounds:,} "
                    f"rounds, more than {MOST_ROUNDS:,}: give a period TIME..TIME that is shorter, "
                    "or set refresh.every to what `run` has"
                )
                raise InputError("--cutoffs", self._words(), remedy)
        return MomentSample(
            self.cutoffs_ms, *period, self.seed, self.event_share, self.quiet_share, self.every_ms
        )

    def sample(self, moments: MomentSample, counts: MomentCounts) -> MomentSample:
        """The same, with shares and weights by the totals. Raises InputError for a kind that is
        asked for and has no row."""
        between = f"between {moment_text(moments.from_ms)} and {moment_text(moments.to_ms)}"
        if self.like_cutoffs:
            if not counts.event_moments:
                remedy = (
                    f"and {moment_text(self.cutoffs_ms[-1])} have no event between them; give "
                    "cut-offs further apart, or --rows-at cutoffs"
                )
                raise InputError("--cutoffs", moment_text(self.cutoffs_ms[0]), remedy)
            return moments.like_cutoffs(counts)
        for kind, share, rows in (
            (EVENT, self.event_share, counts.event_moments),
            (QUIET, self.quiet_share, counts.quiet_moments),
        ):
            if share and not rows:
                raise InputError("--cutoffs", kind, f"no such row {between}; {NO_ROW}")
        return moments.weighted(counts)

    def written(self, rows: MomentCounts, sample: MomentSample | None) -> RowMoments:
        """What the manifest says. rows: how many there are of each kind."""
        if sample is None:
            return RowMoments(self.cutoffs_ms, rows.cutoff_rows, rows.event_moments, None)
        period = None if self.like_cutoffs else (sample.from_ms, sample.to_ms)
        return RowMoments(
            self.cutoffs_ms, rows.cutoff_rows, rows.event_moments, self.seed,
            quiet_rows=rows.quiet_moments, quiet_every_ms=self.every_ms or None,
            period_ms=period, weights=sample.weights,
        )  # fmt: skip

    def _words(self) -> str:
        kinds = ((EVENT, self.event_share), (QUIET, self.quiet_share))
        return ",".join(kind for kind, share in kinds if share)


def _parts(
    text: str, moment_ms: Callable[[str], int]
) -> tuple[set[int], dict[str, Fraction], tuple[int, int] | None]:
    """Cut-offs, the share of each kind that is named, and the period."""
    cutoffs, shares, period = set[int](), dict[str, Fraction](), None
    for part in (part.strip() for part in text.split(",")):
        kind, *rate = part.split(":", 1)
        if not part:
            remedy = "names nothing at one place; leave out the comma, or give what belongs there"
            raise InputError("--cutoffs", text, remedy)
        if kind in (EVENT, QUIET):
            if kind in shares:
                raise InputError("--cutoffs", part, f"names {kind} rows twice; give one of it")
            shares[kind] = _rate(part, rate[0]) if rate else Fraction(1)
        elif ".." in part:
            if period is not None:
                raise InputError("--cutoffs", part, "is a second period; give one")
            period = _period(part, moment_ms)
        else:
            cutoffs.add(moment_ms(part))
    return cutoffs, shares, period


def _as_served(every_ms: int, horizon_ms: int) -> dict[str, Fraction]:
    """The mix that `run` serves: after events, and at each round of a refresh if there is one.

    A quiet customer has about `ROWS_IN_HORIZON` rows in a horizon, and so has one who acts once a
    day: labels of rows closer together are mostly the same.
    """
    shares = {EVENT: min(Fraction(ROWS_IN_HORIZON * DAY_MS, horizon_ms), Fraction(1))}
    if every_ms:
        shares[QUIET] = min(Fraction(ROWS_IN_HORIZON * every_ms, horizon_ms), Fraction(1))
    return shares


def _period(part: str, moment_ms: Callable[[str], int]) -> tuple[int, int]:
    start, _, end = part.partition("..")
    if not start.strip() or not end.strip():
        raise InputError("--cutoffs", part, "lacks one of its two moments; give TIME..TIME")
    period = moment_ms(start.strip()), moment_ms(end.strip())
    if period[0] == period[1]:
        raise InputError("--cutoffs", part, "is empty, since its end is excluded; give a later one")
    if period[0] > period[1]:
        raise InputError("--cutoffs", part, "ends before it begins; give TIME..TIME in order")
    return period


def _rate(part: str, text: str) -> Fraction:
    try:
        rate = Fraction(text.strip()) if RATE.fullmatch(text.strip()) else Fraction(0)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1:
        raise InputError("--cutoffs", part, "its rate is a share above 0 and up to 1, such as 0.1")
    return rate


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MOST_SEED:
        raise InputError("--seed", seed, f"give a whole number from 0 to {MOST_SEED}")
