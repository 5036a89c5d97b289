"""The application that the verbs are added to.

It also has the options that several verbs take, and prints reports and errors.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from stream_scorer import __version__
from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.missing_kernels import when_missing
from stream_scorer.result import Result

if TYPE_CHECKING:
    from stream_scorer.settings.tree import Settings

P = ParamSpec("P")

# In the order in which a newcomer meets them; others follow.
FIRST_VERBS = (
    "demo", "init", "features", "replay", "train", "evaluate", "backtest", "score", "topics",
    "publish", "run", "doctor", "web", "customer", "models",
)  # fmt: skip


class _InOrderOfUse(TyperGroup):
    """The verbs as --help lists them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names: `FIRST_VERBS`, then the rest as they were added."""
        names = super().list_commands(ctx)
        first = [name for name in FIRST_VERBS if name in names]
        return first + [name for name in names if name not in first]


app = typer.Typer(
    cls=_InOrderOfUse,
    help="Keeps every customer's propensities for each category fresh, from Kafka through Redis.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="STREAM_SCORER_CONFIG",
        help="Settings in TOML, as `init` writes them; without it the defaults.",
    ),
]  # fmt: skip
# As settings/regions.py names it, which help does not wait for.
REGION_VARIABLE = "STREAM_SCORER_REGION"
Region = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", envvar=REGION_VARIABLE,
        help="Which of the regions that the config declares; needed where it declares some.",
    ),
]  # fmt: skip
Engine = Annotated[str, typer.Option(metavar="ENGINE", help="local (on this machine) or spark.")]
Master = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of the Spark master; without it what spark-submit sets, or local[*].",
    ),
]
SparkConf = Annotated[
    list[str] | None,
    typer.Option(
        "--conf",
        metavar="KEY=VALUE",
        help="A setting of Spark; the option may be given several times.",
    ),
]
Forgotten = Annotated[
    Path | None,
    typer.Option(
        "--forgotten",
        metavar="FILE",
        help="Leave out customers of `customer forget --list`, or of a receipt.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def verb(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors of ours become lines on stderr and an exit status.

    One that takes a config takes --region as well.
    """
    signature = inspect.signature(command)
    takes_config = "config" in signature.parameters

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        region = kwargs.pop("region", None) if takes_config else None
        try:
            # All kernels are compiled where the first that is called is missing.
            with _of_region(region), when_missing(_compile_kernels):
                command(*args, **kwargs)
        except StreamScorerError as error:
            for line in str(error).splitlines():
                typer.echo(f"stream-scorer: {line}", err=True)
            raise typer.Exit(2 if isinstance(error, InputError) else 1) from None
        except KeyboardInterrupt:
            typer.echo("stream-scorer: interrupted before it was done", err=True)
            raise typer.Exit(130) from None

    if takes_config:
        signature = inspect.signature(command, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        option = inspect.Parameter("region", keyword, default=None, annotation=Region)
        parameters = [*signature.parameters.values(), option]
        vars(run)["__signature__"] = signature.replace(parameters=parameters)
    return run


@contextmanager
def _of_region(region: object) -> Iterator[None]:
    """With the variable set, so that processes which the verb starts, and a config that it reads
    again, are of the same region."""
    if not region:
        yield
        return
    before = os.environ.get(REGION_VARIABLE)
    os.environ[REGION_VARIABLE] = str(region)
    try:
        yield
    finally:
        if before is None:
            del os.environ[REGION_VARIABLE]
        else:
            os.environ[REGION_VARIABLE] = before


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


def load_settings(config: Path | None) -> Settings:
    """The settings, for verbs that are quiet but for warnings. Raises ConfigError."""
    from stream_scorer.settings.tree import Settings  # noqa: PLC0415 - so that --help is quick

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)
    return Settings.load(config)


def _compile_kernels() -> None:
    from stream_scorer.live.warming import compile_where_missing  # noqa: PLC0415 - as above

    compile_where_missing()


def show(result: Result, words: list[str], as_json: bool, *, ok: bool = True) -> None:
    """Print `result`, or `words` for people; exit status 1 where it is not `ok`."""
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    else:
        for line in words:
            typer.echo(line)
    if not ok:
        raise typer.Exit(1)


def moment_ms(option: str, text: str | None) -> int | None:
    """ISO 8601 with a zone to ms since 1970 UTC; None stays None."""
    return None if text is None else required_ms(option, text)


def moments_ms(option: str, text: str) -> list[int]:
    """Moments with commas between."""
    return [required_ms(option, part.strip()) for part in text.split(",")]


def required_ms(option: str, text: str) -> int:
    """ISO 8601 with a zone to ms since 1970 UTC. Raises InputError."""
    remedy = "write ISO 8601 with a zone, such as 2026-11-24T08:00:00Z"
    try:
        moment = parse_iso_8601(text)
    except ValueError:
        raise InputError(option, text, remedy) from None
    if moment.tzinfo is None:
        raise InputError(option, text, remedy)
    return nearest_ms(moment)


def wants_spark(engine: str, master: str | None, conf: list[str] | None) -> bool:
    """Whether the work is Spark's. Raises InputError where the three contradict each other."""
    if engine not in ("local", "spark"):
        raise InputError("--engine", engine, "choose local or spark")
    if engine == "local" and (master or conf):
        raise InputError("--engine", engine, "--master and --conf are Spark's; give --engine spark")
    return engine == "spark"


def spread(
    arguments: list[str], options: tuple[str, ...] = ("--validation", "--baseline")
) -> list[str]:
    """`--validation a b` as `--validation a --validation b`, which is what typer understands."""
    spread_out: list[str] = []
    taking = ""
    for argument in arguments:
        if argument.startswith("-"):
            taking = argument if argument in options else ""
        elif taking and spread_out[-1] != taking:
            spread_out.append(taking)
        spread_out.append(argument)
    return spread_out
