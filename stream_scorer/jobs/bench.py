"""`stream-scorer bench`: how fast the stages are on this machine, each beside its baseline.

Every stage runs a case once to warm up and a few times to be timed; a ratio divides medians of one
run of the command, since ratios hold better from machine to machine than figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stream_scorer.bench import (
    bulk,
    decoding,
    end_to_end,
    limits,
    peer_comparison,
    replaying,
    scoring,
    training,
)
from stream_scorer.bench.peer_comparison import PeerSetup
from stream_scorer.bench.real_servers import ServerAddresses
from stream_scorer.bench.timing import Findings, Machine, Measurement, machine
from stream_scorer.bench.workload import Sizes
from stream_scorer.errors import InputError
from stream_scorer.progress import progress
from stream_scorer.result import Result

STAGES: dict[str, Callable[[Sizes, Findings], None]] = {
    decoding.STAGE: decoding.measure,
    scoring.STAGE: scoring.measure,
    training.STAGE: training.measure,
    replaying.STATE: replaying.measure_state,
    replaying.REPLAY: replaying.measure_replay,
    end_to_end.STAGE: end_to_end.measure,
    limits.STAGE: limits.measure,
    bulk.STAGE: bulk.measure,
}


@dataclass(frozen=True)
class Benchmark(Result):
    """ratios: of medians, by what is compared. notes: what could not be measured."""

    results: tuple[Measurement, ...]
    ratios: Mapping[str, float]
    machine: Machine
    notes: tuple[str, ...]


def bench(
    stages: Sequence[str] = (), sizes: Sizes | None = None, setup: PeerSetup | None = None
) -> Benchmark:
    """Measure these stages, or if none is named all but `peers`, which needs a broker and an
    environment with the peers (`setup`). Raises InputError for an unknown stage, and Halt."""
    known = [*STAGES, peer_comparison.STAGE]
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
                STAGES[stage](sizes or Sizes(), findings)
            meter.advance(1)
    results, notes = tuple(findings.results), tuple(findings.notes)
    return Benchmark(results, findings.ratios, machine(), notes)


def sized(customers: int, runs: int | None) -> Sizes:
    """The usual sizes, with so many customers of the stage bulk and, where given, runs."""
    sizes = Sizes(customers=customers)
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
        f"{m.stage:12}{m.case:72}{m.median:12,.0f} {m.unit} "
        f"({m.min:,.0f} to {m.max:,.0f}, {m.runs} runs)"
        for m in found.results
    ]
    lines += [f"{name}: {value:.2f}" for name, value in found.ratios.items()]
    return lines + list(found.notes)
