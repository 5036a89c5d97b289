"""`stream-scorer bench`: how fast the stages are on this machine, each beside its baseline.

Every stage runs a case once to warm up and a few times to be timed; a ratio divides medians of one
run of the command, since ratios hold better from machine to machine than figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from stream_scorer.bench import (
    bulk,
    capacity,
    decoding,
    end_to_end,
    limits,
    peer_comparison,
    records,
    replaying,
    scoring,
    shop,
    training,
)
from stream_scorer.bench.peer_comparison import PeerSetup
from stream_scorer.bench.real_servers import ServerAddresses
from stream_scorer.bench.timing import Findings, Machine, Measurement, machine
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.measured_costs import STAGE as CAPACITY
from stream_scorer.errors import InputError
from stream_scorer.progress import progress
from stream_scorer.result import Result

STAGES: dict[str, Callable[[Sizes, Findings], None]] = {
    decoding.STAGE: decoding.measure,
    scoring.STAGE: scoring.measure,
    training.STAGE: training.measure,
    replaying.STATE: replaying.measure_state,
    replaying.REPLAY: replaying.measure_replay,
    records.STAGE: records.measure,
    end_to_end.STAGE: end_to_end.measure,
    limits.STAGE: limits.measure,
    bulk.STAGE: bulk.measure,
    CAPACITY: capacity.measure,
}
# Those that take minutes run only where they are named.
LONG: dict[str, Callable[[Sizes, Findings], None]] = {shop.STAGE: shop.measure}


@dataclass(frozen=True)
class Benchmark(Result):
    """ratios: of medians, by what is compared. ratio_ranges: least and greatest, of those that are
    medians of several turns. notes: what could not be measured, and under which circumstances.
    measured_on: the date."""

    results: tuple[Measurement, ...]
    ratios: Mapping[str, float]
    ratio_ranges: Mapping[str, tuple[float, ...]]
    machine: Machine
    notes: tuple[str, ...]
    measured_on: str


def bench(
    stages: Sequence[str] = (), sizes: Sizes | None = None, setup: PeerSetup | None = None
) -> Benchmark:
    """Measure these stages, or if none is named all but `sizes`, which takes minutes, and `peers`,
    which needs a broker and an environment with the peers (`setup`). Raises InputError for an
    unknown stage, and Halt."""
    known = [*STAGES, *LONG, peer_comparison.STAGE]
    for stage in stages:
        if stage not in known:
            raise InputError("STAGE", stage, f"choose from {', '.join(known)}")
    findings = Findings()
    wanted = [s for s in known if s in stages] if stages else list(STAGES)
    with progress("stages", len(wanted)) as meter:
        for stage in wanted:
            if stage == peer_comparison.STAGE:
                peer_comparison.measure(sizes or Sizes(), findings, setup or PeerSetup())
            else:
                {**STAGES, **LONG}[stage](sizes or Sizes(), findings)
            meter.advance(1)
    results, notes = tuple(findings.results), tuple(findings.notes)
    today = datetime.now(timezone.utc).date().isoformat()
    return Benchmark(results, findings.ratios, findings.ranges, machine(), notes, today)


def sized(customers: int, runs: int | None, minutes: float = 8.0) -> Sizes:
    """The usual sizes, with so many customers of the stage bulk, minutes of the stage peers and,
    where given, runs."""
    sizes = Sizes(customers=customers, peer_seconds=60 * minutes)
    return sizes if runs is None else replace(sizes, runs=runs, peer_runs=runs)


def peer_setup(
    bootstrap_servers: str | None,
    redis_url: str | None,
    kafka_jars: Path | None,
    python: str | None,
) -> PeerSetup:
    """Servers and interpreter of the stage peers, as the command line names them."""
    return PeerSetup(ServerAddresses(bootstrap_servers, redis_url, kafka_jars), python)


def in_words(found: Benchmark) -> list[str]:
    """The result for people."""
    lines = [f"{found.machine.processor}, {found.machine.cores} cores"]
    lines += [
        f"{m.stage:12}{m.case:72}{_figure(m.median):>12} {m.unit} "
        f"({_figure(m.min)} to {_figure(m.max)}, {m.runs} runs)"
        for m in found.results
    ]
    for name, value in found.ratios.items():
        least, greatest = found.ratio_ranges.get(name, (value, value))
        spread = f" ({least:.2f} to {greatest:.2f})" if name in found.ratio_ranges else ""
        lines.append(f"{name}: {value:.2f}{spread}")
    return lines + list(found.notes)


def _figure(value: float) -> str:
    """As people write it: whole from 10 on, below with three digits."""
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.3g}"
