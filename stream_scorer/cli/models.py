"""The verbs of models, from training to bulk scoring; and the benchmark."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_scorer.cli.application import (
    Config,
    Engine,
    Json,
    Master,
    SparkConf,
    app,
    load_settings,
    show,
    verb,
    wants_spark,
)

models_app = typer.Typer(help="Model artefacts.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@app.command(epilog="Example: stream-scorer train snapshots/* -c stream_scorer.toml --out model")
@verb
def train(
    snapshots: Annotated[list[Path], typer.Argument(metavar="SNAPSHOTS...")],
    out: Annotated[Path, typer.Option(metavar="MODEL", help="A new directory for the artefact.")],
    config: Config = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(metavar="SNAPSHOTS...", help="Later snapshots, to stop by and calibrate on."),
    ] = None,
    as_json: Json = False,
) -> None:
    """A model artefact from labelled snapshots."""
    from stream_scorer.jobs import train as job

    trained = job.train(load_settings(config), snapshots, out, validation=validation or [])
    show(trained, job.in_words(trained), as_json)


@app.command(epilog="Example: stream-scorer evaluate model snapshots/test --report quality.html")
@verb
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model artefact.")],
    snapshots: Annotated[list[Path], typer.Argument(metavar="SNAPSHOTS...")],
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="SNAPSHOTS...",
            help="Fit the baseline on these; without it on the model's training snapshots.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="A page with tables and plots.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE.parquet", help="A new file for every row's scores.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How good a model is on labelled snapshots, against the prior and a logistic regression."""
    from stream_scorer.jobs import evaluate as job

    found = job.evaluate(
        model, snapshots, baseline=baseline or [], report_file=report, scores_file=scores
    )
    show(found, job.in_words(found), as_json)


@app.command(epilog="Example: stream-scorer score model snapshot --out scores.parquet")
@verb
def score(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model artefact.")],
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="A snapshot directory.")],
    out: Annotated[
        str, typer.Option(metavar="PATH", help="A new Parquet file; with Spark a new directory.")
    ],
    model_engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="native or mxnet; they agree to 1e-5.")
    ] = "native",
    engine: Engine = "local",
    master: Master = None,
    conf: SparkConf = None,
    as_json: Json = False,
) -> None:
    """Every row of a snapshot, scored in bulk, on this machine or on Spark."""
    from stream_scorer.jobs import score as job

    if wants_spark(engine, master, conf):
        from stream_scorer.spark.session import session

        with session(master, conf or ()) as spark:
            from stream_scorer.spark import scoring

            scores: job.BulkScores = scoring.score(spark, model, snapshot, out, model_engine)
    else:
        scores = job.score(Path(model), Path(snapshot), Path(out), model_engine)
    show(scores, job.in_words(scores), as_json)


@models_app.command("list", epilog="Example: stream-scorer models list models/")
@verb
def models_list(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of models.")],
    as_json: Json = False,
) -> None:
    """The models of a folder, the active one starred; exit status 1 if one is not whole."""
    from stream_scorer.jobs import models as job

    found = job.listing(folder)
    show(found, job.listing_in_words(found), as_json, ok=found.all_whole)


@models_app.command("verify", epilog="Example: stream-scorer models verify model -c shop.toml")
@verb
def models_verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model artefact.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check every byte of an artefact, and with a config that it is for these features."""
    from stream_scorer.jobs import models as job

    summary = job.verify(model, None if config is None else load_settings(config))
    show(summary, job.in_words(summary), as_json)


@models_app.command("activate", epilog="Example: stream-scorer models activate models/2026-11-24")
@verb
def models_activate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model of the folder.")],
    as_json: Json = False,
) -> None:
    """Point DIR/active at a whole model; consumers take it when they start."""
    from stream_scorer.jobs import models as job

    done = job.activate(model)
    show(done, job.activated_in_words(done), as_json)


@models_app.command("rollback", epilog="Example: stream-scorer models rollback models/")
@verb
def models_rollback(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of models.")],
    as_json: Json = False,
) -> None:
    """Point DIR/active at the model that was active before."""
    from stream_scorer.jobs import models as job

    done = job.rollback(folder)
    show(done, job.activated_in_words(done), as_json)


@app.command(epilog="Example: stream-scorer bench decode score --json")
@verb
def bench(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE...]", help="Such as score or replay; a wrong name lists all."
        ),
    ] = None,
    customers: Annotated[
        int, typer.Option(min=1, help="Of the snapshot that the stage bulk scores.")
    ] = 100_000,
    runs: Annotated[
        int | None, typer.Option(min=1, help="Timed runs of each case; 5, of the stage peers 3.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,...", help="A broker for peers; else one is started."),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An empty Redis for peers; else one is started."),
    ] = None,
    kafka_jars: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Jars of the broker that peers starts, with Java 17."),
    ] = None,
    peers_python: Annotated[
        str | None,
        typer.Option(metavar="PYTHON", help="An interpreter with Quix Streams and Bytewax."),
    ] = None,
    as_json: Json = False,
) -> None:
    """How fast the stages are on this machine; without a STAGE all but peers."""
    from stream_scorer.jobs import bench as job

    setup = job.peer_setup(bootstrap_servers, redis, kafka_jars, peers_python)
    found = job.bench(stages or [], job.sized(customers, runs), setup)
    show(found, job.in_words(found), as_json)
