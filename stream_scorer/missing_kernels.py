"""What is done when a kernel is first called whose compiled code is not in the folder.

A verb says so when it begins, and pays nothing for it: numba is not imported here. It is done where
the first kernel is missing, and not before, so whatever a verb checks without kernels (arguments,
the config, the files of a model) is reported before anything is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_waiting: list[Callable[[], None]] = []


@contextmanager
def when_missing(compile_ahead: Callable[[], None]) -> Iterator[None]:
    """Inside this context call `compile_ahead` once, in the thread that calls a missing kernel.

    The kernel is then looked up again, and if it is still missing, compiled. What `compile_ahead`
    raises, the call of the kernel raises.
    """
    before = _waiting[:]
    _waiting[:] = [compile_ahead]
    try:
        yield
    finally:
        _waiting[:] = before


def compiled_ahead() -> bool:
    """For jit.py: do what was asked for, if anything was; whether it was."""
    if not _waiting:
        return False
    _waiting.pop()()
    return True
