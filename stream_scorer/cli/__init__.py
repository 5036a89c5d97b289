"""The command line: one verb per job, and what the exit status says.

Verbs, options and their help are in streaming.py, past.py, models.py and their neighbours;
application.py prints reports and errors. The module of a job is imported when its verb runs, so
that --help is quick.

A job returns a result (result.py) and prints nothing itself; with --json it is printed as one
object on stdout, else in words. Everything else goes to stderr. Exit status: 0 done, 1 failed while
running (or something is wrong, for those that check), 2 bad input, 130 interrupted. An error that
this package raises on purpose is one line, without a traceback.
"""

from __future__ import annotations

import sys

from stream_scorer.cli import (  # noqa: F401 - each adds verbs
    customers,
    models,
    operations,
    past,
    planning,
    starter,
    streaming,
    watching,
)
from stream_scorer.cli.application import app, spread

__all__ = ["app", "main", "spread"]


def main() -> None:
    """The entry point."""
    app(args=spread(sys.argv[1:]))
