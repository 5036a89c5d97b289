"""The verbs for those who look after namespaces: what lies in Redis, and a changed declaration."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from typing import Annotated

import typer

from stream_scorer.cli.application import Config, Json, app, load_settings, show, verb

namespaces_app = typer.Typer(help="The namespaces of the Redis database.", no_args_is_help=True)
app.add_typer(namespaces_app, name="namespaces")


@namespaces_app.command("list", epilog="Example: stream-scorer namespaces list -c FILE")
@verb
def namespaces_list(config: Config = None, as_json: Json = False) -> None:
    """Each with its customers, memory, watermarks, and who reads into it."""
    from stream_scorer.jobs import namespaces as job

    found = job.listing(load_settings(config))
    show(found, job.listing_in_words(found), as_json)


@namespaces_app.command(
    "drop", epilog="Example: stream-scorer namespaces drop version-1 -c FILE --yes"
)
@verb
def namespaces_drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The namespace to delete.")],
    config: Config = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete it; without this, say what would be deleted.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where it is in use, or Kafka can't be asked.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete a namespace and nothing else; where it broke off, run it again."""
    from stream_scorer.jobs import namespaces as job

    done = job.dropped(load_settings(config), name, agreed=yes, force=force)
    show(done, job.dropped_in_words(done), as_json)
