"""`bench bulk`: a snapshot scored by one process, by PySpark and by the JVM, each as a command.

Snapshot and model are written to a temporary folder; then each command runs as a user
would run it, all of them once before any is run again. A rate is rows over the whole command's
time, its start included. Memory is the greatest sum over the command's processes (Linux's Pss,
which counts shared pages once). The JVM's commands run where STREAM_SCORER_DJL_JAR names the jar of
deploy/djl.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stream_scorer.bench.bulk_workload import BulkSizes, write_model, write_snapshot
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.errors import Halt
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import engines_here

STAGE = "bulk"
JAR = "STREAM_SCORER_DJL_JAR"
LOOK_SECONDS = 0.25
SPARK = ["--engine", "spark", "--master", "local[2]"]


@dataclass
class _Case:
    """One way to score; rates in customers/s and memory in MB of its runs, its last report."""

    name: str
    command: Sequence[str]
    ratio: str
    rates: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    report: Mapping[str, Any] = field(default_factory=dict)


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    wanted = BulkSizes(customers=sizes.customers)
    with tempfile.TemporaryDirectory(prefix="stream-scorer-bench-") as folder:
        at = Path(folder)
        write_model(wanted, at / "model")
        write_snapshot(wanted, at / "snapshot")
        cases = _cases(at, findings)
        for _ in range(sizes.runs):
            for case in cases:
                _run(case, wanted.customers, at / "scores")
    shape = f"{wanted.customers:,} customers"
    medians = {}
    for case in cases:
        name = f"{shape}, {case.name}"
        medians[case.ratio] = findings.add(STAGE, name, "customers/s", case.rates)
        findings.add(STAGE, name, "MB", case.memory)
        if "workers" in case.report:
            worker = [case.report["peak_memory_bytes"] / 1e6]
            findings.add(STAGE, f"{name}, one Python worker", "MB", worker)
        share = _model_share(case.report)
        if share is not None:
            findings.ratios[f"bulk_share_in_model_{case.ratio}"] = share
    for ratio in list(medians)[1:]:
        findings.ratios[f"bulk_{ratio}_vs_native"] = medians[ratio] / medians["native"]


def _cases(at: Path, findings: Findings) -> list[_Case]:
    paths = [str(at / "model"), str(at / "snapshot"), "--out", str(at / "scores")]
    ours = [sys.executable, "-m", "stream_scorer", "score", *paths, "--json", "--model-engine"]
    cases = [_Case(f"one process, {e}", [*ours, e], e) for e in ("native", "mxnet")]
    if find_spec("pyspark") is None or shutil.which("java") is None:
        findings.notes.append("bulk on Spark left out: it needs stream-scorer[spark] and Java 17")
        return cases
    for engine in ("native", "mxnet"):
        name = f"PySpark local[2], {engine}"
        cases.append(_Case(name, [*ours, engine, *SPARK], f"pyspark_{engine}"))
    jar = os.environ.get(JAR)
    if jar is None:
        findings.notes.append(f"bulk on the JVM left out: {JAR} does not name deploy/djl's jar")
        return cases
    one = ["java", "-Xmx1g", "-jar", jar, "score", *paths, "--model-engine"]
    submit = ["spark-submit", "--master", "local[2]", "--driver-memory", "3g"]
    submit += ["--class", "streamscorer.djl.SparkScore", jar, *paths, "--model-engine"]
    engines = ["mxnet"]
    if "onnx" in engines_here():
        from stream_scorer.model import onnx_file  # noqa: PLC0415 - of an extra

        (at / "model" / "model.onnx").write_bytes(onnx_file.to_bytes(artefact.load(at / "model")))
        engines.append("onnx")
    for engine in engines:
        cases.append(_Case(f"Java, one process, {engine}", [*one, engine], f"java_{engine}"))
        on_spark = f"Java on Spark local[2], {engine}"
        cases.append(_Case(on_spark, [*submit, engine], f"java_spark_{engine}"))
    return cases


def _run(case: _Case, customers: int, out: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(
            case.command, stdout=stdout, stderr=stderr, env={**os.environ, "PATH": path}
        ) as process:
            memory = _most_memory_mb(process)
        seconds = time.perf_counter() - started
        for stream in (stdout, stderr):
            stream.seek(0)
        if process.returncode:
            last = (stderr.read().strip().splitlines() or ["no message"])[-1]
            raise Halt(f"bench {STAGE}: {case.name}: {last}")
        text = stdout.read()
        case.report = json.loads(text) if "--json" in case.command else {}
    case.rates.append(customers / seconds)
    case.memory.append(memory)
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink()


def _most_memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Of the process and its descendants together, looked at again and again until it ends."""
    most = 0.0
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(LOOK_SECONDS):
            most = max(most, sum(map(_memory_mb, _family(process.pid))))

    looking = threading.Thread(target=look)
    looking.start()
    process.wait()
    ended.set()
    looking.join()
    return most


def _family(first: int) -> list[int]:
    """The process and all that come from it, in Linux; else nothing."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended meanwhile
    found = {first}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return sorted(found)


def _memory_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def _model_share(report: Mapping[str, Any]) -> float | None:
    """The model's share of all core seconds; None where the report does not give it."""
    if "workers" in report:
        return float(report["workers"]["model"] / (report["seconds"] * report["parallelism"]))
    if "stages" in report:
        return float(report["stages"]["model"] / report["seconds"])
    return None
