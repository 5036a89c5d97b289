"""The verbs that watch what the members do."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import Config, Json, app, load_settings, show, verb


@app.command(epilog="Example: stream-scorer drift -c stream_scorer.toml --report drift.html")
@verb
def drift(
    config: Config = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write this HTML page with plots.")
    ] = None,
    max_psi: Annotated[
        float | None,
        typer.Option(
            "--max-psi", metavar="X", min=0.001, help="In place of drift.max_psi of the config."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Is what is scored like what the model was trained on? Exit status 1 where it drifted."""
    from stream_scorer.jobs import drift as job

    done = job.drift(load_settings(config), report, max_psi)
    show(done, job.in_words(done), as_json, ok=done.drift.passed)
