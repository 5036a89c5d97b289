"""`stream-scorer doctor`: what is wrong with config, servers and model, and how to fix it.

Each check yields findings; a finding with a remedy is a problem, unless it is a warning. A server
that does not answer is one finding, and the checks that depend on it are left out. Nothing is
changed: what `run` does with Redis is tried on keys of its own, which are deleted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stream_scorer.checks.finding import Finding
from stream_scorer.checks.kafka import kafka_findings
from stream_scorer.checks.members import member_findings
from stream_scorer.checks.redis import redis_findings
from stream_scorer.checks.trend import trend_findings
from stream_scorer.errors import InputError
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import engines_here
from stream_scorer.model.trained_moments import REMEDY, moments_it_lacks
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
        _features, kafka_findings, redis_findings, trend_findings, _model, member_findings,
    )  # fmt: skip
    findings = tuple(finding for check in checks for finding in check(settings))
    return Diagnosis(all(f.ok for f in findings), findings)


def in_words(diagnosis: Diagnosis) -> list[str]:
    """The findings for people."""
    lines = []
    for f in diagnosis.findings:
        kind = "note " if f.warning else "good " if f.ok else "WRONG"
        lines.append(f"{kind}  {f.check}: {f.found}")
        if f.remedy:
            lines.append(f"       {f.remedy}")
    return lines


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


def _model(settings: Settings) -> Iterator[Finding]:
    engine = settings.model.engine
    if engine not in engines_here():
        remedy = 'set model.engine = "native": it gives the same scores'
        if engine == "onnx":
            remedy = f"pip install 'stream-scorer[onnx]', or {remedy}"
        yield Finding("engine", f"{engine} is not installed for this Python", remedy)
    try:
        wanted = settings.feature_space().fingerprint if settings.features else None
        loaded = artefact.load(settings.model.path, wanted)
    except InputError as error:
        yield Finding("model", f"{error.field}: {error.value}", error.remedy)
        return
    manifest = loaded.manifest
    found = f"version {manifest.model_version}, {len(manifest.categories)} categories"
    yield Finding("model", f"{found}, engine {settings.model.engine}")
    lacks = moments_it_lacks(manifest.training, refreshes=settings.refresh.every_ms > 0)
    if lacks is not None:
        yield Finding("training rows", lacks, REMEDY, warning=True)
