"""Peak memory from a moment on, for tests of bounds."""

from __future__ import annotations

from pathlib import Path


def forget_peak() -> None:
    """From now on `runtime.peak_memory_bytes` is what this process holds now, or more.

    Without it what an earlier test had held would hide what this one takes.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # man 5 proc_pid_clear_refs
