"""A progress bar on stderr, for the person who waits.

stdout stays free for results. Where stderr is not a terminal, nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class Meter:
    """One bar. Counts are in whatever unit the work has."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, count: float, total: float | None = None) -> None:
        """`count` more units are done; total: of how many, where that is known better by now."""
        self._bar.update(self._task, advance=count, total=total)

    def at(self, done: float, total: float | None = None) -> None:
        """`done` units are done, of `total` where that is known by now."""
        self._bar.update(self._task, completed=done, total=total)


_open: list[Meter] = []


def is_drawn() -> bool:
    """Whether a bar would be drawn: stderr is a terminal, and has no bar yet."""
    return not _open and Console(stderr=True).is_terminal


@contextmanager
def progress(
    what: str, total: float | None = None, console: Console | None = None, *, quiet: bool = False
) -> Iterator[Meter]:
    """A bar labelled `what` inside this context; total None: not known yet; quiet: no bar."""
    console = console or Console(stderr=True)
    # A console that is no terminal would get each bar once more, as it stood at the end.
    quiet = quiet or not console.is_terminal
    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet) as bar:
        meter = Meter(bar, bar.add_task(what, total=total))
        _open.append(meter)
        try:
            yield meter
        finally:
            _open.remove(meter)
