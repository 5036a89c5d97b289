"""The verbs for one customer, or a list of them: what is stored, and why the model says so."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import Config, Json, app, load_settings, moment_ms, show, verb

customers_app = typer.Typer(help="One customer, or a list of them.", no_args_is_help=True)
app.add_typer(customers_app, name="customer")

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Customers' ids.")]
IdsFile = Annotated[
    Path | None,
    typer.Option("--ids-file", metavar="FILE", help="More ids, one a line, UTF-8."),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME",
        help="The moment of vector and propensities, not before the newest event; without it now.",
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
    top_k: Annotated[int, typer.Option(min=1, help="So many propensities of each.")] = 10,
    as_json: Json = False,
) -> None:
    """Vector in words, positions, age and propensities; exit status 1 where one is not known."""
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
    customer_id: Annotated[str, typer.Argument(metavar="ID", help="A customer's id.")],
    config: Config = None,
    category: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CATEGORY", help="May be given several times; without it the most probable."
        ),
    ] = None,
    as_of: AsOf = None,
    top: Annotated[
        int, typer.Option(min=1, help="Name so many inputs; the others are one amount.")
    ] = 10,
    as_json: Json = False,
) -> None:
    """What pushes a propensity up and down, as amounts that add up to its logit.

    Exit status 1 where the customer is not known, or a check of the amounts fails.
    """
    from stream_scorer.jobs import customer_explain as job

    found = job.explain(
        load_settings(config), customer_id, category or [], moment_ms("--as-of", as_of), top
    )
    show(found, job.in_words(found), as_json, ok=found.ok)
