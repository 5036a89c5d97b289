"""What every function that Spark's Python workers run needs.

A worker does not compile ahead: it may have one core and little memory, beside others that would do
the same. It compiles what its task calls, and says so in the executor's log.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec

from stream_scorer.missing_kernels import when_missing

P = ParamSpec("P")


def in_worker(
    work: Callable[Concatenate[Iterator[Any], P], Iterator[Any]],
) -> Callable[Concatenate[Iterator[Any], P], Iterator[Any]]:
    """A function on the batches of a partition, with a line on stderr where kernels are missing."""

    @functools.wraps(work)
    def run(batches: Iterator[Any], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        with when_missing(_say):
            yield from work(batches, *args, **kwargs)

    return run


def _say() -> None:
    line = (
        "stream-scorer: compiling kernels in this worker, which takes seconds; run `stream-scorer "
        "warm` in the executors' image, or send compiled kernels with the job "
        "(docs/how-to/score-in-bulk.md)"
    )
    print(line, file=sys.stderr, flush=True)
