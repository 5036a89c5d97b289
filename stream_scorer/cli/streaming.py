"""The verbs of the live system: what runs, what it needs, what went wrong; and the demo."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import (
    Config,
    Json,
    app,
    load_settings,
    moment_ms,
    show,
    verb,
)
from stream_scorer.errors import InputError
from stream_scorer.storage.places import places

topics_app = typer.Typer(help="The three Kafka topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
dead_letters_app = typer.Typer(help="Records that could not be applied.", no_args_is_help=True)
app.add_typer(dead_letters_app, name="dead-letters")

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Only these; may be given several times."),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Failed then or later; ISO 8601.")
]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Failed earlier than that.")]


@app.command(epilog="Example: stream-scorer demo --seconds 20")
@verb
def demo(
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop publishing after so many seconds.")
    ] = None,
    households: Annotated[
        int | None, typer.Option(min=1, help="Take only so many customers.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep event files, config and model in a new folder."),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Show the status page, and keep it open until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the whole loop on real events and embedded servers."""
    from stream_scorer.demo.run import demo as job

    if not job(seconds=seconds, households=households, keep=keep, as_json=as_json, web=web):
        raise typer.Exit(1)


@app.command(epilog="Example: stream-scorer run -c stream_scorer.toml --processes 4")
@verb
def run(
    config: Config = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            metavar="N",
            help="Keep N members of the group running, each in a process of its own.",
        ),
    ] = None,
    member: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Keep vectors and propensities fresh: the live consumer.

    It runs until SIGTERM or Ctrl-C; SIGHUP re-reads the config.
    """
    from stream_scorer.live.stop import Stop

    stop = Stop(hangup_rereads=True)
    if processes is not None:
        from stream_scorer.jobs.run_processes import supervise

        status = supervise(load_settings(config), config, processes, stop)
        raise typer.Exit(status)
    # Before the imports, which take seconds where kernels are compiled.
    with stop.on_signals(starting=True):
        supervisor = None
        if member is not None:
            from stream_scorer.processes.channel import supervised

            supervisor = supervised(member, stop)
        from stream_scorer.io.telemetry.log_lines import log_to_stderr
        from stream_scorer.jobs.run import run as job
        from stream_scorer.processes.member import member_settings
        from stream_scorer.settings.tree import Settings

        number = None if supervisor is None else supervisor.number

        def own(settings: Settings) -> Settings:
            return settings if number is None else member_settings(settings, number)

        settings = own(load_settings(config))
        log_to_stderr(settings.telemetry.log_level, settings.telemetry.log_format, number)
        job(settings, stop, lambda: own(Settings.load(config)), supervisor)


@app.command(epilog="Example: stream-scorer web -c stream_scorer.toml --port 9110")
@verb
def web(
    config: Config = None,
    host: Annotated[
        str,
        typer.Option(metavar="HOST", help="Address; where others reach it, set web.token_file."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0: one that is free.")] = 9110,
) -> None:
    """Status page and look-up of customers for a whole group, until SIGTERM or Ctrl-C."""
    from stream_scorer import __version__
    from stream_scorer.io.telemetry.log_lines import log_to_stderr
    from stream_scorer.jobs.web import web as job

    settings = load_settings(config)
    log_to_stderr(settings.telemetry.log_level, settings.telemetry.log_format)
    job(
        settings, host, port, __version__,
        on_start=lambda url: typer.echo(f"the status page is at {url}", err=True),
    )  # fmt: skip


@app.command(epilog="Example: stream-scorer refresh -c stream_scorer.toml")
@verb
def refresh(
    config: Config = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="TIME", help="Score as of then; else as of now."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Have the members score all quiet customers again.

    Exit status 1 where some were not.
    """
    from stream_scorer.jobs import refresh as job

    done = job.refresh(load_settings(config), moment_ms("--as-of", as_of))
    show(done, job.in_words(done), as_json, ok=done.ok)


