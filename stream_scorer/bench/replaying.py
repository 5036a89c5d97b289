"""`bench state` and `bench replay`: how fast events change vectors, in Redis and in memory.

Both fold the same events from the same files by the same pipeline, vectors alone. The
state stage is what the live path spends on it, load, apply and save, in one thread. A replay is
timed from opening the files to the last vector, as it runs by default, in a process of its own, as
the verb is. For the ratio the two take turns, since the machine is not the same from minute to
minute, and both keep freed memory, which `run` does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from stream_scorer.bench.testbed import Testbed, open_testbed
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.past.sources import open_past
from stream_scorer.past.vectors import BATCH_RECORDS, PastFold
from stream_scorer.runtime import keep_freed_memory, usable_cores
from stream_scorer.settings.tree import Settings

STATE, REPLAY = "state", "replay"
LIVE_BATCHES = (2_000, 5_000)  # the demo's and the default
STATE_STAGES = ("load", "apply", "save")


class _Rates(NamedTuple):
    """Events a second: all of it, and the state stage alone."""

    whole: float
    state: float


def measure_state(sizes: Sizes, findings: Findings) -> None:
    """Add results to `findings`."""
    with open_testbed(sizes, findings, STATE) as testbed:
        if testbed is None:
            return
        for batch in LIVE_BATCHES:
            rates = [_live(testbed, batch) for _ in range(sizes.runs + 1)][1:]
            case = f"{testbed.events:,} events, Redis, batches of {batch:,}"
            findings.add(STATE, case, "events/s", [r.state for r in rates])


def measure_replay(sizes: Sizes, findings: Findings) -> None:
    """Add results and ratios to `findings`."""
    with (
        open_testbed(sizes, findings, REPLAY) as testbed,
        ProcessPoolExecutor(1, get_context("spawn"), keep_freed_memory) as apart,
    ):
        if testbed is None:
            return
        keep_freed_memory()
        threads = usable_cores()
        live: list[_Rates] = []
        replayed: dict[int, list[_Rates]] = {1: [], threads: []}
        for run in range(sizes.runs + 1):  # the first to warm up
            turn = [_live(testbed, LIVE_BATCHES[-1])]
            for number in replayed:
                task = apart.submit(_in_memory, testbed.scene.settings, testbed.files, number)
                folded, bytes_per_customer = task.result()
                turn.append(folded)
            if run:
                live.append(turn[0])
                for number, folded in zip(replayed, turn[1:], strict=True):
                    replayed[number].append(folded)
        case = f"{testbed.events:,} events from Parquet into memory"
        for number, rates in replayed.items():
            name = f"{case}, {number} thread{'s' if number > 1 else ''}"
            findings.add(REPLAY, name, "events/s", [r.whole for r in rates])
            findings.add(REPLAY, f"{name}, state alone", "events/s", [r.state for r in rates])
        findings.add(REPLAY, "memory of a customer", "bytes", [bytes_per_customer])
        base = f"state stage of the live path, Redis, batches of {LIVE_BATCHES[-1]:,}"
        findings.add(REPLAY, base, "events/s", [r.state for r in live])
        fastest = replayed[threads]
        findings.ratios["replay_vs_state"] = _ratio([r.whole for r in fastest], live)
        findings.ratios["replay_state_vs_state"] = _ratio([r.state for r in fastest], live)


def _live(testbed: Testbed, batch: int) -> _Rates:
    return _folded(testbed.scene.settings, testbed.files, testbed.store(), batch, 1)


def _in_memory(settings: Settings, files: Sequence[Path], threads: int) -> tuple[_Rates, float]:
    """Rates, and what the store takes for a customer, in bytes."""
    store = MemoryStore(settings.feature_space().fingerprint)
    rates = _folded(settings, files, store, BATCH_RECORDS, threads)
    return rates, store.resident_bytes / len(store)


def _folded(
    settings: Settings, files: Sequence[Path], store: MemoryStore | RedisStore, batch: int,
    threads: int,
) -> _Rates:  # fmt: skip
    started = time.perf_counter()
    with open_past(settings, [str(f) for f in files], batch_records=batch) as past:
        fold = PastFold(settings, past, store, threads, quiet=True)
        fold.run()
    events = fold.counts().events
    return _Rates(
        events / (time.perf_counter() - started),
        events / sum(fold.seconds[stage] for stage in STATE_STAGES),
    )


def _ratio(ours: list[float], live: list[_Rates]) -> float:
    return statistics.median(a / b.state for a, b in zip(ours, live, strict=True))
