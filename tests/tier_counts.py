"""In CI a tier of tests passes only as a whole: as many tests as expected_counts.toml says.

The tests of a tier with servers or another language can vanish unseen: by a renamed marker, a file
that is no longer collected, or a skip. So with CI=true a run of `-m containers`, `-m spark`,
`-m jvm` or `-m deploy` fails where another number of tests passed than is recorded, or where one
was skipped.
`make test-counts` records the numbers after tests were added or removed.

conftest.py registers this module as a plugin of pytest.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

COUNTS = Path(__file__).parent / "expected_counts.toml"


def recorded() -> dict[str, int]:
    """Tier -> the number of its tests."""
    lines = COUNTS.read_text(encoding="utf-8")
    return {tier: int(n) for tier, n in re.findall(r"^(\w+) = (\d+)$", lines, re.MULTILINE)}


def record(tier: str, tests: int) -> None:
    """Put the number of tests of a tier into the file."""
    lines = COUNTS.read_text(encoding="utf-8")
    changed, found = re.subn(rf"^{tier} = \d+$", f"{tier} = {tests}", lines, flags=re.MULTILINE)
    if not found:
        raise pytest.UsageError(f"{COUNTS} has no line '{tier} = NUMBER'")
    COUNTS.write_text(changed, encoding="utf-8")


def complaint(tier: str, expected: int, passed: int, skipped: int) -> str | None:
    """What is wrong with a run of a whole tier, None where nothing is."""
    if skipped:
        return f"{skipped} tests of {tier} were skipped: with CI=true none may be"
    if passed != expected:
        return (
            f"{passed} tests of {tier} passed, and tests/{COUNTS.name} says {expected}: "
            "if tests were added or removed on purpose, run `make test-counts`"
        )
    return None


def whole_tier(config: pytest.Config) -> str | None:
    """The tier that this run is all of (`-m TIER tests/TIER`), None where it is another run."""
    tier: str = config.getoption("-m")
    paths = [Path(argument).parts[-2:] for argument in config.args]
    return tier if paths == [("tests", tier)] and not config.getoption("-k") else None


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-count",
        action="store_true",
        help="with --collect-only -m TIER: write the number of tests into expected_counts.toml",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.getoption("--record-count"):
        record(session.config.getoption("-m"), len(session.items))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    tier = whole_tier(config)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    in_ci = os.environ.get("CI") == "true" and not config.getoption("--collect-only")
    # A run that failed already says so, and why.
    if tier not in recorded() or not in_ci or reporter is None or exitstatus != pytest.ExitCode.OK:
        return
    passed, skipped = (len(reporter.stats.get(outcome, [])) for outcome in ("passed", "skipped"))
    wrong = complaint(tier, recorded()[tier], passed, skipped)
    if wrong:
        reporter.write_line("")
        reporter.write_line(f"ERROR: {wrong}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
