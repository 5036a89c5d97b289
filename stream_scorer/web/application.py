"""Which path answers what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

# The header Accept and the names of series that are asked for -> content type and text.
Exposition = Callable[[str, Sequence[str]], tuple[str, bytes]]


def application(exposition: Exposition) -> Starlette:
    """What `WebServer` serves. exposition: the metrics of this process."""

    async def metrics(request: Request) -> Response:
        names = request.query_params.getlist("name[]")
        content_type, text = exposition(request.headers.get("accept", ""), names)
        return Response(text, media_type=content_type)

    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("metrics are at /metrics\n", 404)

    routes = [Route("/metrics", metrics)]
    served = Starlette(routes=routes, exception_handlers={404: not_found})
    # An address with a slash too many is unknown, rather than a redirect that a scraper follows.
    served.router.redirect_slashes = False
    return served
