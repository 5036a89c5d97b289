"""The verbs for those who look after namespaces: what lies in Redis, and a changed declaration."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from typing import Annotated

import typer

from stream_scorer.cli.application import Config, Json, app, load_settings, moment_ms, show, verb
from stream_scorer.errors import InputError

namespaces_app = typer.Typer(help="The namespaces of the Redis database.", no_args_is_help=True)
app.add_typer(namespaces_app, name="namespaces")


@namespaces_app.command(
    "list", epilog="Example: stream-scorer namespaces list -c stream_scorer.toml"
)
@verb
def namespaces_list(config: Config = None, as_json: Json = False) -> None:
    """List the namespaces, and who reads into each.

    With their customers, memory and watermarks.
    """
    from stream_scorer.jobs import namespaces as job

    found = job.listing(load_settings(config))
    show(found, job.listing_in_words(found), as_json)


@namespaces_app.command(
    "drop", epilog="Example: stream-scorer namespaces drop version-1 -c stream_scorer.toml --yes"
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
    """Delete one namespace and nothing else.

    If it is interrupted, run it again.
    """
    from stream_scorer.jobs import namespaces as job

    done = job.dropped(load_settings(config), name, agreed=yes, force=force)
    show(done, job.dropped_in_words(done), as_json)


@app.command(epilog="Example: stream-scorer rollout -c new.toml")
@verb
def rollout(
    events: Annotated[
        list[str] | None,
        typer.Argument(metavar="EVENTS...", help="Event files for what the topic no longer holds."),
    ] = None,
    config: Config = None,
    topic_from: Annotated[
        str | None,
        typer.Option(
            "--topic-from",
            metavar="TIME",
            help="Events before it are of the files, records from it on of the topic.",
        ),
    ] = None,
    accept_missing_history: Annotated[
        bool,
        typer.Option(
            "--accept-missing-history", help="Take what the topic still holds as if it were all."
        ),
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End where somebody has to do something first.")
    ] = False,
    no_refresh: Annotated[
        bool,
        typer.Option(
            "--no-refresh",
            help="Done after the switch: who does not act keeps the old model's propensities.",
        ),
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Say how far it is, and change nothing.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Call it off; members of the old namespace go on.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="When it is done: delete the old namespace.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a changed declaration into service with no gap.

    Step by step; exit status 1 until it is done.
    """
    from stream_scorer.jobs import namespaces as namespaces_job
    from stream_scorer.jobs import rollout as job

    if sum((status, cancel, drop_old)) > 1:
        raise InputError("--status", status, "choose one of --status, --cancel and --drop-old")
    settings = load_settings(config)
    if cancel:
        called_off = job.cancel(settings)
        show(called_off, job.called_off_in_words(called_off), as_json)
    elif drop_old:
        dropped = job.dropped_old(settings)
        show(dropped, namespaces_job.dropped_in_words(dropped), as_json)
    else:
        found = (
            job.status(settings)
            if status
            else job.rollout(
                settings, events or (), moment_ms("--topic-from", topic_from),
                accept_missing=accept_missing_history, wait=not no_wait, refresh=not no_refresh,
                say=lambda line: typer.echo(f"stream-scorer: {line}", err=True),
            )
        )  # fmt: skip
        show(found, job.in_words(found), as_json, ok=found.done)
