"""Who may have a customer forgotten by HTTP, and what is answered."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stream_scorer.customers.erasure_receipt import ErasureReceipt
from stream_scorer.errors import BusUnavailable, ConfigError, InputError
from stream_scorer.settings.tree import Settings
from stream_scorer.web.access import Access
from stream_scorer.web.forgetting import Forget, Forgetting
from stream_scorer.web.server import WebServer
from stream_scorer.web.workers import Workers
from tests.web.asking import ask
from tests.web.fixed_group import serve
from tests.web.test_openapi import complaints

TOKEN = "a-token-of-enough-characters"
BEARER = f"Bearer {TOKEN}"
PATH = "/api/customers/{id}/forget"


def receipt(problem: str = "") -> ErasureReceipt:
    return ErasureReceipt(
        not problem, problem, "2026-11-25T00:00:00Z", ("shop",), "redis://127.0.0.1/0", "out",
        None, (), 0, None, (), "0.1.0", 0.1,
    )  # fmt: skip


def serving(forget: Forget, token: str | None = TOKEN, most_waiting: int = 4) -> WebServer:
    forgetting = Forgetting(forget, Workers("forget", 1, most_waiting))
    return serve(access=Access(token, local=True), forgetting=forgetting)


def test_the_receipt_is_answered_as_described() -> None:
    forgotten: list[str] = []

    def forget(customer_id: str) -> ErasureReceipt:
        forgotten.append(customer_id)
        if customer_id == "away":
            raise BusUnavailable("kafka is away")
        if customer_id == "none":
            raise InputError("ID", customer_id, "is no id")
        return receipt("a member has not committed" if customer_id == "open" else "")

    with serving(forget) as server:
        told = ask(server, "/api/openapi.json").json
        for customer, status in (("an%2Fna", 200), ("open", 200), ("away", 503), ("none", 400)):
            path = PATH.replace("{id}", customer)
            answered = ask(server, path, "POST", authorization=BEARER)
            assert (answered.status, complaints(told, PATH, answered, "post")) == (status, [])
            if status == 200:
                assert answered.json["done"] == (customer != "open")
        assert ask(server, "/api/customers/anna/erase", "POST", authorization=BEARER).status == 404
    assert forgotten == ["an/na", "open", "away", "none"]


def test_nobody_is_forgotten_without_the_token() -> None:
    forgotten: list[str] = []

    def forget(customer_id: str) -> ErasureReceipt:
        forgotten.append(customer_id)
        return receipt()

    path = PATH.replace("{id}", "anna")
    with serving(forget, token=None) as server:
        refused = ask(server, path, "POST")
        assert (refused.status, "web.token_file" in refused.json["remedy"]) == (403, True)
    with serving(forget) as server:
        assert ask(server, path, "POST").status == 401
        assert ask(server, path, "POST", authorization="Bearer another-token").status == 401
        elsewhere = ask(server, path, "POST", authorization=BEARER, origin="http://evil.example")
        assert elsewhere.status == 403
        assert ask(server, path, authorization=BEARER).status == 405
    assert forgotten == []


def test_more_requests_than_may_wait_are_told_to_come_again() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def forget(_customer_id: str) -> ErasureReceipt:
        begun.set()
        assert go_on.wait(60)
        return receipt()

    path = PATH.replace("{id}", "anna")
    with serving(forget, most_waiting=0) as server:
        first = threading.Thread(
            target=ask, args=(server, path, "POST"), kwargs={"authorization": BEARER}
        )
        first.start()
        try:
            assert begun.wait(60)
            busy = ask(server, path, "POST", authorization=BEARER)
        finally:
            go_on.set()
            first.join(20)
        assert busy.status == 503
        assert int(busy.headers["retry-after"]) > 0


def test_a_server_that_offers_it_not_says_so() -> None:
    with serve(access=Access(TOKEN, local=True)) as server:
        assert PATH not in ask(server, "/api/openapi.json").json["paths"]
        asked = ask(server, PATH.replace("{id}", "anna"), "POST", authorization=BEARER)
        assert asked.status in (404, 405)


def test_the_setting_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web\.forget.*web\.token_file"):
        Settings.load(None, overrides={"web": {"forget": True}}, environment={})
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    more = {"web": {"forget": True, "token_file": secret}}
    assert Settings.load(None, overrides=more, environment={}).web.forget
