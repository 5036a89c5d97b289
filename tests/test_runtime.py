"""What a process says of its own memory."""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
from peak_memory import forget_peak

from stream_scorer.runtime import peak_memory_bytes

MIB = 2**20


def test_the_peak_stays_after_memory_is_given_back() -> None:
    forget_peak()
    before = peak_memory_bytes()
    assert np.ones(50 * MIB, np.uint8).sum() == 50 * MIB
    assert 45 * MIB < peak_memory_bytes() - before < 70 * MIB


def test_what_started_the_process_does_not_count() -> None:
    """It does in what getrusage says, where the process was started without a copy of its own."""
    large = np.ones(400 * MIB, np.uint8)
    code = "from stream_scorer.runtime import peak_memory_bytes; print(peak_memory_bytes())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 300 * MIB < large.nbytes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > 400 * MIB
