"""The verb that sizes an installation before there is one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import Json, app, show, verb
from stream_scorer.errors import InputError

PROBABILITY_BYTES = {"float32": 4, "float16": 2}
MODES = ("top_k", "threshold", "all")
_AMOUNT = re.compile(r"(\d{1,3}(?:,\d{3})+|[\d_]*\.?\d+(?:e\d{1,2})?)([kmg]?)", re.IGNORECASE)
_TIMES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def amount(text: str) -> float:
    """A number as people write large ones: 10000000, 10_000_000, 10,000,000, 10M, 2.5k or 1e7."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no number: give one such as 5000, 2.5k, 10M or 1e7")
    return float(found[1].replace(",", "").replace("_", "")) * _TIMES[found[2].lower()]


def whole_amount(text: str) -> int:
    """The same, where a part of one is none."""
    value = amount(text)
    if value != round(value):
        raise typer.BadParameter(f"{text!r} is no whole number: give one such as 5000, 10M or 1e7")
    return round(value)


@app.command(
    epilog="Example: stream-scorer plan --customers 10M --events-per-second 5000 --categories 2000"
)
@verb
def plan(
    customers: Annotated[
        int,
        typer.Option(parser=whole_amount, metavar="COUNT", help="With a record in Redis; as 10M."),
    ],
    events_per_second: Annotated[
        float, typer.Option(parser=amount, metavar="COUNT", help="In the busiest hour; as 2.5k.")
    ],
    categories: Annotated[
        int, typer.Option(parser=whole_amount, metavar="COUNT", help="Of the model.")
    ],
    non_zeros: Annotated[
        int, typer.Option(help="Values of a customer's vector that are not 0, on average.")
    ] = 117,
    record_bytes: Annotated[
        int, typer.Option(min=0, help="Of a customer's record, where known; 0: by --non-zeros.")
    ] = 0,
    partitions: Annotated[
        int, typer.Option(min=0, help="Of the input topic; 0: as many as are needed.")
    ] = 0,
    events_per_customer: Annotated[
        float, typer.Option(help="Events of one customer in a micro-batch.")
    ] = 1.0,
    utilisation: Annotated[
        float, typer.Option(help="Share of its highest rate at which a member is to work.")
    ] = 0.5,
    cores_per_member: Annotated[int, typer.Option(min=1, help="Of one member.")] = 2,
    hot_partition: Annotated[
        float, typer.Option(help="Events of the busiest partition over those of the mean one.")
    ] = 2.0,
    publish: Annotated[
        str, typer.Option(metavar="MODE", help="publish.mode: top_k, threshold or all.")
    ] = "top_k",
    precision: Annotated[
        str,
        typer.Option(metavar="FORM", help="publish.precision, with all: float32 or float16."),
    ] = "float32",
    top_k: Annotated[int, typer.Option(min=1, help="Published of a customer at most.")] = 10,
    event_bytes: Annotated[
        int, typer.Option(min=0, help="Of an event's value; 0: as measured.")
    ] = 0,
    refresh_days: Annotated[
        float, typer.Option(min=0, help="From one refresh to the next; 0: none.")
    ] = 1.0,
    retention_days: Annotated[
        float, typer.Option(min=0, help="For which the input topic keeps events.")
    ] = 400.0,
    replicas: Annotated[int, typer.Option(min=1, help="Of both topics.")] = 3,
    outage_minutes: Annotated[
        float, typer.Option(min=0, help="After which the catch-up is computed.")
    ] = 30.0,
    memory_headroom: Annotated[
        float, typer.Option(help="Redis's maxmemory over what the customers take.")
    ] = 1.3,
    redis_server_memory: Annotated[
        float | None,
        typer.Option(
            parser=amount,
            metavar="BYTES",
            help="maxmemory of one Redis server at most, 64G if not given; then a cluster.",
        ),
    ] = None,
    redis_replicas: Annotated[int, typer.Option(help="Of each Redis server.")] = 0,
    regions: Annotated[
        int,
        typer.Option(
            help="With an even part of all customers and events, and models of their own."
        ),
    ] = 1,
    core_price: Annotated[float | None, typer.Option(min=0, help="Of a core for an hour.")] = None,
    memory_price: Annotated[
        float | None, typer.Option(min=0, help="Of a gigabyte of Redis's memory for an hour.")
    ] = None,
    disk_price: Annotated[
        float | None, typer.Option(min=0, help="Of a gigabyte of Kafka's disk for a month.")
    ] = None,
    network_price: Annotated[
        float | None, typer.Option(min=0, help="Of a gigabyte on the network.")
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `bench capacity --json` wrote on your machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute what a shop needs: members, Redis servers, memory, cost and more.

    It says what the figures rest on, how far they spread, and what ends growth first. No price is
    built in: cost is of the prices that you give.
    """
    from stream_scorer.core.capacity import Demand  # noqa: PLC0415 - imported when it runs
    from stream_scorer.core.monthly_cost import Prices  # noqa: PLC0415 - as above
    from stream_scorer.jobs import plan as job  # noqa: PLC0415 - imported when it runs

    if publish not in MODES:
        raise InputError("--publish", publish, f"choose from {', '.join(MODES)}")
    if precision not in PROBABILITY_BYTES:
        raise InputError("--precision", precision, f"choose from {', '.join(PROBABILITY_BYTES)}")
    demand = Demand(
        customers=customers, events_per_second=events_per_second, categories=categories,
        non_zeros=non_zeros, record_bytes=record_bytes, partitions=partitions,
        events_per_customer=events_per_customer, utilisation=utilisation,
        cores_per_member=cores_per_member, hot_partition=hot_partition,
        published_entries=0 if publish == "all" else top_k, event_bytes=event_bytes,
        refresh_days=refresh_days, retention_days=retention_days, replicas=replicas,
        outage_minutes=outage_minutes, memory_headroom=memory_headroom,
        probability_bytes=PROBABILITY_BYTES[precision], redis_replicas=redis_replicas,
        regions=regions,
    )  # fmt: skip
    if redis_server_memory is not None:
        demand = replace(demand, redis_server_bytes=redis_server_memory)
    prices = Prices(core_price, memory_price, disk_price, network_price)
    found = job.planned(demand, prices, measured)
    show(found, job.in_words(found), as_json)
