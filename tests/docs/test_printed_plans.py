"""The plans that pages show are what `plan` prints, to the last digit."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from tests.docs.scripts import DOCS

_BLOCKS = re.compile(
    r"```sh\nstream-scorer (plan (?:[^`\\]|\\\n)*)```\n\n```text\n(.*?)```", re.DOTALL
)


@pytest.mark.parametrize("page", ["explanation/scale.md", "how-to/plan-capacity.md"])
def test_each_line_of_the_page_is_printed(page: str) -> None:
    found = _BLOCKS.findall((DOCS / page).read_text(encoding="utf-8"))
    assert found
    for command, shown in found:
        ran = CliRunner().invoke(cli.app, shlex.split(command.replace("\\\n", " ")))
        assert ran.exit_code == 0
        printed = ran.stdout.splitlines()
        for line in shown.splitlines():
            if line == "...":
                continue
            begins = line.removesuffix("...")
            assert any(
                p.startswith(begins) if line.endswith("...") else p.rstrip() == line.rstrip()
                for p in printed
            ), line