@app.command(epilog="Example: stream-scorer publish events/2026-11.avro -c stream_scorer.toml")
@verb
def publish(
    events: Annotated[
        list[str], typer.Argument(metavar="EVENTS...", help="Event files, or directories of them.")
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write the events of files to the input topic.

    Avro containers, JSON lines or Parquet.
    """
    from stream_scorer.jobs import publish as job

    done = job.publish(load_settings(config), places(events, "EVENTS"))
    show(done, job.in_words(done), as_json, ok=not done.too_large)


@topics_app.command(epilog="Example: stream-scorer topics create -c stream_scorer.toml")
@verb
def create(config: Config = None, as_json: Json = False) -> None:
    """Create the topics that do not exist.

    Those that do are left as they are.
    """
    from stream_scorer.jobs import topics as job

    done = job.create(load_settings(config))
    show(done, job.created_in_words(done), as_json)


@topics_app.command(epilog="Example: stream-scorer topics check -c stream_scorer.toml")
@verb
def check(config: Config = None, as_json: Json = False) -> None:
    """Compare the topics with what they should be.

    Exit status 1 where one falls short.
    """
    from stream_scorer.jobs import topics as job

    found = job.check(load_settings(config))
    show(found, job.checked_in_words(found), as_json, ok=found.ok)


@dead_letters_app.command(
    "list",
    epilog="Example: stream-scorer dead-letters list -c stream_scorer.toml --reason unknown_schema",
)
@verb
def dead_letters_list(
    config: Config = None,
    reason: Reasons = None,
    start: From = None,
    end: To = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Show only the newest so many; 0: all. All are counted.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """List what the dead-letter topic holds now, by reason."""
    from stream_scorer.jobs import dead_letters as job
    from stream_scorer.past.dead_letters import Choice

    choice = Choice.of(
        reason or (), from_ms=moment_ms("--from", start), to_ms=moment_ms("--to", end)
    )
    found = job.listing(load_settings(config), choice, limit)
    show(found, job.listing_in_words(found), as_json)


@dead_letters_app.command(
    "replay",
    epilog="Example: stream-scorer dead-letters replay -c stream_scorer.toml "
    "--reason unknown_schema",
)
@verb
def dead_letters_replay(
    config: Config = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    reason: Reasons = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTITION:OFFSET",
            help="The one that stood there in the input topic; may be given several times.",
        ),
    ] = None,
    start: From = None,
    end: To = None,
    as_json: Json = False,
) -> None:
    """Write dead letters back to the input topic, once each.

    Their original bytes; run it when the cause is fixed.
    """
    from stream_scorer.jobs import dead_letters as job
    from stream_scorer.past.dead_letters import Choice

    if everything == any((reason, at, start, end)):
        raise InputError("--all", everything, "choose by --reason, --at, --from, --to, or --all")
    choice = Choice.of(reason or (), at or (), moment_ms("--from", start), moment_ms("--to", end))
    done = job.replay(load_settings(config), choice)
    show(done, job.replay_in_words(done), as_json, ok=not done.refused)


@app.command(epilog="Example: stream-scorer doctor -c stream_scorer.toml")
@verb
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Say what is wrong, and how to fix it.

    Config, Kafka, Redis, schemas and model are checked. Exit status 1 where something is wrong.
    """
    from stream_scorer.jobs import doctor as job

    diagnosis = job.doctor(load_settings(config))
    show(diagnosis, job.in_words(diagnosis), as_json, ok=diagnosis.ok)


@app.command(epilog="Example: stream-scorer verify -c stream_scorer.toml --sample 1000")
@verb
def verify(
    events: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EVENTS...",
            help="The event files that were replayed into the namespace before the topic.",
        ),
    ] = None,
    config: Config = None,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many customers; 0: all.")
    ] = 1000,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the same customers again; else by the clock.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="As it was given to the replay.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="As it was given to the replay.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute vectors from the input topic and compare.

    With those in Redis; exit status 1 where they differ.
    """
    from stream_scorer.jobs import verify as job

    window = {"from_ms": moment_ms("--from", start), "to_ms": moment_ms("--to", end)}
    if not events and (start, end) != (None, None):
        remedy = "is the window of event files: name these too"
        raise InputError("--from" if start else "--to", start or end, remedy)
    settings = load_settings(config)
    found = job.verify(settings, sample, seed, events or (), **window)
    show(found, job.in_words(found), as_json, ok=found.ok)
