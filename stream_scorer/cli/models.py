"""The verbs of models, from training to bulk scoring; and the benchmark."""

# ruff: noqa: PLC0415 - a verb's modules are imported when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    show,
    verb,
    wants_spark,
)
from stream_scorer.cli.past import AcceptMissing
from stream_scorer.errors import InputError
from stream_scorer.storage.places import place, places

# Not from STREAM_SCORER_CONFIG: whether members switch should not follow from the environment.
Members = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Config of the running members that are to switch."
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="With -c: how long to wait for the members to switch; 0: do not wait.",
    ),
]

Report = Annotated[
    str | None, typer.Option(metavar="FILE.html", help="A page with tables and plots.")
]

models_app = typer.Typer(help="Model artefacts.", no_args_is_help=True)
app.add_typer(models_app, name="models")


@app.command(
    epilog="Example: stream-scorer train snapshots/train -c stream_scorer.toml "
    "--validation snapshots/validation --out model"
)
@verb
def train(
    snapshots: Annotated[list[str], typer.Argument(metavar="SNAPSHOTS...")],
    out: Annotated[str, typer.Option(metavar="MODEL", help="A new directory for the artefact.")],
    config: Config = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SNAPSHOTS...", help="Later snapshots, to stop training by and to calibrate on."
        ),
    ] = None,
    forgotten: Forgotten = None,
    as_json: Json = False,
) -> None:
    """Train a model on labelled snapshots.

    Writes its artefact, with a card that describes it.
    """
    from stream_scorer.jobs import train as job
    from stream_scorer.past.forgotten_customers import leaving_out

    settings = leaving_out(load_settings(config), forgotten)
    trained = job.train(
        settings, places(snapshots, "SNAPSHOTS"), place(out, "--out"),
        validation=places(validation or [], "--validation"),
    )  # fmt: skip
    show(trained, job.in_words(trained), as_json)


@app.command(epilog="Example: stream-scorer evaluate model snapshots/test --report quality.html")
@verb
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model artefact.")],
    snapshots: Annotated[list[str], typer.Argument(metavar="SNAPSHOTS...")],
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SNAPSHOTS...",
            help="Fit the baseline on these; without it on the model's training snapshots.",
        ),
    ] = None,
    report: Report = None,
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.parquet", help="A new file, to write the scores of every row to."
        ),
    ] = None,
    forgotten: Forgotten = None,
    as_json: Json = False,
) -> None:
    """Measure how good a model is on labelled snapshots.

    It is compared with the prior and with one logistic regression for each category.
    """
    from stream_scorer.jobs import evaluate as job
    from stream_scorer.past.forgotten_customers import forgotten_customers

    found = job.evaluate(
        place(model, "MODEL"), places(snapshots, "SNAPSHOTS"),
        baseline=places(baseline or [], "--baseline"),
        report_file=None if report is None else place(report, "--report"),
        scores_file=None if scores is None else place(scores, "--scores"),
        erased_customers=forgotten_customers(None, forgotten),
    )  # fmt: skip
    show(found, job.in_words(found), as_json)


@app.command(epilog="Example: stream-scorer score model snapshots/test --out scores.parquet")
@verb
def score(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model artefact.")],
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="A snapshot directory.")],
    out: Annotated[
        str, typer.Option(metavar="PATH", help="A new Parquet file; with Spark a new directory.")
    ],
    model_engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="native, mxnet or onnx; they agree to 1e-5.")
    ] = "native",
    engine: Engine = "local",
    master: Master = None,
    conf: SparkConf = None,
    forgotten: Forgotten = None,
    as_json: Json = False,
) -> None:
    """Score every row of a snapshot, here or on Spark."""
    from stream_scorer.jobs import score as job
    from stream_scorer.past.forgotten_customers import forgotten_customers

    erased = forgotten_customers(None, forgotten)
    if wants_spark(engine, master, conf):
        from stream_scorer.spark.session import session

        with session(master, conf or ()) as spark:
            from stream_scorer.spark import scoring

            scores: job.BulkScores = scoring.score(
                spark, model, snapshot, out, model_engine, erased
            )
    else:
        scores = job.score(
            place(model, "MODEL"), place(snapshot, "SNAPSHOT"), place(out, "--out"),
            model_engine, erased,
        )  # fmt: skip
    show(scores, job.in_words(scores), as_json)


@models_app.command("list", epilog="Example: stream-scorer models list models/")
@verb
def models_list(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder of models.")],
    as_json: Json = False,
) -> None:
    """List the models of a folder, the active one with a star.

    Exit status 1 where one is not whole.
    """
    from stream_scorer.jobs import models as job

    found = job.listing(place(folder, "DIR"))
    show(found, job.listing_in_words(found), as_json, ok=found.all_whole)


