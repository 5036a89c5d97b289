"""The verbs for one customer, or a list of them: what is stored, and why the model says so."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import Config, Json, app, load_settings, moment_ms, show, verb
from stream_scorer.errors import InputError
from stream_scorer.storage.places import places

customers_app = typer.Typer(help="One customer, or a list of them.", no_args_is_help=True)
app.add_typer(customers_app, name="customer")

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Customers' ids.")]
IdsFile = Annotated[
    Path | None,
    typer.Option(
        "--ids-file", metavar="FILE", help="A text file (UTF-8) with more ids, one on each line."
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="Moment of vector and propensities, not before the newest event; without it now.",
    ),
]


@customers_app.command(
    "show", epilog="Example: stream-scorer customer show c1 -c stream_scorer.toml"
)
@verb
def customer_show(
    ids: Ids = None,
    config: Config = None,
    ids_file: IdsFile = None,
    as_of: AsOf = None,
    top_k: Annotated[
        int, typer.Option(min=1, help="How many propensities to show of each customer.")
    ] = 10,
    as_json: Json = False,
) -> None:
    """Show customers in words, with positions, age and propensities.

    Exit status 1 where one is not known.
    """
    from stream_scorer.customers.id_files import all_ids
    from stream_scorer.jobs import customer_show as job

    wanted = all_ids(ids or [], ids_file)
    found = job.show(load_settings(config), wanted, moment_ms("--as-of", as_of), top_k)
    show(found, job.in_words(found), as_json, ok=job.all_well(found))


@customers_app.command(
    "explain",
    epilog="Example: stream-scorer customer explain c1 --category SOUP -c stream_scorer.toml",
)
@verb
def customer_explain(
    ids: Ids = None,
    config: Config = None,
    ids_file: IdsFile = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY",
            help="Category to explain, several times if wanted; without it the most probable.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Explain by this one, in place of the served one."),
    ] = None,
    as_of: AsOf = None,
    top: Annotated[
        int,
        typer.Option(min=1, help="How many inputs to name; the others are added up to one amount."),
    ] = 10,
    as_json: Json = False,
) -> None:
    """Explain what pushes a propensity up and down, as amounts that add up to its logit.

    With --json one ID gives one object; several, or --ids-file, give an object with all of them.
    Exit status 1 where a customer is not known, or a check of the amounts fails.
    """
    from stream_scorer.customers.id_files import all_ids
    from stream_scorer.jobs import customer_explain as job

    wanted = all_ids(ids or [], ids_file)
    found = job.explain(
        load_settings(config), wanted, category or [], moment_ms("--as-of", as_of), top, model
    )
    single = len(wanted) == 1 and ids_file is None
    show(found.customers[0] if single else found, job.in_words(found), as_json, ok=not found.not_ok)


@customers_app.command(
    "history",
    epilog="Example: stream-scorer customer history c1 --category SOUP -c stream_scorer.toml",
)
@verb
def customer_history(
    customer_id: Annotated[str, typer.Argument(metavar="ID", help="A customer's id.")],
    config: Config = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Scores as of it, and later.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Scores as of before it.")
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(metavar="CATEGORY", help="Only these; may be given several times."),
    ] = None,
    replay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EVENTS",
            help="Compute them after each event of these files, or of `topic`, instead.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="For --replay, in place of model.path; else whose categories name records.",
        ),
    ] = None,
    all_partitions: Annotated[
        bool, typer.Option("--all-partitions", help="Where the output topic was given partitions.")
    ] = False,
    as_json: Json = False,
) -> None:
    """One customer's scores over time, from the output topic or a replay; status 1 for none."""
    from stream_scorer.jobs import customer_history as job

    settings, models = load_settings(config), places(model or [], "--model")
    between = {"from_ms": moment_ms("--from", start), "to_ms": moment_ms("--to", end)}
    if not replay:
        found = job.published(
            settings, customer_id, **between, categories=category or [], models=models,
            all_partitions=all_partitions,
        )  # fmt: skip
    elif len(models) > 1 or all_partitions:
        remedy = "a replay is by one model, and of events: give one --model, no --all-partitions"
        raise InputError("--replay", ", ".join(replay), remedy)
    else:
        found = job.replayed(
            settings, customer_id, replay, **between, categories=category or [],
            model=models[0] if models else None,
        )  # fmt: skip
    show(found, job.in_words(found), as_json, ok=bool(found.points))


@customers_app.command(
    "forget",
    epilog="Example: stream-scorer customer forget c1 --yes --receipt c1.json "
    "-c stream_scorer.toml",
)
@verb
def customer_forget(
    ids: Ids = None,
    config: Config = None,
    ids_file: IdsFile = None,
    again: Annotated[
        Path | None,
        typer.Option(
            "--again",
            metavar="FILE",
            help="Customers of a receipt or of --list, up to the moments in it: after a Redis was "
            "restored.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete; without this, say what would be deleted.")
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", metavar="FILE", help="Write the receipt to this new file, JSON."),
    ] = None,
    scan_dead_letters: Annotated[
        bool,
        typer.Option("--scan-dead-letters", help="Count dead letters that name a customer."),
    ] = False,
    wait_seconds: Annotated[
        float,
        typer.Option(
            "--wait", min=0, metavar="SECONDS", help="How long members may take to finish a batch."
        ),
    ] = 60.0,
    list_all: Annotated[
        bool,
        typer.Option(
            "--list", help="Say who was forgotten, as --forgotten FILE of others reads it."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete customers for good: record, scores, and whatever comes of before; with a receipt."""
    from stream_scorer import __version__
    from stream_scorer.customers.id_files import all_ids
    from stream_scorer.jobs import customer_forget as job

    settings = load_settings(config)
    if list_all:
        if ids or ids_file or again or yes or receipt:
            raise InputError("--list", True, "only lists; give no ids, --yes or --receipt with it")
        listed = job.listing(settings)
        show(listed, job.listing_in_words(listed), as_json)
        return
    given = (
        [] if again is not None and not ids and ids_file is None else all_ids(ids or [], ids_file)
    )
    wanted = job.requested(given, again)
    if not yes:
        if receipt is not None:
            raise InputError("--receipt", receipt, "needs --yes: nothing is deleted without it")
        found = job.planned(settings, wanted)
        show(found, job.planned_words(found), as_json)
        return
    done = job.forget(
        settings, wanted, version=__version__, receipt=receipt,
        scan_dead_letters=scan_dead_letters, wait_seconds=wait_seconds,
    )  # fmt: skip
    show(done, job.in_words(done), as_json, ok=done.done)
