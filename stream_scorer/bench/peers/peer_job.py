"""What a peer's process is asked to do, and what it reports, both as JSON.

The job names brokers, topic, number of events, declaration and options. Reported are the rate and
every customer's vector, which the benchmark compares with its own.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from declared_counts import DeclaredCounts, Vector


@dataclass
class PeerJob:
    """first: events before the clock starts, as many as the first micro-batch of the others has, so
    that starting and joining cost nobody. folder: an empty one for state."""

    bootstrap_servers: str
    topic: str
    group: str
    events: int
    first: int
    options: dict[str, Any]
    folder: str
    counts: DeclaredCounts
    report: str
    taken: int = 0
    started: float = 0.0
    newest: float = 0.0

    @classmethod
    def of_command_line(cls) -> PeerJob:
        """The job in the file that the first argument names."""
        job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        counts = DeclaredCounts(job.pop("blocks"), job.pop("schema"))
        return cls(**job, counts=counts)

    def took(self, events: int = 1) -> None:
        """So many more events are folded."""
        before, self.taken = self.taken, self.taken + events
        if before < self.first <= self.taken:
            self.first, self.started = self.taken, time.perf_counter()
        if self.taken >= self.events:
            self.newest = time.perf_counter()

    def done(self, vectors: dict[str, Vector]) -> None:
        """Report the rate and the vectors."""
        seconds = self.newest - self.started
        entries = {
            customer: [(column, value, ms) for column, (value, ms) in vector.items()]
            for customer, vector in vectors.items()
        }
        found = {"events": self.taken, "rate": (self.taken - self.first) / seconds,
                 "vectors": entries}  # fmt: skip
        Path(self.report).write_text(json.dumps(found), encoding="utf-8")
