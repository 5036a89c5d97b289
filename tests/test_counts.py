"""A tier of tests that lost tests, or skipped some, does not pass in CI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tier_counts import complaint, recorded
from without_mxnet import needs_mxnet

from stream_scorer.errors import ConfigError

TESTS = Path(__file__).parent


def test_every_tier_with_servers_or_another_language_has_a_number() -> None:
    project = (TESTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    markers = re.findall(r'^  "(\w+): needs', project, re.MULTILINE)
    assert sorted(recorded()) == sorted(markers)
    assert all(number > 0 for number in recorded().values())


@pytest.mark.parametrize(
    ("passed", "skipped", "words"),
    [
        (9, 0, "9 tests of spark passed"),
        (11, 0, "make test-counts"),
        (9, 1, "1 tests of spark were skipped"),
    ],
)
def test_fewer_or_more_or_skipped_tests_are_an_error(passed: int, skipped: int, words: str) -> None:
    assert words in (complaint("spark", 10, passed, skipped) or "")


def test_as_many_tests_as_recorded_are_no_error() -> None:
    assert complaint("spark", 10, 10, 0) is None


@pytest.mark.parametrize(("tests", "status"), [(1, 1), (2, 0)])
def test_a_run_in_ci_ends_with_an_error_when_a_test_is_missing(
    tmp_path: Path, tests: int, status: int
) -> None:
    (tmp_path / "tests" / "spark").mkdir(parents=True)
    (tmp_path / "tier_counts.py").write_text((TESTS / "tier_counts.py").read_text(encoding="utf-8"))
    (tmp_path / "expected_counts.toml").write_text("spark = 2\n")
    (tmp_path / "conftest.py").write_text(
        "from tier_counts import *\npytest_addoption = add_option\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = spark\n")
    cases = "".join(f"@pytest.mark.spark\ndef test_{i}(): pass\n" for i in range(tests))
    (tmp_path / "tests" / "spark" / "test_some.py").write_text(f"import pytest\n{cases}")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "spark", "tests/spark"],
        cwd=tmp_path, env={"CI": "true"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ("make test-counts" in ran.stdout) == (status == 1)


def test_only_our_error_about_mxnet_is_taken_for_its_absence() -> None:
    assert needs_mxnet(ConfigError("mxnet", "No module named 'mxnet'", "..."))
    assert not needs_mxnet(ConfigError("model.engine", "mxnet", "..."))
    assert not needs_mxnet(ValueError("mxnet: "))
