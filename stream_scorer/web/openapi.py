"""What the interface under /api answers, as OpenAPI 3.1 describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream_scorer.result import Result
from stream_scorer.web.schemas import reference, schemas_of


@dataclass(frozen=True)
class Refused(Result):
    """error: what is wrong. remedy: what to do, "" where the error says it."""

    error: str
    remedy: str


@dataclass(frozen=True)
class Verdict(Result):
    """reason: why it is thought so."""

    ok: bool
    reason: str


@dataclass(frozen=True)
class Parameter:
    """where: "path" or "query". kind: a JSON Schema."""

    name: str
    where: str
    meaning: str
    kind: dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One request. answer: None where it is no JSON. refusals: by HTTP status, when."""

    method: str
    path: str
    summary: str
    answer: type[Result] | None
    refusals: dict[int, str]
    parameters: tuple[Parameter, ...] = ()
    open: bool = False  # needs no token
    content_type: str = "application/json"


REFUSALS = {
    401: "The token is missing or wrong.",
    421: "The host name of the request is not known.",
    503: "Redis does not answer, or so many requests wait already; ask again.",
}


def description(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The whole description. version: of this package."""
    answers = {o.answer for o in operations if o.answer is not None}
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stream-scorer", "version": version, "license": {"name": "Apache-2.0"},
            "description": "The state of a group of consumers, and the customers that they score.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas_of(*sorted(answers, key=lambda a: a.__name__), Refused),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "The setting web.token_file; not needed where none is set.",
                }
            },
        },
    }  # fmt: skip


def _operation(operation: Operation) -> dict[str, Any]:
    schema = reference(operation.answer) if operation.answer else {"type": "string"}
    responses: dict[str, Any] = {
        "200": {"description": operation.summary,
                "content": {operation.content_type: {"schema": schema}}}
    }  # fmt: skip
    for status, meaning in sorted(operation.refusals.items()):
        answer: type[Result] = Verdict if operation.answer is Verdict else Refused
        responses[f"{status}"] = {
            "description": meaning, "content": {"application/json": {"schema": reference(answer)}}
        }  # fmt: skip
    return {
        "summary": operation.summary,
        "operationId": _name(operation),
        "parameters": [
            {"name": p.name, "in": p.where, "description": p.meaning, "required": p.where == "path",
             "schema": p.kind}
            for p in operation.parameters
        ],
        "security": [] if operation.open else [{"token": []}, {}],
        "responses": responses,
    }  # fmt: skip


def _name(operation: Operation) -> str:
    words = [w.strip("{}") for w in operation.path.split("/") if w and w != "api"]
    return "_".join([operation.method.lower(), *words]).replace(".", "_")
