"""`make mutants`: puts each listed fault into a copy of the package and runs the tests it names.

A mutant is caught where these tests fail; where they pass it survived, and the exit status is 1.
Without a fault the same tests must pass, which is looked at first. The checkout is never changed.
Words on the command line choose the mutants whose name has one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutant_list import ROOT, Mutant, listed

COPIED = ("stream_scorer", "tests", "schemas", "deploy", "pyproject.toml")
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


def run_tests(tests: list[str], mutant: Mutant | None) -> tuple[int, str]:
    """pytest's exit status and output, on a copy with the fault in it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_of_sources(folder)
        environment = {**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        if mutant is not None:
            mutant.put_into(folder)
            # A changed kernel is compiled into this folder: the user's cache keeps only a few.
            if "/core/" in mutant.file:
                environment["STREAM_SCORER_KERNEL_CACHE"] = str(folder / "kernels")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def main(words: list[str]) -> int:
    mutants = [m for m in listed() if not words or any(w in m.name for w in words)]
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    status, output = run_tests(tests, None)
    if status != PASSED:
        print(f"{output}\nthese tests fail without any fault put into the code", file=sys.stderr)
        return 1
    survivors = 0
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        outcomes = pool.map(lambda mutant: run_tests(mutant.tests, mutant), mutants)
        for mutant, (status, output) in zip(mutants, outcomes, strict=True):
            print(f"{'caught' if status == FAILED else 'NOT caught':10}  {mutant.name}", flush=True)
            if status != FAILED:
                survivors += 1
                if status != PASSED:
                    print(output, file=sys.stderr)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants are caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
