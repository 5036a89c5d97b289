"""`stream-scorer bench`: how fast the stages are on this machine, each beside what it is held to.

Every stage runs a case once to warm up and a few times to be timed; a ratio divides medians of one
run of the command, since ratios hold better from machine to machine than figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stream_scorer.bench import bulk, decoding, end_to_end, limits, replaying, scoring, training
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.errors import InputError
from stream_scorer.progress import progress

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


def bench(stages: Sequence[str] = (), sizes: Sizes | None = None) -> dict[str, Any]:
    """{"results", "ratios", "machine", "notes"} of these stages; of all, if none is named."""
    for stage in stages:
        if stage not in STAGES:
            raise InputError("STAGE", stage, f"choose from {', '.join(STAGES)}")
    findings = Findings()
    wanted = [s for s in STAGES if s in stages or not stages]
    with progress("stages", len(wanted)) as meter:
        for stage in wanted:
            STAGES[stage](sizes or Sizes(), findings)
            meter.advance(1)
    return findings.as_dict()


def sized(customers: int, runs: int) -> Sizes:
    """The usual sizes, with so many customers of the stage bulk and runs of each case."""
    return Sizes(customers=customers, runs=runs)


def in_words(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    machine = report["machine"]
    lines = [f"{machine['processor']}, {machine['cores']} cores"]
    lines += [
        f"{r['stage']:12}{r['case']:72}{r['median']:12,.0f} {r['unit']} "
        f"({r['min']:,.0f} to {r['max']:,.0f}, {r['runs']} runs)"
        for r in report["results"]
    ]
    lines += [f"{name}: {value:.2f}" for name, value in report["ratios"].items()]
    lines += report["notes"]
    return lines
