"""Training and scoring at the size of a large shop: the default network, seven own blocks.

In `bench train` and `bench score` at one size; `bench sizes` is the table of cost against the
number of categories N, of columns F, and of the categories in which a customer is active.

Training is the command `train` from its start to its end, on snapshots that were written before:
the start of Python, reading and checking, statistics, steps, the validation after each epoch,
calibration, golden batch, card and saving. Its rate is rows times epochs over all of that time, its
memory the most that the process held.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from stream_scorer.bench.random_model import random_model
from stream_scorer.bench.shop_workload import (
    AS_OF_MS,
    NETWORK,
    RULE,
    Shop,
    config_of,
    rows_of,
    space_of,
    write_snapshot,
)
from stream_scorer.bench.timing import Findings, rates
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.errors import Halt
from stream_scorer.model.engines.engine import open_engine, score_chosen
from stream_scorer.model.spec import TrainingOptions

STAGE = "sizes"
SINGLE_CALLS = 50  # of one customer at a time, in one run
TOP_TEN = PublishPolicy(mode="top_k", top_k=10)
# Runs a command; says how many seconds it took and, as Linux counts, its most memory in KiB. A
# process of its own: the kernel's number is at least what the process that started it held.
_MEASURED = """
import resource, subprocess, sys, time
started = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
# One row of validation for so many of training.
TRAINING_ROWS_PER_VALIDATION = 10


@dataclass(frozen=True)
class Trained:
    """One call of `train`: rows times epochs a second, and the most memory in MB."""

    rate: float
    memory_mb: float


def measure(sizes: Sizes, findings: Findings) -> None:
    """`bench sizes`: one run of each case; add results to `findings`."""
    for shop in _table(sizes):
        epochs = TrainingOptions.epochs
        trained = train_by_command(shop, sizes.table_rows, epochs)
        case = f"{shop.in_words()}, train {sizes.table_rows:,} rows, {epochs} epochs"
        findings.add(STAGE, case, "rows/s", [trained.rate])
        findings.add(STAGE, case, "MB", [trained.memory_mb])
        _measure_scoring(STAGE, shop, sizes, findings)


def measure_training(stage: str, sizes: Sizes, findings: Findings) -> None:
    """The whole command at the shop's size."""
    shop, epochs = sizes_of(sizes), TrainingOptions.epochs
    found = [train_by_command(shop, sizes.shop_rows, epochs) for _ in range(sizes.shop_runs)]
    case = f"{shop.in_words()}, whole command, {sizes.shop_rows:,} rows, {epochs} epochs"
    findings.add(stage, case, "rows/s", [one.rate for one in found])
    findings.add(stage, case, "MB", [one.memory_mb for one in found])


def measure_scoring(stage: str, sizes: Sizes, findings: Findings) -> None:
    """The native engine at the shop's size, and with fewer categories."""
    shop = sizes_of(sizes)
    fewer = replace(shop, categories=max(1, 2 * shop.categories // 5))
    for one in (shop, fewer):
        _measure_scoring(stage, one, sizes, findings)


def sizes_of(sizes: Sizes) -> Shop:
    """The shop of the stages train and score."""
    return Shop(sizes.shop_columns, sizes.shop_categories, sizes.shop_active)


def _table(sizes: Sizes) -> Iterator[Shop]:
    """The usual shop, and others that differ from it in one number."""
    shop = sizes_of(sizes)
    for categories in sizes.table_categories:
        yield replace(shop, categories=categories)
    for columns in sizes.table_columns:
        yield replace(shop, columns=columns)
    for active in sizes.table_active:
        yield replace(shop, active=active)


def _measure_scoring(stage: str, shop: Shop, sizes: Sizes, findings: Findings) -> None:
    matrix = rows_of(shop, sizes.batch_rows, seed=2).matrix
    engine = open_engine(random_model(space_of(shop), NETWORK, shop.entries), "native")
    case = f"{shop.in_words()}, native"
    every = f"{case}, every score, batch {sizes.batch_rows:,}"
    found = rates(partial(engine.score, matrix), sizes.batch_rows, sizes.runs)
    findings.add(stage, every, "customers/s", found)
    top = partial(score_chosen, engine, matrix, TOP_TEN)
    found = rates(top, sizes.batch_rows, sizes.runs)
    findings.add(stage, f"{case}, ten best, batch {sizes.batch_rows:,}", "customers/s", found)
    singles = [matrix[i] for i in range(min(SINGLE_CALLS, sizes.batch_rows))]

    def one_by_one() -> None:
        for single in singles:
            score_chosen(engine, single, TOP_TEN)

    found = [1000 / rate for rate in rates(one_by_one, len(singles), sizes.runs)]
    findings.add(stage, f"{case}, ten best, one customer", "ms", found)


def train_by_command(shop: Shop, rows: int, epochs: int) -> Trained:
    """Write snapshots and a config, and train by the command. Raises Halt where it fails."""
    with tempfile.TemporaryDirectory(prefix="stream-scorer-bench-") as folder:
        at = Path(folder)
        (at / "config.toml").write_text(config_of(shop, epochs), encoding="utf-8")
        write_snapshot(shop, at / "training", rows, seed=1, as_of_ms=AS_OF_MS)
        held_out = max(2, rows // TRAINING_ROWS_PER_VALIDATION)
        later_ms = AS_OF_MS + RULE.horizon_ms
        write_snapshot(shop, at / "validation", held_out, seed=1_000_003, as_of_ms=later_ms)
        command = [
            sys.executable, "-m", "stream_scorer", "train", str(at / "training"),
            "-c", str(at / "config.toml"), "--out", str(at / "model"),
            "--validation", str(at / "validation"),
        ]  # fmt: skip
        whole = [sys.executable, "-c", _MEASURED, *command]
        done = subprocess.run(whole, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise Halt(f"bench: train: {(lines or ['no message'])[-1]}")
        seconds, most_kib = map(float, done.stdout.split())
    return Trained(rows * epochs / seconds, most_kib * 1024 / 1e6)
