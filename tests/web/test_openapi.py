"""The description of the interface is whole, and every answer is as it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from stream_scorer.errors import StoreUnavailable
from stream_scorer.web.access import Access
from stream_scorer.web.application import application
from stream_scorer.web.customer_views import OPERATIONS as CUSTOMER_OPERATIONS
from stream_scorer.web.group_status import GroupStatus
from stream_scorer.web.server import WebServer
from tests.customers.conftest import NOW_MS, Shop
from tests.web.asking import Answered, ask
from tests.web.fixed_group import SteadyHealth, looked_up, parts, serve, unwell, well

PAGES = {"/", "/sign-in", "/sign-out", "/interface"}


def described() -> Any:
    with serve() as server:
        return ask(server, "/api/openapi.json").json


@contextmanager
def serving(shop: Shop, **more: Any) -> Iterator[WebServer]:
    looked = looked_up(shop.settings, NOW_MS)
    with closing(looked["look_ups"]), serve(**looked, **more) as server:
        yield server


def description_of(shop: Shop) -> Any:
    with serving(shop) as server:
        return ask(server, "/api/openapi.json").json


def complaints(told: Any, path: str, answered: Answered, method: str = "get") -> list[str]:
    """What in an answer is not as described; an undescribed status is one."""
    responses = told["paths"][path][method]["responses"]
    if f"{answered.status}" not in responses:
        return [f"{path}: {answered.status} is not described"]
    content = responses[f"{answered.status}"]["content"]
    kind = answered.headers["content-type"].partition(";")[0]
    if kind not in content:
        return [f"{path}: {kind} is not described"]
    if kind != "application/json":
        return []
    schema = content[kind]["schema"] | {"components": told["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(answered.json)]


def test_every_path_is_described_and_no_other() -> None:
    application_ = application(parts())
    routes = {getattr(r, "path", "") for r in application_._app.routes}
    assert set(described()["paths"]) == routes - PAGES - {"/static"}


def test_every_question_about_a_customer_is_described(shop: Shop) -> None:
    told = description_of(shop)
    of_customers = {path for path in told["paths"] if path.startswith("/api/customers")}
    assert of_customers == {operation.path for operation in CUSTOMER_OPERATIONS}
    with serving(shop) as server:
        for path in of_customers:
            assert ask(server, path.replace("{id}", "anna")).status == 200
        for other in ("scores", "propensities/x", "propensities/"):
            assert ask(server, f"/api/customers/anna/{other}").status == 404


def test_every_schema_that_is_named_is_there_and_is_one() -> None:
    told = described()
    schemas = told["components"]["schemas"]

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            inner = [name for value in part.values() for name in references(value)]
            return inner + ([part["$ref"]] if "$ref" in part else [])
        if isinstance(part, list):
            return [name for value in part for name in references(value)]
        return []

    named = {name.removeprefix("#/components/schemas/") for name in references(told)}
    assert named == set(schemas), "none is missing, and none is there for nothing"
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False
    operations = [o for path in told["paths"].values() for o in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("read", [well, unwell])
def test_the_state_is_answered_as_described(read: Callable[[], GroupStatus]) -> None:
    told = described()
    with serve(read) as server:
        for path in ("/api/status", "/api/members", "/healthz", "/readyz", "/metrics"):
            answered = ask(server, path)
            assert answered.status == 200, path
            assert complaints(told, path, answered) == []


def test_refusals_are_answered_as_described() -> None:
    told = described()
    health = SteadyHealth()
    health.is_alive = health.is_ready = (False, "not now")

    def away() -> GroupStatus:
        raise StoreUnavailable("redis is away", "start it")

    with serve(away, health=health) as server:
        for path in ("/api/status", "/api/members", "/healthz", "/readyz"):
            answered = ask(server, path)
            assert answered.status == 503, path
            assert complaints(told, path, answered) == []
        strange = ask(server, "/api/status", host="evil.example.com")
        assert (strange.status, complaints(told, "/api/status", strange)) == (421, [])
    with serve(access=Access("a-token-of-enough-characters", local=True)) as server:
        refused = ask(server, "/api/status")
        assert (refused.status, complaints(told, "/api/status", refused)) == (401, [])


ASKED = {
    "/api/customers/{id}": ["", "?top_k=2", "?as_of=2022-04-18T00:00:00Z"],
    "/api/customers/{id}/propensities": ["", "?top_k=1", "?category=tea&category=soup"],
    "/api/customers/{id}/explanation": ["", "?category=tea", "?top_categories=1&top_inputs=2"],
}


@pytest.mark.parametrize("path", ASKED)
def test_customers_are_answered_as_described(path: str, shop: Shop) -> None:
    told = description_of(shop)
    with serving(shop) as server:
        for customer in ("anna", "ben", "c0"):
            for query in ASKED[path]:
                answered = ask(server, path.replace("{id}", customer) + query)
                assert answered.status == 200, answered.text
                assert complaints(told, path, answered) == []
        for wrong, status in (
            (path.replace("{id}", "nobody"), 404),
            (path.replace("{id}", "anna") + "?as_of=yesterday", 400),
        ):
            answered = ask(server, wrong)
            assert (answered.status, complaints(told, path, answered)) == (status, [])


def test_an_answer_that_is_not_as_described_would_be_seen() -> None:
    told = described()
    with serve() as server:
        answered = ask(server, "/api/status")
    wrong = answered._replace(text=answered.text.replace('"namespace"', '"name"'))
    assert complaints(told, "/api/status", wrong) != []
    assert complaints(told, "/api/status", answered._replace(status=418)) != []
