"""How long to wait before trying again.

The limit doubles from one attempt to the next up to a cap, and the delay is drawn evenly between 0
and that limit ("full jitter"). All members of a group lose a server at the same moment; with fixed
delays they would also come back at the same moments, each time as one burst.

The policy neither sleeps nor reads a clock: callers do, because some of them must stay in their
consumer group while they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator


def delays(
    first_seconds: float, most_seconds: float, random: Callable[[], float]
) -> Iterator[float]:
    """Endless delays in seconds, before the first repeated attempt, the second, and so on.

    first_seconds: the limit of the first delay; most_seconds: the greatest limit; random: a number
    from 0 to below 1 at each call, as `random.random`.
    """
    limit = first_seconds
    while True:
        yield random() * min(limit, most_seconds)
        limit = min(2 * limit, most_seconds)
