"""The versions that work together, and those known not to."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from stream_scorer.checks.finding import Finding

SHOWN = (
    "stream-scorer", "confluent-kafka", "redis", "numpy", "numba", "pyarrow", "mxnet",
    "onnxruntime",
)  # fmt: skip
# The oldest that the tests run on.
TESTED_REDIS = (6, 2)


def version_findings() -> Iterator[Finding]:
    """This Python and its packages."""
    found = {name: _installed(name) for name in SHOWN}
    versions = {name: text for name, text in found.items() if text is not None}
    yield from package_findings(versions, platform.python_version())


def package_findings(versions: Mapping[str, str], python: str) -> Iterator[Finding]:
    """versions: of the packages that are installed, by name."""
    check = "versions"
    problems = list(_clashes({name: _numbers(text) for name, text in versions.items()}))
    yield from (Finding(check, *problem) for problem in problems)
    if not problems:
        listing = ", ".join(f"{name} {text}" for name, text in versions.items())
        yield Finding(check, f"Python {python}, {listing}")


def redis_version_finding(product: str) -> Finding | None:
    """A Redis that is older than those it was tested on; None for others."""
    name, _, number = product.partition(" ")
    if name.lower() != "redis" or not number or _numbers(number) >= TESTED_REDIS:
        return None
    oldest = ".".join(map(str, TESTED_REDIS))
    return Finding(
        "redis version", f"{product} is older than {oldest}, the oldest that is tested",
        f"use Redis {oldest} or newer", warning=True,
    )  # fmt: skip


def _clashes(versions: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    numpy, nothing = versions.get("numpy", ()), ()
    if versions.get("mxnet", nothing) and numpy >= (2,):
        yield (
            "MXNet 1.9.1 was built against numpy 1, and numpy 2 is installed: it can't be imported",
            "pip install 'numpy>=1.26.4,<2'",
        )
    if numpy and numpy < (2,) and versions.get("pyarrow", nothing) >= (26,):
        yield ("pyarrow 26 refuses to be imported beside numpy 1", "pip install 'pyarrow>=16,<26'")
    client = versions.get("confluent-kafka", nothing)
    if client and client < (2, 15):
        yield (
            "confluent-kafka (librdkafka) is older than 2.15: under group.protocol=consumer a late "
            "poll is fatal there",
            "pip install 'confluent-kafka>=2.15'",
        )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """ "6.2.14" as (6, 2, 14), up to what is no number."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()
