"""`stream-scorer rollout`: a changed declaration, step by step (rollout/rollout.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from stream_scorer.errors import InputError
from stream_scorer.io.stores.rollout_record import ENDED
from stream_scorer.result import Result
from stream_scorer.rollout.namespaces import DroppedNamespace, drop
from stream_scorer.rollout.rollout import Rollout
from stream_scorer.settings.tree import Settings

LEFT = (
    "the group went over to another namespace since: the same command without --status begins the "
    "way back"
)


@dataclass(frozen=True)
class RolledOut(Result):
    """step: what is next of files, topic, model, switch, refresh, done and dropped. done: all
    partitions are read for the new namespace, and all customers are scored with its model. behind:
    records of the log that it lacks. moved: partitions that are read for it, of `partitions`.
    to_do: what is left to people, in words."""

    namespace: str
    replaces: str
    fingerprint: str
    step: str
    done: bool
    behind: int
    moved: int
    partitions: int
    to_do: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class CalledOff(Result):
    """A roll-out that was begun and is no more."""

    namespace: str
    replaces: str


def rollout(
    settings: Settings,
    files: Sequence[str] = (),
    topic_from_ms: int | None = None,
    *,
    accept_missing: bool = False,
    wait: bool = True,
    refresh: bool = True,
    say: Callable[[str], None] = lambda _line: None,
) -> RolledOut:
    """Begin or go on, up to the end; without `wait` up to where people have to do something.

    refresh: whether all customers are scored again after the switch. say: given lines for the
    person who waits. Raises InputError, Unavailable, Halt.
    """
    started = time.monotonic()
    with closing(Rollout(settings, say)) as work:
        work.begin(files, topic_from_ms, accept_missing=accept_missing)
        work.build(files, accept_missing=accept_missing)
        if work.wait_for_model(wait=wait):
            _finish(work, wait=wait, refresh=refresh)
        return _result(work, started)


def status(settings: Settings) -> RolledOut:
    """How far it is; nothing is changed."""
    started = time.monotonic()
    with closing(Rollout(settings, lambda _line: None)) as work:
        return _result(work, started)


def cancel(settings: Settings) -> CalledOff:
    """Call it off, where no member of the new namespace reads."""
    with closing(Rollout(settings, lambda _line: None)) as work:
        replaces = work.begun.replaces
        work.cancel()
    return CalledOff(settings.store.namespace, replaces)


def dropped_old(settings: Settings) -> DroppedNamespace:
    """Delete the namespace that was replaced. Raises InputError where that is not done yet."""
    with closing(Rollout(settings, lambda _line: None)) as work:
        record = work.begun
        if record.step != "done":
            gone = record.step == "dropped"
            said = "is gone already" if gone else f"is not replaced yet: next step {record.step}"
            raise InputError("--drop-old", record.replaces, f"it {said}")
        if work.was_left(work.positions()):
            remedy = f"group {settings.kafka.group_id} went over to another namespace since"
            raise InputError("--drop-old", record.replaces, f"is not replaced any more: {remedy}")
        # It may be gone: by hand, or this command was killed before it could note that.
        dropped = drop(settings, record.replaces, agreed=True, force=False, may_be_gone=True)
        work.old_was_dropped()
    return dropped


def in_words(found: RolledOut) -> list[str]:
    """The state for people."""
    return [
        f"{found.namespace} (fingerprint {found.fingerprint}) in place of {found.replaces}: "
        + ("all partitions are read for it" if found.done else f"next step: {_next_step(found)}"),
        f"{found.behind:,} records behind the log; {found.moved} of {found.partitions} partitions "
        "are read for it",
        *(f"to do: {line}" for line in found.to_do),
    ]


def _next_step(found: RolledOut) -> str:
    return "to begin again" if found.step in ENDED else found.step


def called_off_in_words(done: CalledOff) -> list[str]:
    """What is left, for people."""
    return [
        f"the roll-out from {done.replaces} to {done.namespace} is called off; "
        f"`namespaces drop {done.namespace}`, with the old config, deletes what was built"
    ]


def _finish(work: Rollout, *, wait: bool, refresh: bool) -> None:
    if work.switch(wait=wait):
        if not refresh:
            work.leave_out_refresh()
        work.refresh(wait=wait)


def _result(work: Rollout, started: float) -> RolledOut:
    record, positions = work.begun, work.positions()
    left = work.was_left(positions)
    return RolledOut(
        work.namespace, record.replaces, work.space.fingerprint_hex, record.step,
        record.step in ENDED and not left,
        work.behind(positions), work.moved(positions), len(positions),
        (LEFT,) if left else _to_do(record.step, work.refused_model),
        round(time.monotonic() - started, 3),
    )  # fmt: skip


def _to_do(step: str, refused_model: str) -> tuple[str, ...]:
    if refused_model:
        remedy = "put another model there and go on with the same command"
        return (f"the model can't be served ({refused_model}): {remedy}",)
    drop_old = "once no restart with the old config is wanted: `rollout --drop-old`"
    return {
        "files": ("go on with the same command",),
        "topic": ("go on with the same command",),
        "model": ("put a model of the new declaration at model.path; go on with the same command",),
        "switch": (
            "restart each member with the new config, one after the other, while this command runs",
        ),
        "refresh": (
            "the members score all customers again, where `[refresh]` lets them; go on with the "
            "same command, or without it with --no-refresh",
        ),
        "done": (drop_old,),
        "dropped": (),
    }[step]
