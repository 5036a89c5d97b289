"""Results of a benchmark, how a measurement is repeated, and a description of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stream_scorer.runtime import usable_cores

PACKAGES = ("stream-scorer", "numpy", "scipy", "numba", "mxnet", "torch", "fastavro")


@dataclass(frozen=True)
class Result:
    """One case of a stage: median, least and greatest of `runs` runs, in `unit`."""

    stage: str
    case: str
    unit: str
    median: float
    min: float
    max: float
    runs: int

    @classmethod
    def of(cls, stage: str, case: str, unit: str, values: Sequence[float]) -> Result:
        """The result of these runs, of which there is at least one."""
        middle = statistics.median(values)
        return cls(stage, case, unit, middle, min(values), max(values), len(values))


@dataclass
class Findings:
    """Results, ratios of their medians, and what could not be measured."""

    results: list[Result] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, stage: str, case: str, unit: str, values: Sequence[float]) -> float:
        """Keep a result; its median."""
        self.results.append(result := Result.of(stage, case, unit, values))
        return result.median

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"results": [asdict(r) for r in self.results], "ratios": self.ratios,
                "machine": machine(), "notes": self.notes}  # fmt: skip


def rates(work: Callable[[], object], amount: int, runs: int) -> list[float]:
    """How much of `amount` a second, for each of `runs` runs after one that is not counted."""
    work()
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        found.append(amount / (time.perf_counter() - started))
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, and versions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
