"""`stream-scorer doctor`: what is wrong with config, servers and model, and how to fix it.

Each check yields findings; a finding with a remedy is a problem, unless it is a warning. A server
that does not answer is one finding, and the checks that depend on it are left out. Nothing is
changed: what `run` does with Redis is tried on keys of its own, which are deleted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stream_scorer.checks.clocks import redis_clock_findings
from stream_scorer.checks.finding import Finding
from stream_scorer.checks.kafka import kafka_findings
from stream_scorer.checks.members import member_findings
from stream_scorer.checks.model import model_findings
from stream_scorer.checks.redis import redis_findings
from stream_scorer.checks.registry import registry_findings
from stream_scorer.checks.trend import trend_findings
from stream_scorer.checks.versions import version_findings
from stream_scorer.errors import InputError
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings


@dataclass(frozen=True)
class Diagnosis(Result):
    """ok where no finding is a problem."""

    ok: bool
    findings: tuple[Finding, ...]


def doctor(settings: Settings) -> Diagnosis:
    """Every check, in turn. A server that is away is a finding, so nothing is raised for it."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _versions, _features, kafka_findings, registry_findings, redis_findings,
        redis_clock_findings, trend_findings, model_findings, member_findings,
    )  # fmt: skip
    findings = tuple(finding for check in checks for finding in check(settings))
    return Diagnosis(all(f.ok for f in findings), findings)


def in_words(diagnosis: Diagnosis) -> list[str]:
    """The findings for people, and how many of them are problems."""
    lines = []
    for f in diagnosis.findings:
        kind = "note " if f.warning else "good " if f.ok else "WRONG"
        lines.append(f"{kind}  {f.check}: {f.found}")
        lines += [f"       {line}" for line in (f.remedy or "").splitlines()]
    wrong = sum(not f.ok for f in diagnosis.findings)
    last = "nothing is wrong" if not wrong else f"{wrong} to put right, each with its remedy above"
    return [*lines, f"{len(diagnosis.findings)} findings: {last}"]


def _versions(settings: Settings) -> Iterator[Finding]:
    del settings
    return version_findings()


def _features(settings: Settings) -> Iterator[Finding]:
    try:
        space = settings.feature_space()
    except InputError as error:
        yield Finding("features", str(error.value), error.remedy)
        return
    yield Finding(
        "features",
        f"{len(space.features)} declared, {space.width:,} columns, "
        f"fingerprint {space.fingerprint_hex}",
    )