@models_app.command(
    "verify", epilog="Example: stream-scorer models verify model -c stream_scorer.toml"
)
@verb
def models_verify(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model artefact.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check every byte of an artefact, and with a config that it is for these features."""
    from stream_scorer.jobs import models as job

    summary = job.verify(place(model, "MODEL"), None if config is None else load_settings(config))
    show(summary, job.in_words(summary), as_json)


@models_app.command(
    "convert", epilog="Example: stream-scorer models convert model --to onnx --out model.onnx"
)
@verb
def models_convert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model artefact.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="A new file.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="The format to write: onnx.")] = "onnx",
    as_json: Json = False,
) -> None:
    """Write the network as one ONNX file.

    Only if it scores as training did.
    """
    from stream_scorer.jobs import convert as job

    converted = job.convert(place(model, "MODEL"), to, place(out, "--out"))
    show(converted, job.in_words(converted), as_json)


@models_app.command(
    "activate",
    epilog="Example: stream-scorer models activate models/2026-11-24 -c stream_scorer.toml",
)
@verb
def models_activate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model of the folder.")],
    config: Members = None,
    wait: Wait = 30,
    as_json: Json = False,
) -> None:
    """Check a model and, with -c, have every running member serve it without a restart.

    Without it: point DIR/active at it, which consumers take when they start.
    """
    if config is not None:
        from stream_scorer.jobs import announced_models

        announced = announced_models.announce(load_settings(config), place(model, "MODEL"), wait)
        show(announced, announced_models.in_words(announced), as_json, ok=announced.ok)
        return
    from stream_scorer.jobs import models as job

    done = job.activate(place(model, "MODEL"))
    show(done, job.activated_in_words(done), as_json)


@models_app.command(
    "rollback", epilog="Example: stream-scorer models rollback -c stream_scorer.toml"
)
@verb
def models_rollback(
    folder: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="A folder of models; without -c.")
    ] = None,
    config: Members = None,
    wait: Wait = 30,
    as_json: Json = False,
) -> None:
    """Go back to the model that was active before; with -c in every running member.

    Without it: point DIR/active at the model that was active before.
    """
    if (folder is None) == (config is None):
        remedy = "give a folder of models, or -c stream_scorer.toml for the members that run"
        raise InputError("DIR", folder, remedy)
    if config is not None:
        from stream_scorer.jobs import announced_models

        announced = announced_models.roll_back(load_settings(config), wait)
        show(announced, announced_models.in_words(announced), as_json, ok=announced.ok)
    elif folder is not None:
        from stream_scorer.jobs import models as job

        done = job.rollback(place(folder, "DIR"))
        show(done, job.activated_in_words(done), as_json)


@models_app.command("status", epilog="Example: stream-scorer models status -c stream_scorer.toml")
@verb
def models_status(config: Config = None, as_json: Json = False) -> None:
    """Show which model each member serves.

    Exit status 1 where they do not all serve the same.
    """
    from stream_scorer.jobs import announced_models as job

    found = job.status(load_settings(config))
    show(found, job.words_of_status(found), as_json, ok=found.ok)


@models_app.command(
    "compare",
    epilog="Example: stream-scorer models compare -c stream_scorer.toml --from 2026-11-01T00:00Z",
)
@verb
def models_compare(
    events: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[EVENTS...]",
            help="Event files, directories of them, or `topic`: the input topic, the default.",
        ),
    ] = None,
    config: Config = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="First scoring time, such as when the canary began; without it the end of both "
            "models' training labels.",
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TIME",
            help="End of the scoring times, itself excluded; without it the end of the events.",
        ),
    ] = None,
    every: Annotated[
        str,
        typer.Option(
            metavar="DURATION",
            help="How often to score: a duration such as 12h, or `event`, as live.",
        ),
    ] = "event",
    accept_missing_history: AcceptMissing = False,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Say whether the challenger is better than the active model.

    By what customers did within the horizon.
    """
    from stream_scorer.jobs import compare as job

    found = job.compare(
        load_settings(config),
        events or ["topic"],
        job.Window(moment_ms("--from", start), moment_ms("--to", end), every),
        missing_history="accept" if accept_missing_history else "refuse",
        report_file=None if report is None else place(report, "--report"),
    )
    show(found, job.in_words(found), as_json)


@app.command(epilog="Example: stream-scorer bench decode score --json")
@verb
def bench(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE...]",
            help="Stages such as score or replay; a name that is none lists all.",
        ),
    ] = None,
    customers: Annotated[
        int, typer.Option(min=1, help="Rows of the snapshot that the stage bulk scores.")
    ] = 100_000,
    runs: Annotated[
        int | None,
        typer.Option(min=1, help="Timed runs of each case; without it 5, for the stage peers 3."),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(
            min=1,
            help="Minutes for the stage peers: no turn begins that would not end within them.",
        ),
    ] = 8.0,
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
    """Measure how fast the stages are on this machine.

    Without a STAGE all but sizes and peers.
    """
    from stream_scorer.jobs import bench as job

    setup = job.peer_setup(bootstrap_servers, redis, kafka_jars, peers_python)
    found = job.bench(stages or [], job.sized(customers, runs, minutes), setup)
    show(found, job.in_words(found), as_json)
