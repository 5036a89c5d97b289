"""The status page, and the state of the group as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.member_status import ChallengerSaid
from stream_scorer.io.stores.members import Member
from stream_scorer.result import Result
from stream_scorer.web.group_status import GroupStatus
from stream_scorer.web.openapi import REFUSALS, Operation
from stream_scorer.web.pages import Pages
from stream_scorer.web.workers import Workers

LEAST_REFRESH_SECONDS, MOST_REFRESH_SECONDS = 5, 3600


@dataclass(frozen=True)
class MemberList(Result):
    """Those that are there, and those that were heard in the last hour."""

    members: tuple[Member, ...]


OPERATIONS = (
    Operation(
        "GET", "/api/status", "The state of the group: totals, lag, problems, members", GroupStatus,
        REFUSALS,
    ),
    Operation("GET", "/api/members", "What each member says of itself", MemberList, REFUSALS),
)  # fmt: skip


class StatusViews:
    """read: the state as of now, raising StreamScorerError; called on a thread of `workers`."""

    def __init__(self, pages: Pages, read: Callable[[], GroupStatus], workers: Workers) -> None:
        self._pages, self._read, self._workers = pages, read, workers

    def routes(self) -> list[Route]:
        """The page, and /api/status and /api/members."""
        return [
            Route("/", self._page),
            Route("/api/status", self._status),
            Route("/api/members", self._members),
        ]

    async def _page(self, request: Request) -> Response:
        status, problem = None, ""
        try:
            status = await self._workers.run(self._read)
        except StreamScorerError as error:
            problem = f"{error}"
        page = self._pages.render(
            "status.html", at="status", signed_in=request.scope["signed_in"], status=status,
            problem=problem, challengers=challengers(status),
            refresh_seconds=refresh_seconds(request.query_params.get("refresh", "")),
        )  # fmt: skip
        return HTMLResponse(page, 200 if status else 503)

    async def _status(self, _request: Request) -> Response:
        return JSONResponse((await self._workers.run(self._read)).as_json())

    async def _members(self, _request: Request) -> Response:
        status = await self._workers.run(self._read)
        return JSONResponse(MemberList(status.members).as_json())


def challengers(status: GroupStatus | None) -> list[ChallengerSaid]:
    """Each challenger once, as the first member that has it says."""
    found: dict[tuple[str, str], ChallengerSaid] = {}
    for member in status.members if status else ():
        said = None if member.gone or member.status is None else member.status.challenger
        if said is not None:
            found.setdefault((said.model_version, said.mode), said)
    return list(found.values())


def refresh_seconds(text: str) -> int:
    """After how long a browser without scripts asks again; 0 for never."""
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not int(text):
        return 0
    return min(max(int(text), LEAST_REFRESH_SECONDS), MOST_REFRESH_SECONDS)
