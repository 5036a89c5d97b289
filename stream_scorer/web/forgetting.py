"""Customers forgotten on request by HTTP: what `customer forget` does, for one customer.

It can't be undone, so it is offered only where the config says so (`web.forget`), and only to those
who have the token, also on a loopback address. One request is worked on at a time: it waits until
its tombstone is the last word, which takes some seconds. Where the one who asked has gone
meanwhile, it is done all the same, and asking again is harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stream_scorer.customers.erasure_receipt import ErasureReceipt
from stream_scorer.web.customer_views import CUSTOMER_REFUSALS, ID, asked_of_customer
from stream_scorer.web.openapi import Operation
from stream_scorer.web.workers import Workers

Forget = Callable[[str], ErasureReceipt]
PATH = "/api/customers/{rest:path}"  # an id may hold slashes, as in customer_views.py

FORGET = Operation(
    "POST", "/api/customers/{id}/forget",
    "Forget a customer for good. The receipt; where `done` is false, `problem` says what is open",
    ErasureReceipt,
    CUSTOMER_REFUSALS | {403: "No token is set, or web.forget is not.",
                         503: "Redis or Kafka does not answer, or others are being forgotten."},
    (ID,),
)  # fmt: skip


class Forgetting(NamedTuple):
    """forget: the customer with this id; called on a thread of `workers`."""

    forget: Forget
    workers: Workers

    def routes(self) -> list[Route]:
        """What takes a POST under /api/customers."""
        return [Route(PATH, self._post, methods=["POST"])]

    async def _post(self, request: Request) -> Response:
        customer_id, what = asked_of_customer(request)
        if what != "forget":
            raise HTTPException(404)
        receipt = await self.workers.run(self.forget, customer_id)
        return JSONResponse(receipt.as_json())
