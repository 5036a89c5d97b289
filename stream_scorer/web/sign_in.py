"""The form by which a browser gets its cookie, and the way out."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from stream_scorer.web.access import COOKIE, COOKIE_SECONDS, Access
from stream_scorer.web.pages import Pages

MOST_FORM_BYTES = 16_384


class SignIn:
    """now_s: seconds since 1970."""

    def __init__(
        self, pages: Pages, access: Access, now_s: Callable[[], float] = time.time
    ) -> None:
        self._pages, self._access, self._now_s = pages, access, now_s

    def routes(self) -> list[Route]:
        """The form, what it is sent to, and the way out."""
        return [
            Route("/sign-in", self._form),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
        ]

    async def _form(self, request: Request) -> Response:
        return self._page(within(request.query_params.get("next", "/")), wrong=False)

    async def _sign_in(self, request: Request) -> Response:
        form = await form_of(request)
        following = within(form.get("next", "/"))
        if not self._access.is_token(form.get("token", "").strip()):
            return self._page(following, wrong=True)
        answer = RedirectResponse(following, 303)
        answer.set_cookie(
            COOKIE, self._access.cookie(self._now_s()), max_age=COOKIE_SECONDS, path="/",
            httponly=True, samesite="strict",
        )  # fmt: skip
        return answer

    async def _sign_out(self, request: Request) -> Response:
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    def _page(self, following: str, *, wrong: bool) -> Response:
        page = self._pages.render(
            "sign_in.html", at="", signed_in=False, next=following, wrong=wrong
        )
        return HTMLResponse(page, 401 if wrong else 200)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent. Raises HTTPException where it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_FORM_BYTES:
            raise HTTPException(413, f"a form has at most {MOST_FORM_BYTES} bytes")
    fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=20)
    return {name: values[-1] for name, values in fields.items()}


def within(path: str) -> str:
    """A path of this site; the status page for an address of another one."""
    # Browsers take a backslash for a slash, and leave out tabs and line ends.
    is_ours = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if is_ours and path.isprintable() else "/"
