"""Customers by HTTP: the same figures as the reader's, and every wrong question said to be one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from stream_scorer.customers.reader import CustomerReader
from stream_scorer.errors import StoreUnavailable
from stream_scorer.web import look_ups as module
from stream_scorer.web import workers as workers_module
from stream_scorer.web.access import Access
from stream_scorer.web.look_ups import LookUps
from stream_scorer.web.server import WebServer
from stream_scorer.web.workers import Busy, Workers
from tests.customers.conftest import NOW_MS, Shop
from tests.web.asking import ask
from tests.web.fixed_group import looked_up, serve
from tests.web.test_status_page import Text


@pytest.fixture(scope="module")
def server(shop: Shop) -> Iterator[WebServer]:
    looked = looked_up(shop.settings, NOW_MS)
    with closing(looked["look_ups"]), serve(**looked) as server:
        yield server


@pytest.fixture(scope="module")
def reader(shop: Shop) -> Iterator[CustomerReader]:
    with CustomerReader.open(shop.settings, lambda: NOW_MS) as reader:
        yield reader


def test_propensities_are_those_of_the_reader(server: WebServer, reader: CustomerReader) -> None:
    (expected,) = reader.propensities(["anna"])
    assert expected is not None
    found = ask(server, "/api/customers/anna/propensities").json
    assert found["propensities"] == [entry.as_json() for entry in expected.entries]
    assert (found["model_version"], found["asked_at"]) == (
        expected.model_version, "2022-04-18T00:00:00Z",
    )  # fmt: skip
    best = ask(server, "/api/customers/anna/propensities?top_k=1").json["propensities"]
    assert best == found["propensities"][:1]


def test_propensities_of_chosen_categories(server: WebServer, reader: CustomerReader) -> None:
    (everything,) = reader.propensities(["anna"], top_k=4)
    assert everything is not None
    found = ask(server, "/api/customers/anna/propensities?category=tea&category=milk").json
    wanted = [e.as_json() for e in everything.entries if e.category_id in ("tea", "milk")]
    assert found["propensities"] == wanted
    refused = ask(server, "/api/customers/anna/propensities?category=teaa")
    assert refused.status == 400
    assert "tea" in refused.json["remedy"]


def test_what_is_shown_and_explained_is_the_readers(
    server: WebServer, reader: CustomerReader
) -> None:
    shown, ours = ask(server, "/api/customers/anna?top_k=3").json, reader.show("anna", top_k=3)
    moving = {"expires_in_seconds": None}  # by Redis's clock
    assert shown | moving == ours.as_json() | moving
    found = ask(server, "/api/customers/anna/explanation?category=soup&top_inputs=4").json
    assert found == reader.explain("anna", ["soup"], top_inputs=4).as_json()


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/customers/nobody/propensities", 404, "nobody"),
        ("/api/customers/nobody", 404, "is not known"),
        ("/api/customers/an%2Fna", 404, "an/na"),
        ("/api/customers/anna/propensities?top_k=0", 400, "1 to 1000"),
        ("/api/customers/anna/propensities?top_k=ten", 400, "ten"),
        ("/api/customers/anna/propensities?as_of=2022-04-18", 400, "ISO 8601"),
        ("/api/customers/anna/propensities?as_of=2022-01-01T00:00:00Z", 400, "not stored"),
        ("/api/customers/anna/propensities?as_of=2099-01-01T00:00:00Z", 400, "future"),
        ("/api/customers/anna/explanation?category=beer", 400, "beer"),
        ("/api/customers/anna/explanation?top_categories=101", 400, "1 to 100"),
        ("/api/customers/%FF", 400, "UTF-8"),
        ("/api/customers/", 404, "nothing at"),
    ],
)
def test_a_wrong_question_is_told_why(server: WebServer, path: str, status: int, said: str) -> None:
    answered = ask(server, path)
    assert answered.status == status, answered.text
    assert said in answered.json["error"] + answered.json["remedy"]


def test_the_page_shows_propensities_and_what_pushes_them(
    server: WebServer, reader: CustomerReader
) -> None:
    page = ask(server, "/customers?id=anna&category=soup")
    assert page.status == 200
    words = Text(page.text).words
    explained = reader.explain("anna", ["soup"]).explained[0]
    for said in ("Customer anna", "Most probable now", "soup", "Of a customer of whom nothing",
                 explained.inputs[0].words, "Together: log-odds", "24 h"):  # fmt: skip
        assert said.lower() in words.lower(), said
    assert "does not add up" not in words
    amounts = [one.amount for one in explained.inputs]
    assert max(amounts) > 0 > min(amounts)
    assert page.text.count('<svg class="up"') + page.text.count('<svg class="down"') == (
        len(amounts) + 1 + bool(explained.history) + bool(explained.other_inputs)
    )


def test_the_page_says_who_is_not_known(server: WebServer) -> None:
    assert ask(server, "/customers").status == 200
    page = ask(server, "/customers?id=%3Cb%3Enobody")
    assert page.status == 404
    assert "is not known" in page.text
    assert "<b>nobody" not in page.text


def test_customers_are_not_given_where_others_reach_the_port(shop: Shop) -> None:
    looked = looked_up(shop.settings, NOW_MS)
    token = "a-token-of-enough-characters"
    with closing(looked["look_ups"]):
        with serve(**looked, access=Access(None, local=False)) as server:
            assert ask(server, "/api/status").status == 200
            refused = ask(server, "/api/customers/anna")
            assert (refused.status, ask(server, "/customers?id=anna").status) == (403, 403)
            assert "web.token_file" in refused.json["remedy"]
        with serve(**looked, access=Access(token, local=False)) as server:
            assert ask(server, "/api/customers/anna").status == 401
            assert ask(server, "/customers?id=anna").status == 303
            allowed = ask(server, "/api/customers/anna", authorization=f"Bearer {token}")
            assert allowed.status == 200


def test_the_reader_is_opened_once_by_whoever_comes_first(shop: Shop) -> None:
    opened: list[CustomerReader] = []

    def opening() -> CustomerReader:
        opened.append(CustomerReader.open(shop.settings, lambda: NOW_MS))
        return opened[-1]

    with (
        closing(LookUps(opening)) as look_ups,
        serve(look_ups=look_ups, look_up_workers=Workers("look-ups", 2, 8)) as server,
    ):
        assert opened == []
        asking = [
            threading.Thread(target=ask, args=(server, "/api/customers/anna")) for _ in range(4)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert len(opened) == 1


def test_a_reader_that_can_t_be_opened_is_tried_again(shop: Shop) -> None:
    failures = [StoreUnavailable("Redis does not answer", "start it")]

    def opening() -> CustomerReader:
        if failures:
            raise failures.pop()
        return CustomerReader.open(shop.settings, lambda: NOW_MS)

    with (
        closing(LookUps(opening)) as look_ups,
        serve(look_ups=look_ups, look_up_workers=Workers("look-ups", 2, 8)) as server,
    ):
        assert ask(server, "/api/customers/anna").status == 503
        assert ask(server, "/api/customers/anna").status == 200


def test_whoever_would_wait_long_for_the_model_is_told_to_come_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_SECONDS", 0.05)
    may_open = threading.Event()
    opened: list[CustomerReader] = []

    def opening() -> CustomerReader:
        assert may_open.wait(60)
        opened.append(CustomerReader.open(shop.settings, lambda: NOW_MS))
        return opened[-1]

    with (
        closing(LookUps(opening)) as look_ups,
        serve(look_ups=look_ups, look_up_workers=Workers("look-ups", 2, 8)) as server,
    ):
        for _ in range(2):
            refused = ask(server, "/api/customers/anna")
            assert (refused.status, refused.headers["retry-after"]) == (503, "2")
            assert "being opened" in refused.json["error"]
        may_open.set()
        look_ups.begin().result(30)
        assert ask(server, "/api/customers/anna").status == 200
        assert len(opened) == 1


def test_a_reader_that_is_opened_after_all_was_closed_is_closed() -> None:
    class Reader:
        closed = False

        def close(self) -> None:
            self.closed = True

    reader, may_open = Reader(), threading.Event()

    def opening() -> CustomerReader:
        assert may_open.wait(60)
        return cast(CustomerReader, reader)

    look_ups = LookUps(opening)
    begun = look_ups.begin()
    look_ups.close()
    may_open.set()
    begun.result(30)
    assert reader.closed


def test_a_call_whose_turn_comes_late_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "WAIT_SECONDS", 0.0)
    began: list[int] = []

    async def asked() -> None:
        await Workers("late", 1, 1).run(began.append, 1)

    with pytest.raises(Busy, match="kept this one waiting"):
        asyncio.run(asked())
    assert began == []
