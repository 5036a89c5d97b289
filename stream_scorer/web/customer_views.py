"""The page of a customer, and what programs ask about one."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.customers.explanation import Explanation
from stream_scorer.customers.shown import CustomerShown
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.web.answers import encoded
from stream_scorer.web.look_ups import CustomerPropensities, LookUps
from stream_scorer.web.openapi import REFUSALS, Operation, Parameter
from stream_scorer.web.pages import Pages
from stream_scorer.web.refusals import status_of
from stream_scorer.web.workers import Workers

MOST_ASKED = 1000  # propensities, categories or inputs of one request
SHOWN_ON_PAGE = 10
ID = Parameter("id", "path", "The customer's id, percent-encoded", {"type": "string"})
AS_OF = Parameter(
    "as_of", "query", "The moment, ISO 8601 with a zone, not before the newest event; else now",
    {"type": "string", "format": "date-time"},
)  # fmt: skip
TOP_K = Parameter(
    "top_k", "query", "So many propensities; else as many as are published",
    {"type": "integer", "minimum": 1, "maximum": MOST_ASKED},
)  # fmt: skip
CATEGORY = Parameter(
    "category", "query", "Only this category; may be given several times", {"type": "string"}
)
TOP_CATEGORIES = Parameter(
    "top_categories", "query", "Without a category: so many of the most probable; else 3",
    {"type": "integer", "minimum": 1, "maximum": 100},
)  # fmt: skip
TOP_INPUTS = Parameter(
    "top_inputs", "query", "So many inputs are named, the rest is one amount; else 10",
    {"type": "integer", "minimum": 1, "maximum": MOST_ASKED},
)  # fmt: skip
CUSTOMER_REFUSALS = REFUSALS | {
    400: "What was asked can't be answered; the answer says why.",
    403: "Other machines can reach this address, and no token is set.",
    404: "The customer is not known.",
    500: "What is stored is not of this feature declaration, or Redis refuses; see the error.",
}
OPERATIONS = (
    Operation(
        "GET", "/api/customers/{id}/propensities",
        "Propensities now, from the record as it is stored now", CustomerPropensities,
        CUSTOMER_REFUSALS, (ID, TOP_K, CATEGORY, AS_OF),
    ),
    Operation(
        "GET", "/api/customers/{id}", "What is stored: vector in words, positions, propensities",
        CustomerShown, CUSTOMER_REFUSALS, (ID, TOP_K, AS_OF),
    ),
    Operation(
        "GET", "/api/customers/{id}/explanation",
        "What pushes the propensities up and down, with amounts that add up", Explanation,
        CUSTOMER_REFUSALS, (ID, CATEGORY, TOP_CATEGORIES, TOP_INPUTS, AS_OF),
    ),
)  # fmt: skip


class CustomerViews:
    """look_ups: called on threads of `workers`."""

    def __init__(self, pages: Pages, look_ups: LookUps, workers: Workers) -> None:
        self._pages, self._look_ups, self._workers = pages, look_ups, workers

    def routes(self) -> list[Route]:
        """The page, and what is under /api/customers."""
        return [
            Route("/customers", self._page),
            # An id may hold slashes, so that its end is found in the path as it was sent.
            Route("/api/customers/{rest:path}", self._api),
        ]

    async def _api(self, request: Request) -> Response:
        customer_id, what = asked_of_customer(request)
        query, as_of_ms = request.query_params, _moment(request)
        if what == "propensities":
            top_k = _number(request, "top_k", 1) if "top_k" in query else None
            found = await self._workers.run(
                self._look_ups.propensities, customer_id, as_of_ms, top_k, _categories(request)
            )
        elif what == "explanation":
            found = await self._workers.run(
                self._explanation, customer_id, as_of_ms, query.getlist("category"),
                _number(request, "top_categories", 3, 100), _number(request, "top_inputs", 10),
            )  # fmt: skip
        elif what == "":
            top_k = _number(request, "top_k", SHOWN_ON_PAGE)
            found = await self._workers.run(self._shown, customer_id, as_of_ms, top_k)
        else:
            raise HTTPException(404)
        return Response(found, media_type="application/json")

    def _shown(self, customer_id: str, as_of_ms: int | None, top_k: int) -> bytes:
        return encoded(self._look_ups.shown(customer_id, as_of_ms, top_k))

    def _explanation(
        self, customer_id: str, as_of_ms: int | None, categories: list[str], top_categories: int,
        top_inputs: int,
    ) -> bytes:  # fmt: skip
        found = self._look_ups.explanation(
            customer_id, as_of_ms, categories, top_categories, top_inputs
        )
        return encoded(found)

    async def _page(self, request: Request) -> Response:
        customer_id, categories = request.query_params.get("id", "").strip(), _categories(request)
        shown = explanation = None
        problem, status = "", 200
        if customer_id:
            try:
                shown, explanation = await self._workers.run(
                    self._both, customer_id, [c for c in categories if c]
                )
            except StreamScorerError as error:
                problem, status = f"{error}", status_of(error)
        page = self._pages.render(
            "customer.html", at="customers", signed_in=request.scope["signed_in"],
            customer_id=customer_id, category=categories[0] if categories else "",
            shown=shown, explanation=explanation, problem=problem,
        )  # fmt: skip
        return HTMLResponse(page, status)

    def _both(
        self, customer_id: str, categories: list[str]
    ) -> tuple[CustomerShown, Explanation | None]:
        shown = self._look_ups.shown(customer_id, None, SHOWN_ON_PAGE)
        if not shown.propensities:
            return shown, None
        return shown, self._look_ups.explanation(customer_id, None, categories, 3, SHOWN_ON_PAGE)


def asked_of_customer(request: Request) -> tuple[str, str]:
    """The customer's id, and what is asked of it. Raises HTTPException where that is nothing."""
    raw = bytes(request.scope["raw_path"]).decode("ascii", errors="replace")
    parts = raw.removeprefix("/api/customers/").split("/")
    try:
        customer_id = unquote(parts[0], errors="strict")
    except UnicodeDecodeError:
        raise InputError("customer id", parts[0], "is not UTF-8, and every event's is") from None
    if len(parts) > 2 or not customer_id:
        raise HTTPException(404)
    return customer_id, parts[1] if len(parts) == 2 else ""


def _categories(request: Request) -> list[str]:
    found = request.query_params.getlist("category")
    if len(found) > MOST_ASKED:
        raise InputError("category", f"{len(found)} of them", f"give {MOST_ASKED} at most")
    return found


def _number(request: Request, name: str, default: int, most: int = MOST_ASKED) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= most:
        raise InputError(name, text, f"write a whole number from 1 to {most}")
    return int(text)


def _moment(request: Request) -> int | None:
    text = request.query_params.get("as_of")
    if text is None:
        return None
    remedy = "write ISO 8601 with a zone, such as 2026-11-24T08:00:00Z"
    try:
        moment = parse_iso_8601(text)
    except ValueError:
        raise InputError("as_of", text, remedy) from None
    if moment.tzinfo is None:
        raise InputError("as_of", text, remedy)
    return nearest_ms(moment)
