"""Where MXNet does not exist (Python 3.13, numpy 2), tests that need it are skipped.

A test needs MXNet if it, or the import of its module, ends with our ConfigError for "mxnet", or if
it has the marker `mxnet`, as where a program that the test starts needs it. Where
MXNet can exist nothing is caught: there that error is a failure. conftest.py registers this module
as a plugin of pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from stream_scorer.errors import ConfigError

# The package's own requirements keep numpy below 2 wherever they install MXNet.
MXNET_EXISTS = sys.version_info < (3, 13) and int(np.__version__.partition(".")[0]) < 2
REASON = "MXNet does not exist for this Python or this numpy"


def needs_mxnet(error: BaseException | None) -> bool:
    error = getattr(error, "cause", error)  # where pytest could not import a conftest.py
    return isinstance(error, ConfigError) and str(error).startswith("mxnet: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    if not MXNET_EXISTS and item.get_closest_marker("mxnet"):
        pytest.skip(REASON)
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call = getattr(report, "call", None)
    error = call.excinfo.value if call is not None and call.excinfo is not None else None
    if not MXNET_EXISTS and needs_mxnet(error):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {REASON}")
    return report


def _skipping() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except ConfigError as error:
        if MXNET_EXISTS or not needs_mxnet(error):
            raise
        pytest.skip(REASON)
