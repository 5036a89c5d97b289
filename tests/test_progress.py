"""Bars are drawn on terminals, and nowhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stream_scorer.progress import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(*, terminal: bool) -> None:
    stderr = io.StringIO()
    with progress("reading", 3, Console(file=stderr, force_terminal=terminal)) as meter:
        meter.advance(3)
    assert ("reading" in stderr.getvalue()) == terminal
