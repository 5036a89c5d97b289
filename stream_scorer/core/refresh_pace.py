"""How many customers a refresh takes at once, and how often.

Between two micro-batches an event waits for one slice of refreshing at most, so a slice takes a
part of what a turn of the loop takes: a page of many customers where micro-batches are gathered for
long, a small one where they follow each other quickly. What a page costs beside its customers,
above all the wait for Kafka's confirmation, is the same for few and for many. That is why no page
is smaller than `FEWEST`, and why a slower confirmation does not make pages ever smaller.
"""

from __future__ import annotations

# The most of its time that a member refreshes, waits for Kafka included: while events come, and
# while none come.
BUSY_SHARE, IDLE_SHARE = 0.1, 0.5
# A slice's part of a turn. An event waits for about two turns at worst, so this is within a fifth.
PART_OF_TURN = 0.3
LEAST_SLICE_SECONDS, MOST_SLICE_SECONDS = 0.005, 0.05
FEWEST, MOST = 40, 500  # customers in a page
FIRST_TURN_SECONDS = 0.02
FIRST_SECONDS_EACH = 1e-4
LEAST_SECONDS_EACH = 1e-7  # where a clock did not move
WEIGHT = 0.2  # of the newest measurement in the averages


class TokenBucket:
    """At most `per_second` customers a second, and a quarter of that at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second, self.most = per_second, max(per_second / 4, 1.0)
        self._tokens, self._at = self.most, 0.0

    def available(self, seconds: float) -> int:
        """How many may be taken at this moment of a clock that never goes back."""
        passed = max(seconds - self._at, 0.0)
        self._at = seconds
        self._tokens = min(self._tokens + passed * self._per_second, self.most)
        return int(self._tokens)

    def take(self, count: int) -> None:
        """`count` of those that `available` gave are used."""
        self._tokens -= count


class Pace:
    """The pace of one member. Moments are those of a clock that never goes back, in seconds.

    per_second: at most so many customers are looked at.
    """

    def __init__(self, per_second: float) -> None:
        self._bucket = TokenBucket(per_second)
        self._turn_seconds = FIRST_TURN_SECONDS
        self._seconds_each, self._waited_seconds = FIRST_SECONDS_EACH, 0.0
        self._credit_seconds = 0.0  # what may be worked now; below 0: what was worked too early
        self._turn_ended: float | None = None

    def allow(self, per_second: float) -> None:
        """Look at so many at most from now on."""
        self._bucket = TokenBucket(per_second)

    def may_begin(self, now: float, *, busy: bool) -> bool:
        """Whether a slice may begin at `now`, when the loop has ended a turn. busy: events came in
        it."""
        if self._turn_ended is not None:
            self._credit(now - self._turn_ended, busy=busy)
            turn = min(now - self._turn_ended, 1.0)
            self._turn_seconds += WEIGHT * (turn - self._turn_seconds)
        self._turn_ended = now
        return self._credit_seconds >= 0

    def ended(self, began: float, now: float) -> None:
        """A slice was worked from `began` until `now`."""
        self._credit_seconds -= now - began
        self._turn_ended = now

    def _credit(self, seconds: float, *, busy: bool) -> None:
        share = BUSY_SHARE if busy else IDLE_SHARE
        # Of the time between two slices, so that slices are that share of the whole.
        credit = self._credit_seconds + seconds * share / (1 - share)
        self._credit_seconds = min(credit, MOST_SLICE_SECONDS)

    @property
    def slice_seconds(self) -> float:
        """About how long a slice may take."""
        wanted = PART_OF_TURN * self._turn_seconds
        return min(max(wanted, LEAST_SLICE_SECONDS), MOST_SLICE_SECONDS)

    def page(self, now: float) -> int:
        """How many customers are next. 0: wait, since a page that is worth its cost would be more
        than may be looked at yet."""
        seconds = max(self.slice_seconds - self._waited_seconds, self._waited_seconds / 4)
        wanted = min(max(FEWEST, int(seconds / self._seconds_each)), MOST, int(self._bucket.most))
        return wanted if self._bucket.available(now) >= wanted else 0

    def took(self, customers: int, seconds: float, waited_seconds: float) -> None:
        """A page of `customers` took `seconds`; of these waited_seconds for Kafka."""
        self._bucket.take(customers)
        each = max((seconds - waited_seconds) / customers, LEAST_SECONDS_EACH)
        waited = min(waited_seconds, MOST_SLICE_SECONDS)
        self._seconds_each += WEIGHT * (each - self._seconds_each)
        self._waited_seconds += WEIGHT * (waited - self._waited_seconds)
