"""What a process says of its own memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

MIB = 2**20


def test_the_peak_stays_after_memory_is_given_back_until_it_is_forgotten() -> None:
    # A process of its own: where much was freed before, an array takes memory that is there.
    code = f"""
from peak_memory import forget_peak
from stream_scorer.runtime import peak_memory_bytes
before = peak_memory_bytes()
assert len(b"x" * {50 * MIB}) == {50 * MIB}
after = peak_memory_bytes()
forget_peak()
print(after - before, after - peak_memory_bytes())
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    grown, forgotten = map(int, ran.stdout.split())
    assert 45 * MIB < grown < 70 * MIB
    assert forgotten > 45 * MIB


def test_what_started_the_process_does_not_count() -> None:
    """It does in what getrusage says, where the process was started without a copy of its own."""
    large = np.ones(400 * MIB, np.uint8)
    code = "from stream_scorer.runtime import peak_memory_bytes; print(peak_memory_bytes())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 300 * MIB < large.nbytes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > 400 * MIB
