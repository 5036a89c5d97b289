"""Writes the reference pages that follow from the code: `python docs/generate.py`.

Each page is a function from the code to Markdown, so that tests/docs/test_reference_pages.py can
compare what stands in docs/reference/ with what the code says now.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from stream_scorer.checks.members import ModelStatus
from stream_scorer.cli import app
from stream_scorer.core.evaluation.backtest import Backtest
from stream_scorer.core.evaluation.evaluation import Evaluation
from stream_scorer.core.evaluation.model_card import ModelCard
from stream_scorer.core.evaluation.model_comparison import ComparedModels
from stream_scorer.core.features.space import Feature
from stream_scorer.customers.erasure_receipt import ErasureReceipt
from stream_scorer.customers.explanation import ExplainedCustomers, Explanation
from stream_scorer.customers.history import CustomerHistory
from stream_scorer.customers.shown import ShownCustomers
from stream_scorer.demo.report import DemoResult
from stream_scorer.io.telemetry.metric import MetricFamily
from stream_scorer.io.telemetry.metric_list import OWN_METRICS, PROCESS, SUPERVISOR
from stream_scorer.jobs.announced_models import AnnouncedModel
from stream_scorer.jobs.bench import Benchmark
from stream_scorer.jobs.convert import ConvertedModel
from stream_scorer.jobs.customer_forget import ForgottenList
from stream_scorer.jobs.dead_letters import DeadLetterList, ReplayedDeadLetters
from stream_scorer.jobs.doctor import Diagnosis
from stream_scorer.jobs.drift import NamespaceDrift
from stream_scorer.jobs.export import Exported
from stream_scorer.jobs.features import FeatureColumns
from stream_scorer.jobs.init import Starter
from stream_scorer.jobs.models import Activated, ModelList, ModelSummary
from stream_scorer.jobs.plan import Planned
from stream_scorer.jobs.publish import Published
from stream_scorer.jobs.refresh import Refreshed
from stream_scorer.jobs.rollout import CalledOff, RolledOut
from stream_scorer.jobs.score import BulkScores, SparkScores
from stream_scorer.jobs.topics import CheckedTopics, CreatedTopics
from stream_scorer.jobs.train import Trained
from stream_scorer.jobs.verify import Verification
from stream_scorer.jobs.warm import Warmed
from stream_scorer.log_events import LOG_EVENTS
from stream_scorer.past.replayed import (
    LabelledSnapshot,
    RebuiltNamespace,
    ReplayedPropensities,
)
from stream_scorer.result import Result
from stream_scorer.rollout.namespaces import DroppedNamespace, NamespaceList
from stream_scorer.settings.tree import Settings
from stream_scorer.web.application import (
    DESCRIPTION_OPERATION,
    METRICS_OPERATION,
    PROBE_OPERATIONS,
)
from stream_scorer.web.customer_views import OPERATIONS as CUSTOMER_OPERATIONS
from stream_scorer.web.forgetting import FORGET
from stream_scorer.web.status_views import OPERATIONS as STATUS_OPERATIONS

DOCS = Path(__file__).parent
ROOT = DOCS.parent
NOTICE = "<!-- Written by `python docs/generate.py`. Change the code, then run it again. -->\n"
FEATURES = "features"
JSON_TYPES = {
    int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null",
    typing.Any: "any value",
}  # fmt: skip
LOG_TYPES = {**JSON_TYPES, list: "list of integers"}
CARD = (
    "The file `card.json` of a model's directory, which `train` writes; `card.html` is the same as "
    "a page\n([how to read it](../how-to/read-a-model-card.md))."
)
RESULTS: dict[str, type[Result]] = {
    "backtest": Backtest,
    "bench": Benchmark,
    "customer explain": Explanation,
    "customer explain --ids-file": ExplainedCustomers,
    "customer forget": ErasureReceipt,
    "customer forget --list": ForgottenList,
    "customer history": CustomerHistory,
    "customer show": ShownCustomers,
    "dead-letters list": DeadLetterList,
    "dead-letters replay": ReplayedDeadLetters,
    "demo": DemoResult,
    "doctor": Diagnosis,
    "drift": NamespaceDrift,
    "evaluate": Evaluation,
    "export": Exported,
    "features": FeatureColumns,
    "init": Starter,
    "models activate, models rollback": Activated,
    "models activate, models rollback, with -c": AnnouncedModel,
    "models compare": ComparedModels,
    "models convert": ConvertedModel,
    "models list": ModelList,
    "models status": ModelStatus,
    "models verify": ModelSummary,
    "namespaces drop": DroppedNamespace,
    "namespaces list": NamespaceList,
    "plan": Planned,
    "publish": Published,
    "refresh": Refreshed,
    "replay, with --cutoffs": LabelledSnapshot,
    "replay, with --into": RebuiltNamespace,
    "replay, without either": ReplayedPropensities,
    "rollout": RolledOut,
    "rollout, with --cancel": CalledOff,
    "rollout, with --drop-old": DroppedNamespace,
    "score": BulkScores,
    "score, with Spark": SparkScores,
    "topics check": CheckedTopics,
    "topics create": CreatedTopics,
    "train": Trained,
    "verify": Verification,
    "warm": Warmed,
}


def settings_page() -> str:
    """Every setting: its key, meaning, type, default and environment variable."""
    said = meanings((ROOT / "deploy" / "stream_scorer.toml").read_text(encoding="utf-8"))
    lines = [
        "# Settings", "", NOTICE,
        "A setting comes from the TOML file that `-c` names or from the environment, which wins.",
        "Lists and tables are JSON in the environment. `stream-scorer init` writes the annotated",
        "file at the end, with sample events beside it.", "",
        "| setting | meaning | type | default | environment variable |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for key, kind, default in settings(Settings):
        variable = "STREAM_SCORER__" + key.upper().replace(".", "__")
        lines.append(f"{setting_row(key, kind, default, said)} `{variable}` |")
    lines += ["", "Each of the `features` has:", "", "| key | meaning | type | default |"]
    lines += ["|---|---|---|---|"]
    lines += [setting_row(*setting, said) for setting in feature_settings()]
    example = (ROOT / "deploy" / "stream_scorer.toml").read_text(encoding="utf-8")
    annotated = ["## The annotated file", "", "```toml", example.rstrip(), "```", ""]
    return "\n".join([*lines, "", *annotated])


def setting_row(key: str, kind: str, default: str, said: Mapping[str, str]) -> str:
    meaning = said[key].replace("|", "\\|")
    shown_key = key.removeprefix(f"{FEATURES}.")
    return f"| `{shown_key}` | {meaning} | {cell(kind)} | {cell(default)} |"


def meanings(annotated: str) -> dict[str, str]:
    """What the annotated file says about each setting, by key; this is said nowhere else.

    Of a setting the comment behind it, of a section the comment behind its header. The features
    have a block of comments above the first: what they are, and one indented entry for each key.
    """
    found: dict[str, str] = {}
    section, block = "", []
    for line in annotated.splitlines():
        header = re.match(r"\[+([a-z_.]+)\]+(?: +# (.+))?", line)
        setting = re.match(r"(?:# )?([a-z_]+) = .*? +# (.+)", line)
        if header:
            section = header[1]
            if section == FEATURES and section not in found:
                found |= block_meanings(block)
            elif header[2]:
                found[section] = header[2]
        elif setting:
            found.setdefault(f"{section}.{setting[1]}", setting[2])
        block = [*block, line] if line.startswith("#") else []
    return found


def block_meanings(block: Sequence[str]) -> dict[str, str]:
    """What the block of comments above the features says of them and of each of their keys."""
    found = {FEATURES: ""}
    key = FEATURES
    for line in block:
        entry = re.match(r"#   ([a-z_]+) +(.+)", line)
        if entry:
            key, words = f"{FEATURES}.{entry[1]}", entry[2]
        else:
            words = line.removeprefix("#").strip()
        found[key] = f"{found.get(key, '')} {words}".strip()
    return found


def feature_settings() -> Iterator[tuple[str, str, str]]:
    """(key, type, default) of what each declared feature has."""
    kinds = typing.get_type_hints(Feature)
    for field in dataclasses.fields(Feature):
        is_required = field.default is dataclasses.MISSING
        default = "(required)" if is_required else shown(field.default)
        yield f"{FEATURES}.{field.name}", type_name(kinds[field.name]), default


def settings(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, type, default) of each leaf of the tree, in the order of declaration."""
    for name, field in section.model_fields.items():
        key, kind = f"{prefix}{name}", field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings(kind, f"{key}.")
        elif dataclasses.is_dataclass(kind):
            yield from options(kind, f"{key}.")
        else:
            made = field.get_default(call_default_factory=True)
            default = "(required)" if made is PydanticUndefined else shown(made)
            yield key, type_name(kind), default


