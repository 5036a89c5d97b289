"""The verbs that a newcomer begins with: a starter, what the declared features are, and kernels
compiled ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import Config, Json, app, load_settings, show, verb


@app.command(epilog="Example: stream-scorer init shop")
@verb
def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new directory, or an empty one.")
    ],
    as_json: Json = False,
) -> None:
    """Write a config and sample events to start from.

    Every setting of the config is explained; what to run on it is printed.
    """
    from stream_scorer.jobs import init as job  # noqa: PLC0415 - imported when it runs

    starter = job.init(directory)
    show(starter, job.in_words(starter), as_json)


@app.command(epilog="Example: stream-scorer features -c stream_scorer.toml --feature purchases")
@verb
def features(
    config: Config = None,
    feature: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the columns of this feature.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Only the first so many; 0: all.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.parquet", help="A new file for the columns, not stdout."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print every column of the vectors in words.

    Its feature, values, half-life and transform.
    """
    from stream_scorer.jobs import features as job  # noqa: PLC0415 - imported when it runs

    found = job.features(load_settings(config), feature, limit, out)
    show(found, job.in_words(found), as_json)


@app.command(epilog="Example: stream-scorer warm")
@verb
def warm(as_json: Json = False) -> None:
    """Compile all kernels ahead, as in the build of an image.

    What is there is left as it is.

    Compiled code is kept in the folder that STREAM_SCORER_KERNEL_CACHE names, else in the user's
    cache folder, and is for this kind of processor, this Python and this version.
    """
    from stream_scorer.jobs import warm as job  # noqa: PLC0415 - imported when it runs

    warmed = job.warm()
    show(warmed, job.in_words(warmed), as_json)
