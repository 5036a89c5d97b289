"""What every request passes before it is answered, and the headers that every answer has.

What may be answered is decided by the path that the request is routed by, `scope["path"]`. The path
of `Request.url` is another one in older versions of Starlette: they join Host and path to one
address and cut it again, so that a client who sends "Host: x/metrics?" would choose it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from stream_scorer.web.access import COOKIE, Access, Need
from stream_scorer.web.refusals import Refusals

PROBES = ("/metrics", "/healthz", "/readyz")  # asked by programs under any name
OPEN = (*PROBES, "/sign-in", "/sign-out", "/api/openapi.json")
# Nothing from elsewhere, and nothing of ours elsewhere. No script or style within a page.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer" browsers would send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
SENT_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Guard:
    """An ASGI application around another one. now_s: seconds since 1970."""

    def __init__(
        self, app: Any, access: Access, refusals: Refusals, now_s: Callable[[], float] = time.time
    ) -> None:
        self._app, self._access, self._now_s = app, access, now_s
        self._refusal = refusals.answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] += [one for one in SENT_HEADERS if one[0] not in present]
            await send(message)

        headers = Headers(scope=scope)
        # For pages, which then offer to sign out.
        scope["signed_in"] = self._access.is_signed_in(
            headers.get("authorization", ""), cookie_of(headers), self._now_s()
        )
        refused = self._refused(Request(scope), headers)
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refused(self, request: Request, headers: Headers) -> Response | None:
        """The answer to a request that goes no further."""
        path, host = request.scope["path"], headers.get("host", "")
        if path not in PROBES and not self._access.knows_host(host):
            return self._refusal(
                request, 421, f"this address is not known under the host name {host[:200]!r}",
                "use localhost, or list the name in web.host_names",
            )  # fmt: skip
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            refused = self._refused_change(request, headers)
            if refused is not None:
                return refused
        need = need_of(path)
        if need == "customers" and not self._access.gives_customers:
            return self._refusal(
                request, 403,
                "customers' data is not given on an address that other machines can reach, because "
                "no token is set",
                "set web.token_file, or listen on 127.0.0.1",
            )  # fmt: skip
        if request.scope["signed_in"] or not self._access.asks_for_token(need):
            return None
        if path.startswith("/api/"):
            answer = self._refusal(
                request, 401, "the token is missing or wrong",
                "send it in the header, as Authorization: Bearer TOKEN",
            )  # fmt: skip
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        query = request.scope["query_string"].decode("latin-1")
        asked = f"{path}?{query}" if query else path
        return RedirectResponse(f"/sign-in?next={quote(asked, safe='')}", 303)

    def _refused_change(self, request: Request, headers: Headers) -> Response | None:
        if not _is_from_here(headers):
            return self._refusal(
                request, 403, "another site's page sent this",
                "send it from this site's own page, or without the header Origin",
            )  # fmt: skip
        # Also on a loopback address, where customers' data is given without one.
        if request.scope["path"].startswith("/api/") and not self._access.has_token:
            return self._refusal(
                request, 403, "nothing can be changed here, because no token is set",
                "set web.token_file, or use the command line",
            )  # fmt: skip
        return None


def need_of(path: str) -> Need:
    """What the answers at a path show."""
    if path in OPEN or path.startswith("/static/"):
        return "open"
    is_of_customers = path == "/customers" or path.startswith(("/customers/", "/api/customers"))
    return "customers" if is_of_customers else "status"


def cookie_of(headers: Headers) -> str:
    """The cookie that says that the reader is signed in, "" where there is none."""
    sent = headers.get("cookie")
    if sent is None:
        return ""
    try:
        found = SimpleCookie(sent).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _is_from_here(headers: Headers) -> bool:
    """Whether a browser says that the request is of a page of this site; programs say nothing."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")