def options(kind: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    """The same for a dataclass, whose defaults its own instance has."""
    made = kind()
    for field in dataclasses.fields(kind):
        value = getattr(made, field.name)
        if dataclasses.is_dataclass(value):
            yield from options(type(value), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", str(field.type), shown(value)


def type_name(kind: Any) -> str:
    """A type as one writes it, without what pydantic checks beside it."""
    if kind is type(None):
        return "None"
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return type_name(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(one) for one in inner)
    if origin is typing.Literal:
        return " or ".join(json.dumps(one) for one in inner)
    if origin is not None:
        parts = ", ".join("..." if one is Ellipsis else type_name(one) for one in inner)
        return f"{origin.__name__}[{parts}]"
    return str(getattr(kind, "__name__", kind))


def shown(value: Any) -> str:
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, default=str)


def cell(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def command_line_page() -> str:
    """Every verb with its arguments and options, as its --help says them."""
    lines = ["# Command line", "", NOTICE]
    lines += [
        "Exit status: 0 done, 1 failed while running, 2 bad input. `--json` prints one JSON object",
        "on stdout and everything else on stderr. Times are ISO 8601 with a zone.", "",
    ]  # fmt: skip
    for words, command in commands(typer.main.get_command(app), ()):
        lines += [f"## {' '.join(words[1:])}", "", inspect.cleandoc(command.help or ""), ""]
        lines += ["| argument or option | meaning | default |", "|---|---|---|"]
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        lines += [parameter_row(parameter) for parameter in shown]
        if command.epilog:
            lines += ["", command.epilog.replace("Example: ", "Example: `") + "`"]
        lines.append("")
    return "\n".join(lines)


def parameter_row(parameter: Any) -> str:
    """A row of the table of one verb."""
    if not parameter.opts[0].startswith("-"):
        words = f"{parameter.metavar or parameter.name.upper()}"
    else:
        value = "" if getattr(parameter, "is_flag", False) else f" {parameter.metavar or 'VALUE'}"
        words = ", ".join(parameter.opts) + value
    default = "required" if parameter.required else ""
    if not parameter.required and parameter.default not in (None, False, (), []):
        default = cell(str(getattr(parameter.default, "value", parameter.default)))
    meaning = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| {cell(words)} | {meaning} | {default} |"


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The verbs below a command, by name."""
    words = words or ("stream-scorer",)
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name in sorted(inner):
        yield from commands(inner[name], (*words, name))


def metrics_page() -> str:
    """Every metric of `run`: name, kind, unit, labels and meaning."""
    lines = [
        "# Metrics", "", NOTICE,
        "`run` serves them for Prometheus at `telemetry.host` and `telemetry.port`. The list is",
        "`stream_scorer/io/telemetry/metric_list.py`: dashboards and alerts are tested against it.",
        "A histogram has the series `_bucket`, `_sum` and `_count`.", "",
        *metric_table(OWN_METRICS),
        "## Several processes", "",
        "Of the supervisor where `run --processes` keeps several. All other series have the label",
        "`process` there, too: the number of the process, from 1 on.", "",
        *metric_table(SUPERVISOR),
        "## The process and Python", "",
        "As the client library of Prometheus shows them.", "",
        *metric_table(PROCESS),
    ]  # fmt: skip
    return "\n".join(lines)


def metric_table(families: Sequence[MetricFamily]) -> list[str]:
    """A table of metrics, by name."""
    lines = ["| metric | kind | unit | labels | meaning |", "|---|---|---|---|---|"]
    for family in sorted(families, key=lambda family: family.name):
        labels = "; ".join(
            f"`{label}`" + (f": {', '.join(values)}" if values else "")
            for label, values in family.labels.items()
        )
        name = f"`{family.exposed_name}`"
        lines.append(f"| {name} | {family.kind} | {family.unit} | {labels} | {family.meaning} |")
    return [*lines, ""]


def logs_page() -> str:
    """Every event that log lines report: name, fields with their types, and meaning."""
    lines = [
        "# Logs", "", NOTICE,
        "A consumer logs one line for each event on stderr, as text, or with",
        '`telemetry.log_format = "json"` as one JSON object. The keys of every line:', "",
        "| key | value |", "|---|---|",
        "| `time` | moment as ISO 8601 in UTC, with milliseconds |",
        "| `level` | `debug`, `info`, `warning`, `error` or `critical` |",
        "| `logger` | the module that logs |",
        "| `message` | the text, which is for people and may change |",
        "| `event` | one of those below, or null |",
        "| `error` | the trace of an exception, only where there is one |", "",
        "Names of events and of their fields stay the same within a major version; more may come.",
        "No field has a secret in it, nor what a customer did. The list is",
        "`stream_scorer/log_events.py`.", "",
        "| event | fields | meaning |", "|---|---|---|",
    ]  # fmt: skip
    for name, event in LOG_EVENTS.items():
        fields = ", ".join(f"`{field}` {LOG_TYPES[kind]}" for field, kind in event.fields.items())
        lines.append(f"| `{name}` | {fields} | {event.meaning} |")
    return "\n".join([*lines, ""])


def json_page() -> str:
    """What `--json` prints for each verb: the fields of its result, and of the parts of it."""
    lines = [
        "# What --json prints", "", NOTICE,
        "One object on stdout, by verb. Keys may be added; none is renamed or taken away within a",
        "major version. Numbers that are not defined are `null`, never NaN.", "",
    ]  # fmt: skip
    parts: dict[type[Result], None] = {}
    for words, result in sorted(RESULTS.items()):
        lines += [f"## {words}", "", *result_lines(result, parts)]
    lines += ["# The card of a model", "", CARD, "", *result_lines(ModelCard, parts)]
    lines += ["# Parts", ""]
    done = set(RESULTS.values())
    while waiting := [part for part in parts if part not in done]:
        done.add(waiting[0])
        lines += [f"## {waiting[0].__name__}", "", *result_lines(waiting[0], parts)]
    return "\n".join(lines)


def result_lines(result: type[Result], parts: dict[type[Result], None]) -> list[str]:
    """The description and the table of one result; results inside it are added to `parts`."""
    lines: list[str] = []
    # The base first: a result that adds fields to another does not describe those again.
    for base in reversed(result.__mro__[: result.__mro__.index(Result)]):
        lines += [inspect.cleandoc(base.__doc__ or ""), ""]
        if "as_json" in vars(base):
            lines += [inspect.cleandoc(base.__dict__["as_json"].__doc__ or ""), ""]
    lines += ["| key | value |", "|---|---|"]
    kinds = typing.get_type_hints(result)
    for field in dataclasses.fields(result):
        lines.append(f"| `{field.name}` | {json_type(kinds[field.name], parts)} |")
    return [*lines, ""]


def json_type(kind: Any, parts: dict[type[Result], None]) -> str:
    """A type of a field as JSON has it; a result is a link to its own table."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(json_type(one, parts) for one in inner)
    if origin is tuple:
        return f"list of {json_type(inner[0], parts)}"
    if origin is not None and issubclass(origin, Mapping):
        return f"object of {json_type(inner[1], parts)}"
    if isinstance(kind, type) and issubclass(kind, Result):
        parts.setdefault(kind)
        # What a verb prints by itself stands under the verb, not among the parts.
        verbs = [words for words, result in sorted(RESULTS.items()) if result is kind]
        heading = (verbs or [kind.__name__])[0]
        return f"[{kind.__name__}](#{heading.lower().replace(' ', '-')})"
    return JSON_TYPES[kind]


def http_page() -> str:
    """What `run` and `web` answer by HTTP."""
    lines = [
        "# HTTP", "", NOTICE,
        "`run` answers at `telemetry.host` and `telemetry.port`, `web` at `--host` and `--port`. For",
        "programs the same stands at `/api/openapi.json`, with the schema of each answer. The pages",
        "are `/` and `/customers` ([how to use them](../how-to/use-the-status-page.md)).", "",
        "What needs the token takes it as `Authorization: Bearer TOKEN`; it needs none where",
        "`web.token` is not set, and then customers are given on a loopback address alone. A refusal",
        "is `{\"error\": ..., \"remedy\": ...}`; with 503 the header `Retry-After` says when to ask",
        "again.", "",
    ]  # fmt: skip
    operations = (
        *CUSTOMER_OPERATIONS, FORGET, *STATUS_OPERATIONS, *PROBE_OPERATIONS, METRICS_OPERATION,
        DESCRIPTION_OPERATION,
    )  # fmt: skip
    for one in operations:
        lines += [f"## {one.method} {one.path}", "", f"{one.summary}.", ""]
        answer = f"`{one.answer.__name__}`" if one.answer else one.content_type
        token = "no" if one.open else "where one is set"
        lines += [f"Answer: {answer}. Token: {token}.", ""]
        if one.parameters:
            lines += ["| parameter | in | meaning |", "|---|---|---|"]
            lines += [f"| `{p.name}` | {p.where} | {p.meaning} |" for p in one.parameters] + [""]
        if one.refusals:
            lines += ["| status | when |", "|---|---|"]
            lines += [f"| {status} | {when} |" for status, when in sorted(one.refusals.items())]
            lines.append("")
    return "\n".join(lines)


def schemas_page() -> str:
    """The Avro schemas of the three topics."""
    lines = ["# Avro schemas", "", NOTICE]
    for path in sorted((ROOT / "schemas").glob("*.avsc")):
        text = path.read_text(encoding="utf-8").rstrip()
        lines += [f"## {path.stem}", "", "```json", text, "```", ""]
    return "\n".join(lines)


PAGES = {
    "settings.md": settings_page,
    "command-line.md": command_line_page,
    "json.md": json_page,
    "metrics.md": metrics_page,
    "logs.md": logs_page,
    "http.md": http_page,
    "schemas.md": schemas_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / "reference" / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name} is written")
