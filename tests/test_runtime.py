"""What a process says of its own memory, and of the cores that it may keep busy."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stream_scorer import runtime

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


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        # A service: the least of its group and of those above it.
        ("0::/system.slice/a.service\n", {"system.slice/cpu.max": "50000 100000\n"}, 1),
        (
            "0::/system.slice/a.service\n",
            {
                "system.slice/cpu.max": "max 100000",
                "system.slice/a.service/cpu.max": "300000 100000",
            },
            3,
        ),
        # A container that sees its own group as the top, and its path outside.
        ("0::/../../kubepods/pod1\n", {"cpu.max": "200000 100000\n"}, 2),
        (
            "3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        (
            "3:cpu,cpuacct:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ("3:memory:/\n", {"cpu/cpu.cfs_quota_us": "1000\n"}, None),
    ],
)
def test_threads_are_no_more_than_the_processor_time_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, files: dict[str, str],
    cores: int | None,
) -> None:  # fmt: skip
    own = tmp_path / "membership"
    own.write_text(membership)
    groups = tmp_path / "groups"
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    monkeypatch.setattr(runtime, "_CGROUPS", groups)
    monkeypatch.setattr(runtime, "_MEMBERSHIP", own)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert runtime.usable_cores() == (cores or 8)
    own.unlink()
    assert runtime.usable_cores() == 8
