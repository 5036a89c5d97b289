"""Answers that say why something is not done, and what to do: JSON under /api, else a page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from stream_scorer.errors import InputError, StreamScorerError, Unavailable
from stream_scorer.web.look_ups import NotKnown
from stream_scorer.web.pages import Pages

RETRY_SECONDS = 2
HEADINGS = {
    400: "This can't be asked", 401: "The token is missing or wrong", 403: "This is not given here",
    404: "There is no such page", 405: "This can't be done here", 413: "This is too large",
    421: "Unknown address", 503: "Not now",
}  # fmt: skip
PLAIN = ("/metrics", "/healthz", "/readyz", "/static/")


class Refusals:
    """Of one server."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def answer(self, request: Request, status: int, found: str, remedy: str = "") -> Response:
        """found: what is wrong. remedy: what to do."""
        path = request.scope["path"]
        if path.startswith("/api/"):
            return JSONResponse({"error": found, "remedy": remedy}, status)
        if path.startswith(PLAIN):
            return PlainTextResponse(f"{found}; {remedy}\n" if remedy else f"{found}\n", status)
        heading = HEADINGS.get(status, "This failed")
        page = self._pages.render(
            "refused.html", at="", signed_in=False, heading=heading, found=found, remedy=remedy
        )
        return HTMLResponse(page, status)

    def of(self, request: Request, error: StreamScorerError) -> Response:
        """What an error of ours is to the one who asked."""
        status = status_of(error)
        answer = self.answer(request, status, error.found or f"{error}", error.remedy)
        if status == 503:
            answer.headers["Retry-After"] = f"{RETRY_SECONDS}"
        return answer


def status_of(error: StreamScorerError) -> int:
    """Of HTTP: 503 where it may be well later, 404 for an unknown customer, 400 where the request
    is wrong, else 500."""
    if isinstance(error, Unavailable):
        return 503
    if isinstance(error, NotKnown):
        return 404
    return 400 if isinstance(error, InputError) else 500
