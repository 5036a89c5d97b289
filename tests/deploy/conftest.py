"""deploy/ checked by the programs made for it: Helm, promtool, Prometheus, systemd-analyze, Compose
and the schemas of Kubernetes, of KEDA and of the Prometheus operator.

What is absent is an error in CI (CI=true) and a skip elsewhere. `make test-deploy` runs these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Packages of the extra `deploy`, which test modules import. Where one is absent, `make test` of a
# laptop has none of these tests; in CI the import fails.
PACKAGES = ("yaml", "jsonschema", "kubernetes_validate", "grafana_foundation_sdk", "promql_parser")
if os.environ.get("CI") != "true" and not all(find_spec(package) for package in PACKAGES):
    collect_ignore_glob = ["test_*.py"]

GO_PROGRAMS = Path.home() / "go" / "bin"

Tool = Callable[[str], str]


@pytest.fixture(scope="session")
def tool() -> Tool:
    """tool(name) -> the path of a program, where this machine has it."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path=str(GO_PROGRAMS))
        if found is None:
            message = f"the program {name} is absent; .ci/run shows how it is installed"
            if os.environ.get("CI") == "true":
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        return found

    return find


@pytest.fixture(scope="session")
def call(tool: Tool) -> Callable[..., subprocess.CompletedProcess[str]]:
    """call(program, *arguments, status=0) -> what it printed; another exit status is an error."""

    def run(name: str, *arguments: Any, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [tool(name), *map(str, arguments)], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run
