"""Results of a benchmark, how a measurement is repeated, and a description of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from stream_scorer.result import Result
from stream_scorer.runtime import processor_name, usable_cores

PACKAGES = ("stream-scorer", "numpy", "scipy", "numba", "mxnet", "torch", "fastavro")


@dataclass(frozen=True)
class Measurement(Result):
    """One case of a stage: median, least and greatest of `runs` runs, in `unit`."""

    stage: str
    case: str
    unit: str
    median: float
    min: float
    max: float
    runs: int

    @classmethod
    def of(cls, stage: str, case: str, unit: str, values: Sequence[float]) -> Measurement:
        """The measurement of these runs, of which there is at least one."""
        middle = statistics.median(values)
        return cls(stage, case, unit, middle, min(values), max(values), len(values))


@dataclass(frozen=True)
class Machine(Result):
    """cores: those that this process may use. versions: of Python and packages, by name."""

    processor: str
    cores: int
    memory_bytes: int
    versions: Mapping[str, str]


@dataclass
class Findings:
    """Measurements, ratios of their medians, and what could not be measured. ranges: of ratios that
    are medians of several turns, the least and the greatest."""

    results: list[Measurement] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, stage: str, case: str, unit: str, values: Sequence[float]) -> float:
        """Keep a measurement; its median."""
        self.results.append(found := Measurement.of(stage, case, unit, values))
        return found.median

    def compare(self, name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
        """Of what was measured in turns: keep the median of the quotients, and their range."""
        quotients = [a / b for a, b in zip(ours, theirs, strict=True)]
        self.ratios[name] = statistics.median(quotients)
        self.ranges[name] = min(quotients), max(quotients)


def rates(work: Callable[[], object], amount: int, runs: int) -> list[float]:
    """How much of `amount` a second, for each of `runs` runs after one that is not counted."""
    work()
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        found.append(amount / (time.perf_counter() - started))
    return found


def machine() -> Machine:
    """The machine that this process runs on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(
        processor=processor_name(),
        cores=usable_cores(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        versions=versions,
    )
