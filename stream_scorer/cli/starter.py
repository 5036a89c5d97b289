"""The verb that a newcomer begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import Json, app, show, verb


@app.command(epilog="Example: stream-scorer init shop")
@verb
def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new directory, or an empty one.")
    ],
    as_json: Json = False,
) -> None:
    """A starter: a config with every setting explained, sample events, and what to run on them."""
    from stream_scorer.jobs import init as job  # noqa: PLC0415 - imported when it runs

    starter = job.init(directory)
    show(starter.as_json(), job.in_words(starter), as_json)
