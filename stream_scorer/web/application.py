"""Which path answers what: the pages, the interface under /api, metrics and probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stream_scorer.errors import StreamScorerError
from stream_scorer.web.access import Access
from stream_scorer.web.customer_views import OPERATIONS as CUSTOMER_OPERATIONS
from stream_scorer.web.customer_views import CustomerViews
from stream_scorer.web.forgetting import FORGET, Forgetting
from stream_scorer.web.group_status import Group, GroupStatus
from stream_scorer.web.guard import Guard
from stream_scorer.web.look_ups import LookUps
from stream_scorer.web.openapi import Operation, Verdict, description
from stream_scorer.web.pages import Pages
from stream_scorer.web.refusals import Refusals
from stream_scorer.web.sign_in import SignIn
from stream_scorer.web.status_views import OPERATIONS as STATUS_OPERATIONS
from stream_scorer.web.status_views import StatusViews
from stream_scorer.web.workers import Workers

# The header Accept and the names of series that are asked for -> content type and text.
Exposition = Callable[[str, Sequence[str]], tuple[str, bytes]]

PROBE_OPERATIONS = (
    Operation(
        "GET", "/healthz", "Whether the process works, or must be restarted", Verdict,
        {503: "It is stuck; restart it."}, open=True,
    ),
    Operation(
        "GET", "/readyz", "Whether events are worked on", Verdict, {503: "Not now."}, open=True
    ),
)  # fmt: skip
METRICS_OPERATION = Operation(
    "GET", "/metrics", "Metrics for Prometheus", None, {}, open=True, content_type="text/plain"
)
DESCRIPTION_OPERATION = Operation(
    "GET", "/api/openapi.json", "This description", None, {}, open=True
)


class Health(Protocol):
    """Seconds are of a clock that only grows; each answer has its reason."""

    def alive(self, now: float) -> tuple[bool, str]: ...
    def ready(self, now: float) -> tuple[bool, str]: ...


@dataclass(frozen=True)
class Parts:
    """What is served. read_status: raises StreamScorerError. exposition: the metrics of this
    process, None where it has none. look_ups: of customers, on threads of look_up_workers; None
    where they are not given. forgetting: None where nobody can be forgotten here."""

    group: Group
    build: str
    access: Access
    health: Health
    read_status: Callable[[], GroupStatus]
    status_workers: Workers
    exposition: Exposition | None = None
    look_ups: LookUps | None = None
    look_up_workers: Workers | None = None
    forgetting: Forgetting | None = None


def application(parts: Parts) -> Any:
    """What `WebServer` serves."""
    pages = Pages(group=parts.group, build=parts.build, has_customers=parts.look_ups is not None)
    refusals = Refusals(pages)
    operations = operations_of(parts)
    told = description(operations, parts.build)

    async def described(_request: Request) -> Response:
        return JSONResponse(told)

    async def interface(request: Request) -> Response:
        page = pages.render(
            "interface.html", at="interface", signed_in=request.scope["signed_in"],
            paths=operations,
        )  # fmt: skip
        return HTMLResponse(page)

    async def wrong(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        remedy = "the pages are at /, the interface is described at /api/openapi.json"
        found = f"there is nothing at {request.scope['path'][:200]}"
        if error.status_code != 404:
            found, remedy = error.detail, ""
        answer = refusals.answer(request, error.status_code, found, remedy)
        answer.headers.update(error.headers or {})  # such as which methods a path takes
        return answer

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, StreamScorerError)
        return refusals.of(request, error)

    async def unexpected(request: Request, _error: Exception) -> Response:
        # uvicorn logs it: Starlette raises it again when this is sent.
        return refusals.answer(
            request, 500, "an error that nobody expected", "the log of the server has it"
        )

    routes = [
        *_probes(parts.health), *_metrics(parts.exposition),
        *StatusViews(pages, parts.read_status, parts.status_workers).routes(),
        *_customers(parts, pages), *(parts.forgetting.routes() if parts.forgetting else ()),
        *SignIn(pages, parts.access).routes(),
        Route("/interface", interface), Route("/api/openapi.json", described),
        Mount("/static", StaticFiles(packages=[("stream_scorer.web", "static")])),
    ]  # fmt: skip
    served = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: wrong, StreamScorerError: failed, Exception: unexpected,
        },
    )  # fmt: skip
    # An address with a slash too many is unknown, rather than a redirect that a scraper follows.
    served.router.redirect_slashes = False
    return Guard(served, parts.access, refusals)


def operations_of(parts: Parts) -> tuple[Operation, ...]:
    """All that programs can ask for."""
    metrics = (METRICS_OPERATION,) if parts.exposition else ()
    customers = CUSTOMER_OPERATIONS if parts.look_ups else ()
    forgetting = (FORGET,) if parts.forgetting else ()
    return (
        *STATUS_OPERATIONS, *customers, *forgetting, *PROBE_OPERATIONS, *metrics,
        DESCRIPTION_OPERATION,
    )  # fmt: skip


def _customers(parts: Parts, pages: Pages) -> list[Route]:
    if parts.look_ups is None or parts.look_up_workers is None:
        return []
    return CustomerViews(pages, parts.look_ups, parts.look_up_workers).routes()


def _probes(health: Health) -> list[Route]:
    def answer(verdict: tuple[bool, str]) -> Response:
        ok, reason = verdict
        return JSONResponse(Verdict(ok, reason).as_json(), 200 if ok else 503)

    async def alive(_request: Request) -> Response:
        return answer(health.alive(time.monotonic()))

    async def ready(_request: Request) -> Response:
        return answer(health.ready(time.monotonic()))

    return [Route("/healthz", alive), Route("/readyz", ready)]


def _metrics(exposition: Exposition | None) -> list[Route]:
    if exposition is None:
        return []
    told = exposition

    async def metrics(request: Request) -> Response:
        names = request.query_params.getlist("name[]")
        content_type, text = told(request.headers.get("accept", ""), names)
        return Response(text, media_type=content_type)

    return [Route("/metrics", metrics)]
