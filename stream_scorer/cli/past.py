"""The verbs of snapshots and of past events."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream_scorer.cli.application import (
    Config,
    Engine,
    Forgotten,
    Json,
    Master,
    SparkConf,
    app,
    load_settings,
    moment_ms,
    moments_ms,
    required_ms,
    show,
    verb,
    wants_spark,
)
from stream_scorer.errors import InputError
from stream_scorer.runtime import keep_freed_memory
from stream_scorer.storage.places import place, places

if TYPE_CHECKING:
    from stream_scorer.past.replayed import (
        LabelledSnapshot,
        RebuiltNamespace,
        ReplayedPropensities,
    )
    from stream_scorer.past.sources import MissingHistory

Past = Annotated[
    list[str],
    typer.Argument(
        metavar="EVENTS...",
        help="Event files, directories of them, also under s3://, gs:// or abfs://; or "
        "`topic`: the input topic.",
    ),
]
PastFrom = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Events then or later; a topic's by record time."),
]
PastTo = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Events before that.")]

AcceptMissing = Annotated[
    bool,
    typer.Option(
        "--accept-missing-history",
        help="Where the topic has deleted its oldest events, take the rest as if it were all.",
    ),
]

SampleCustomers = Annotated[
    str | None,
    typer.Option(
        "--sample-customers",
        metavar="1/K",
        help="Only of this share of customers, by a hash of the id: the same ones everywhere. "
        "Also A/K.",
    ),
]


@app.command(
    epilog="Example: stream-scorer export -c stream_scorer.toml --out snapshots/2026-11-24"
)
@verb
def export(
    out: Annotated[str, typer.Option(metavar="DIR", help="A new directory for the snapshot.")],
    config: Config = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="ISO 8601 with a zone; without it each customer's own."),
    ] = None,
    sample_customers: SampleCustomers = None,
    as_json: Json = False,
) -> None:
    """Write a snapshot of all vectors in the live store.

    An interrupted one goes on where it stopped.
    """
    from stream_scorer.core.customer_sample import CustomerSample
    from stream_scorer.jobs import export as job

    sample = CustomerSample.asked(sample_customers)
    settings, as_of_ms = load_settings(config).sampling(sample), moment_ms("--as-of", as_of)
    done = job.export(settings, place(out, "--out"), as_of_ms=as_of_ms)
    show(done, job.in_words(done), as_json)


@app.command(
    epilog="Example: stream-scorer replay events/ -c stream_scorer.toml --out snapshots/train "
    "--cutoffs 2026-09-07T00:00Z,2026-09-21T00:00Z"
)
@verb
def replay(
    events: Past,
    config: Config = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="A new directory for the results.")
    ] = None,
    cutoffs: Annotated[
        str | None,
        typer.Option(
            metavar="TIME,...",
            help="Labelled rows of all customers as of these times. Also `event` and `quiet`: rows "
            "after each event, and at each round of [refresh]; `event:RATE`: a share of them; "
            "TIME..TIME: in this period, alone: both, as `run` scores. Without --cutoffs, "
            "propensities as of the end.",
        ),
    ] = None,
    rows_at: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Rows of a labelled snapshot stand at cutoffs, just after events between them, or "
            "both.",
        ),
    ] = "cutoffs",
    seed: Annotated[
        int, typer.Option(help="Another one takes other rows where a share is taken.")
    ] = 0,
    sample_customers: SampleCustomers = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE", help="Build this new namespace in Redis instead."),
    ] = None,
    start: PastFrom = None,
    end: PastTo = None,
    accept_missing_history: AcceptMissing = False,
    forgotten: Forgotten = None,
    threads: Annotated[
        int, typer.Option(min=0, help="0: one for each core; the results are the same.")
    ] = 0,
    engine: Engine = "local",
    master: Master = None,
    conf: SparkConf = None,
    as_json: Json = False,
) -> None:
    """Run past events through today's code.

    The result is labelled snapshots, propensities, or a new namespace.
    """
    keep_freed_memory()
    from stream_scorer.core.customer_sample import CustomerSample
    from stream_scorer.jobs import replay as job
    from stream_scorer.past.forgotten_customers import leaving_out
    from stream_scorer.past.replayed import in_words
    from stream_scorer.past.rows_asked import RowsAsked

    sample = CustomerSample.asked(sample_customers)
    if not sample.whole and cutoffs is None:
        remedy = "is about labelled snapshots: give --cutoffs and --out too"
        raise InputError("--sample-customers", sample, remedy)
    settings = leaving_out(load_settings(config), forgotten).sampling(sample)
    missing: MissingHistory = "accept" if accept_missing_history else "refuse"
    window = job.Window(moment_ms("--from", start), moment_ms("--to", end), missing)
    if (out is None) == (into is None) or (into is not None and cutoffs is not None):
        remedy = "give either --out, with --cutoffs or without, or --into"
        raise InputError("--out", out, remedy)
    done: LabelledSnapshot | ReplayedPropensities | RebuiltNamespace
    if cutoffs is None and rows_at != "cutoffs":
        raise InputError("--rows-at", rows_at, "is about labelled snapshots: give --cutoffs too")
    rows = None
    if cutoffs is not None:  # before kernels are compiled, or Spark is started
        rows = RowsAsked.parse(
            cutoffs, rows_at, seed, every_ms=settings.refresh.every_ms,
            horizon_ms=settings.label_rule().horizon_ms,
            moment_ms=lambda text: required_ms("--cutoffs", text),
        )  # fmt: skip
    if wants_spark(engine, master, conf):
        if out is None or rows is None:
            raise InputError("--engine", engine, "makes labelled snapshots: give --cutoffs, --out")
        from stream_scorer.spark.session import session

        with session(master, conf or ()) as spark:
            from stream_scorer.spark import replay as on_spark

            between = (window.from_ms, window.to_ms)
            done = on_spark.replay(spark, settings, events, out, rows, between)
        show(done, in_words(done), as_json)
        return
    if into is not None:
        done = job.rebuild(settings, events, into, window, threads)
    elif out is not None and rows is not None:
        done = job.replay(settings, events, place(out, "--out"), rows, window, threads)
    elif out is not None:
        done = job.propensities(settings, events, place(out, "--out"), window, threads=threads)
    show(done, in_words(done), as_json)


@app.command(
    epilog="Example: stream-scorer backtest events/ -c stream_scorer.toml --model model "
    "--from 2026-10-01T00:00Z --to 2026-12-01T00:00Z --report backtest"
)
@verb
def backtest(
    events: Past,
    model: Annotated[
        list[str],
        typer.Option(metavar="MODEL", help="A model artefact; give a second to compare."),
    ],
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First scoring time.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="No scoring time from then on.")],
    report: Annotated[str, typer.Option(metavar="DIR", help="A new directory for the report.")],
    config: Config = None,
    every: Annotated[
        str, typer.Option(metavar="DURATION", help="Score so often, as 12h or 7d; or `event`.")
    ] = "7d",
    cutoffs: Annotated[
        str | None, typer.Option(metavar="TIME,TIME,...", help="Score at these times instead.")
    ] = None,
    known_by: Annotated[
        str, typer.Option(metavar="WHEN", help="An event is known from occurred_at, or arrival.")
    ] = "occurred_at",
    accept_missing_history: AcceptMissing = False,
    forgotten: Forgotten = None,
    as_json: Json = False,
) -> None:
    """Score the past as if a model had been live then.

    A report says how good its scores were, by what customers then did.
    """
    keep_freed_memory()
    from stream_scorer.core.evaluation.scoring_times import ScoringTimes
    from stream_scorer.jobs import backtest as job
    from stream_scorer.past.forgotten_customers import leaving_out

    settings = leaving_out(load_settings(config), forgotten)
    if known_by not in ("occurred_at", "arrival"):
        raise InputError("--known-by", known_by, "give occurred_at or arrival")
    from_ms, to_ms = required_ms("--from", start), required_ms("--to", end)
    moments = [] if cutoffs is None else moments_ms("--cutoffs", cutoffs)
    inside = tuple(m for m in moments if from_ms <= m < to_ms)
    if from_ms >= to_ms or len(inside) < len(moments):
        raise InputError("--to", end, "must lie after --from, and all --cutoffs between them")
    times = ScoringTimes(from_ms, to_ms, every, inside)
    by_arrival = known_by == "arrival"
    missing: MissingHistory = "accept" if accept_missing_history else "refuse"
    found = job.backtest(
        settings,
        events,
        places(model, "--model"),
        times,
        place(report, "--report"),
        by_arrival=by_arrival,
        missing_history=missing,
    )
    show(found, job.in_words(found), as_json)
