"""`make mutants`: puts each listed fault into a copy of the package and runs the tests it names.

A mutant is caught where these tests fail, and where one of the simulated schedules fails that it
names; otherwise it survived, and the exit status is 1. Without a fault the same tests must pass,
which is looked at first; that the schedules pass is shown by `make test`. The checkout is never
changed.
Words on the command line choose the mutants whose name has one of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mutant_list import ROOT, Mutant, listed

COPIED = ("stream_scorer", "tests", "schemas", "deploy", "pyproject.toml")
SIMULATE = "tests/simulation/simulate.py"
Run = Callable[..., tuple[int, str]]  # Python's arguments -> exit status and output
PASSED, FAILED = 0, 1  # pytest's exit statuses; every other means that no test was judged


def copy_of_sources(folder: Path) -> None:
    """What the tests need, so that `python -m pytest` in `folder` imports the copy."""
    unwanted = shutil.ignore_patterns("__pycache__", "images", "target")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, folder / name)
    for name in ("schemas", "deploy"):  # where the installed package has them
        (folder / "stream_scorer" / name).symlink_to(folder / name)


@contextmanager
def copy_with(mutant: Mutant | None) -> Iterator[Run]:
    """Runs Python in a copy of the sources with the fault in it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_of_sources(folder)
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        if mutant is not None:
            mutant.put_into(folder)
            # A changed kernel is compiled into this folder: the user's cache keeps only a few.
            if "/core/" in mutant.file:
                environment["STREAM_SCORER_KERNEL_CACHE"] = str(folder / "kernels")

        def run(*arguments: str) -> tuple[int, str]:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=folder, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            return done.returncode, done.stdout + done.stderr

        yield run


def run_tests(run: Run, tests: list[str]) -> tuple[int, str]:
    """pytest's exit status and output."""
    return run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)


@dataclass(frozen=True)
class Outcome:
    """What noticed one mutant, in words, and what it did not."""

    caught: bool
    how: str
    output: str = ""


def try_mutant(mutant: Mutant) -> Outcome:
    """Whether its tests notice it, and a simulated schedule where the list says so."""
    with copy_with(mutant) as run:
        status, output = run_tests(run, mutant.tests)
        if status != FAILED:
            return Outcome(False, "", "" if status == PASSED else output)
        if not mutant.schedules:
            return Outcome(True, "")
        _, output = run(SIMULATE, "0", str(mutant.schedules), "until-failure")
        found = re.search(r"^seed (\d+) fails", output, re.MULTILINE)
        if found is None:
            return Outcome(False, f" (by its tests, but by none of {mutant.schedules} schedules)")
        return Outcome(True, f" (schedule {int(found[1]) + 1} finds it, too)")


def main(words: list[str]) -> int:
    mutants = [m for m in listed() if not words or any(w in m.name for w in words)]
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with copy_with(None) as run:
        status, output = run_tests(run, tests)
    if status != PASSED:
        print(f"{output}\nthese tests fail without any fault put into the code", file=sys.stderr)
        return 1
    survivors = 0
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        for mutant, outcome in zip(mutants, pool.map(try_mutant, mutants), strict=True):
            caught = "caught" if outcome.caught else "NOT caught"
            print(f"{caught:10}  {mutant.name}{outcome.how}", flush=True)
            survivors += not outcome.caught
            if outcome.output:
                print(outcome.output, file=sys.stderr)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants are caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
