"""Peers that run in an environment of their own: Quix Streams and Bytewax (peers/).

Quix Streams asks for an older confluent-kafka than this package, so one environment can't hold
both. Each run is a process of that interpreter, which gets its job as JSON and reports its rate and
every customer's vector as JSON.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_scorer.bench.consumers import batch_events
from stream_scorer.bench.peer import declaration
from stream_scorer.bench.peers.declared_counts import Vector
from stream_scorer.bench.testbed import Testbed
from stream_scorer.errors import Halt, InputError

FOLDER = Path(__file__).parent / "peers"
NEEDED = ("quixstreams", "bytewax", "confluent-kafka", "fastavro")
RUN_SECONDS = 300
OPTION = "--peers-python"


@dataclass(frozen=True)
class PeerProcess:
    """A program of peers/ and its options."""

    program: str
    options: dict[str, Any]

    def run(self, python: str, testbed: Testbed, events: int) -> tuple[float, dict[str, Vector]]:
        """Events a second after the first batch, and vectors. Raises Halt where it fails."""
        testbed.runs += 1
        kafka = testbed.settings(1).kafka
        with tempfile.TemporaryDirectory(prefix="stream-scorer-peer-") as name:
            folder, job, report = Path(name) / "state", Path(name) / "job", Path(name) / "report"
            folder.mkdir()
            asked = {
                "bootstrap_servers": testbed.bootstrap_servers, "topic": kafka.input_topic,
                "group": f"{kafka.group_id}-peer", "events": events,
                "first": batch_events(events), "options": self.options, "folder": str(folder),
                "report": str(report), **declaration(testbed.scene.space),
            }  # fmt: skip
            job.write_text(json.dumps(asked), encoding="utf-8")
            command = [python, str(FOLDER / self.program), str(job)]
            try:
                ran = subprocess.run(
                    command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
                )
            except subprocess.TimeoutExpired:
                raise Halt(f"{self.program} did not end within {RUN_SECONDS} s") from None
            if ran.returncode or not report.exists():
                raise Halt(f"{self.program} failed; it printed last: {ran.stderr[-800:]}")
            found = json.loads(report.read_text(encoding="utf-8"))
        if found["events"] != events:
            raise Halt(f"{self.program} took {found['events']:,} events of {events:,}")
        return found["rate"], {
            customer: {column: (value, ms) for column, value, ms in entries}
            for customer, entries in found["vectors"].items()
        }


def peer_versions(python: str | None) -> dict[str, str]:
    """Versions of the peers' packages in that interpreter. Raises InputError with the remedy."""
    remedy = (
        "name the interpreter of an environment that has the peers, which can't be this one: "
        "`python3 -m venv .venv-peers && .venv-peers/bin/pip install -r "
        f"{FOLDER}/requirements.txt`, then {OPTION} .venv-peers/bin/python"
    )
    if python is None:
        raise InputError(OPTION, "not given", remedy)
    code = (
        "import json; from importlib.metadata import version; "
        f"print(json.dumps({{name: version(name) for name in {NEEDED!r}}}))"
    )
    try:
        ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(OPTION, python, f"{error.strerror}; {remedy}") from None
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["it failed"])[-1]
        raise InputError(OPTION, python, f"{last}; {remedy}")
    return dict(json.loads(ran.stdout))
