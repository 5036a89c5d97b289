"""Whether this consumer is alive and ready, for probes. Pure: the time is an argument.

**Alive** means that the loop moves. It is fed with the end of every step and of every slice of a
wait, so that a consumer that waits for Kafka or Redis is alive. Where nothing ended for longer than
the longest step can take, only a restart helps. The start has no such limit: how long compiling and
reading a model may take is for the startup probe to say, which asks for readiness.

**Ready** means that events are worked on, or would be if there were any: warmed up, joined to the
group, its partitions read, and no server waited for since `PATIENCE_SECONDS`. A member that the
group gave no partition, because it has more members than the topic has partitions, is ready: it
stands by, and a rollout that waits for it would wait for ever. Without partitions because the
group is still dividing them, it is not.

One thread writes, and others read: each answer takes what it needs from one immutable state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# A step or a wait of this length is seen by those who ask whether it is ready. A server that
# restarts is back sooner.
PATIENCE_SECONDS = 30.0
# Beyond the longest step that the settings allow.
GRACE_SECONDS = 60.0

Verdict = tuple[bool, str]


@dataclass(frozen=True)
class _State:
    """moved: when the last step or wait ended. waits_since, waits_for: a server did not answer.
    reads: partitions that are read, None before the group has answered. begins: partitions that
    came and are not read yet. Moments in seconds."""

    warm: bool = False
    joined: bool = False
    stopping: bool = False
    moved: float | None = None
    waits_since: float | None = None
    waits_for: str = ""
    reads: int | None = None
    begins: int = 0


class Health:
    """The state of one consumer. Seconds are of a clock that only grows.

    most_quiet_seconds: longer than the longest step can take; see `most_quiet_seconds`.
    """

    def __init__(self, most_quiet_seconds: float) -> None:
        self.most_quiet_seconds = most_quiet_seconds
        self._state = _State()

    def warmed_up(self) -> None:
        """Kernels are compiled and the model is bound."""
        self._state = replace(self._state, warm=True)

    def joined(self, now: float) -> None:
        """It has asked the group for partitions, for the first time or again."""
        self._state = replace(self._state, joined=True, moved=now, reads=None, begins=0)

    def moved(self, now: float) -> None:
        """A step or a slice of a wait ended."""
        self._state = replace(self._state, moved=now)

    def worked(self, now: float) -> None:
        """A step ended well, so no server is waited for."""
        self._state = replace(self._state, moved=now, waits_since=None, waits_for="")

    def waits(self, server: str, now: float) -> None:
        """A step failed because `server` did not answer; it will be tried again."""
        since = now if self._state.waits_since is None else self._state.waits_since
        self._state = replace(self._state, moved=now, waits_since=since, waits_for=server)

    def assigned(self, reads: int | None, begins: int = 0) -> None:
        """reads: so many partitions are read; None: the group has not said which. begins: so many
        came and are not read yet."""
        if (reads, begins) != (self._state.reads, self._state.begins):
            self._state = replace(self._state, reads=reads, begins=begins)

    def stops(self) -> None:
        """It was asked to stop, and finishes what it does."""
        self._state = replace(self._state, stopping=True)

    def alive(self, now: float) -> Verdict:
        """Whether the loop moves, and why it is thought so."""
        state = self._state
        if state.moved is None or not state.joined:
            return True, "starting"
        quiet = now - state.moved
        if quiet > self.most_quiet_seconds:
            return False, (
                f"no step has ended for {quiet:.0f} s, and none takes longer than "
                f"{self.most_quiet_seconds:.0f} s: restart this member"
            )
        return True, "stopping" if state.stopping else f"the last step ended {quiet:.1f} s ago"

    def ready(self, now: float) -> Verdict:
        """Whether events are worked on, and why not."""
        state = self._state
        trouble = self._trouble(state, now)
        if trouble:
            return False, trouble
        if state.reads:
            return True, f"{state.reads} partitions are read"
        return True, (
            "stands by without partitions: the group has at least as many other members as the "
            "topic has partitions"
        )

    def _trouble(self, state: _State, now: float) -> str:
        """Why it is not ready, "" where it is."""
        waits = 0.0 if state.waits_since is None else now - state.waits_since
        quiet = 0.0 if state.moved is None else now - state.moved
        troubles = (
            (state.stopping, "stopping"),
            (not state.warm, "starting: kernels and model are not ready yet"),
            (not state.joined, "starting: it has not joined its group yet"),
            (waits > PATIENCE_SECONDS, f"has waited for {state.waits_for} for {waits:.0f} s"),
            (quiet > PATIENCE_SECONDS, f"has been in one step for {quiet:.0f} s"),
            (state.reads is None, "joined: the group has not given it partitions yet"),
            (
                not state.reads and state.begins > 0,
                f"{state.begins} partitions came, and where to start them is not known yet",
            ),
        )
        return next((text for is_so, text in troubles if is_so), "")


def most_quiet_seconds(
    max_poll_interval_ms: int, delivery_timeout_ms: int, redis_timeout_seconds: float
) -> float:
    """How long a loop may be quiet before it is thought to hang, by the time limits of its clients.

    Whoever has not polled for max.poll.interval.ms has lost its partitions to others anyway; a
    step that waits for Kafka and Redis ends before.
    """
    slowest = max(max_poll_interval_ms / 1000, delivery_timeout_ms / 1000 + redis_timeout_seconds)
    return slowest + GRACE_SECONDS
