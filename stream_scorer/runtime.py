"""What this process may use of the machine: its processor and cores, and memory that it was given
before.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # glibc's malloc.h
# Larger arrays than this still go back to the kernel when they are freed.
_KEPT_BYTES = 1 << 30
_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_QUOTA = 1 << 30
_sharing = 1  # processes like this one on this machine; see `share_cores`

Piece = TypeVar("Piece")


@dataclass(frozen=True, slots=True)
class Threads:
    """At most `count` threads, for compiled work that releases the interpreter's lock."""

    count: int

    def map(
        self, work: Callable[[int, int], Piece], first: list[int], last: list[int]
    ) -> Iterable[Piece]:
        """work(first[i], last[i]) for each i, all at the same time, results in order."""
        with ThreadPoolExecutor(min(self.count, len(first))) as pool:
            return list(pool.map(work, first, last))


def share_cores(processes: int) -> None:
    """From now on `usable_cores` is this process's share: it is one of so many that do the same."""
    global _sharing  # noqa: PLW0603 - of the whole process, as its cores are
    _sharing = processes


def usable_cores() -> int:
    """Cores that this process may keep busy, at least 1: no more than it may run on, and than the
    processor time that its container or service is limited to, shared as `share_cores` says."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota_cores(_CGROUPS, _MEMBERSHIP)) // _sharing)


def _quota_cores(groups: Path, membership: Path) -> int:
    """Cores, rounded up, that control groups give this process time for; many where they set no
    limit. More threads than that would be stopped in the middle of their work.

    groups: where the kernel shows them. membership: the groups of this process, a line for each
    hierarchy: number, controllers and path, separated by colons; version 2 has number 0.
    """
    least = float(_NO_QUOTA)
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return _NO_QUOTA
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        top = groups if number == "0" else groups / "cpu"
        # In a container the top is its own group, and the path may be one of the machine outside.
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(top):
                least = min(least, _quota_of(group))
    return math.ceil(least)


def _quota_of(group: Path) -> float:
    """The limit of one control group in cores, of version 2 or 1."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (group / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
    except OSError:
        return _NO_QUOTA
    return _NO_QUOTA if quota in ("max", "-1") else int(quota) / int(period)


def processor_name() -> str:
    """The processor's name, as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory_bytes() -> int:
    """The most memory that this process has held.

    Where the kernel's status file does not say it, the number is getrusage's, which also has what
    the process held that started this one, until this program was loaded in its place.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource  # noqa: PLC0415 - only Unix has it

    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Freed arrays stay with this process, for jobs that make large ones again and again.

    By default glibc gives them back to the kernel, and each page of the next array is a page fault:
    in a replay on a virtual machine that was a third of all time. The price is that the process
    keeps its peak memory until it ends. Call it before importing libraries whose threads would get
    heaps of their own. It has no effect where the C library is not glibc.
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
