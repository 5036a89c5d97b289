"""What this process may use of the machine: its cores, and memory that it was given before.

Must not live here: anything that knows what the work is.
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_KEPT_BYTES = 1 << 30


def usable_cores() -> int:
    """At least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Freed arrays stay with this process, for jobs that make large ones again and again.

    Else glibc gives them back to the kernel, and each page of the next one is a fault: in a replay
    on a virtual machine a third of all time. Its memory then stays at its peak until it ends. To be
    called before the libraries are imported whose threads would have heaps of their own. Without
    effect where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for option, value in (
        (_ARENA_MAX, 1),
        (_MMAP_THRESHOLD, _KEPT_BYTES),
        (_TRIM_THRESHOLD, _KEPT_BYTES),
    ):
        mallopt(option, value)
