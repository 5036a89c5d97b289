"""The status page and what programs get in its place."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stream_scorer.errors import StoreUnavailable
from stream_scorer.web import pages, words
from stream_scorer.web.group_status import GroupStatus, group_status
from stream_scorer.web.status_views import refresh_seconds
from stream_scorer.web.workers import Workers
from tests.web.asking import ask
from tests.web.fixed_group import (
    ANNOUNCEMENT,
    GROUP,
    NOW_MS,
    SteadyHealth,
    member,
    said_by,
    serve,
    unwell,
    well,
)

TEMPLATES = Path(pages.__file__).parent / "templates"


class Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.said).split())


def away() -> GroupStatus:
    raise StoreUnavailable("redis://127.0.0.1:6379/0 does not answer", "start it")


def test_the_page_says_that_all_is_well_and_shows_every_member() -> None:
    with serve(well) as server:
        page = ask(server, "/")
    assert page.status == 200
    words = Text(page.text).words
    for said in ("All is well", "3 members, 3 ready", "scorer-0", "node-2, process 4119", "0–3",
                 "84.36 M", "unknown event type", "91.4 % of the best are the same", "42.0 %",
                 "2026-11-25 10:00:15 UTC", "6 assigned, 3 revoked"):  # fmt: skip
        assert said in words, said


def test_the_page_says_each_problem_and_passes_over_no_member() -> None:
    with serve(unwell) as server:
        words = Text(ask(server, "/").text).words
    for said in ("3 problems", "member scorer-1 (host node-1, process 4118) is not ready",
                 "has said nothing for 74 s", "there is no such directory", "gone",
                 "says nothing of its work"):  # fmt: skip
        assert said in words, said
    assert "All is well" not in words


def test_the_page_does_not_say_that_all_is_well_over_a_warning() -> None:
    late = [member(0, status=replace(said_by(0), lag_seconds=1234.0))]
    with serve(lambda: group_status(GROUP, late, ANNOUNCEMENT, NOW_MS)) as server:
        page, status = ask(server, "/"), ask(server, "/api/status")
    words = Text(page.text).words
    assert "All is well" not in words
    assert "Every member works; 1 thing to look at" in words
    assert "events have waited for up to 1,234 s" in words
    assert status.json["ok"]
    assert len(status.json["warnings"]) == 1


def test_a_group_that_never_ran_is_told_how_to_begin() -> None:
    with serve(lambda: group_status(GROUP, [], None, NOW_MS)) as server:
        page, status = ask(server, "/"), ask(server, "/api/status")
    assert "Start one: stream-scorer run" in page.text
    assert not status.json["ok"]
    assert status.json["problems"][0].startswith("no member runs")


def test_redis_that_is_away_is_said_by_page_and_interface() -> None:
    with serve(away) as server:
        page, status = ask(server, "/"), ask(server, "/api/members")
        assert ask(server, "/metrics").status == 200
    assert page.status == 503
    assert "redis://127.0.0.1:6379/0 does not answer" in page.text
    assert (status.status, status.json["remedy"]) == (503, "start it")
    assert status.headers["retry-after"] == "2"


def test_what_members_say_is_text_and_never_markup() -> None:
    evil = '<script>alert(1)</script>"><b>'
    strange = [member(0, client_id=evil, host=evil, model_version=evil, reason=evil)]
    with serve(lambda: group_status(GROUP, strange, None, NOW_MS)) as server:
        page = ask(server, "/").text
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


def test_more_requests_than_can_wait_are_told_to_come_again() -> None:
    began, may_end = threading.Event(), threading.Event()

    def slow() -> GroupStatus:
        began.set()
        assert may_end.wait(60)
        return well()

    answers: list[int] = []
    workers = Workers("slow", 1, 1)
    with serve(slow, status_workers=workers) as server:
        asking = [
            threading.Thread(target=lambda: answers.append(ask(server, "/api/status").status))
            for _ in range(2)
        ]
        for thread in asking:
            thread.start()
        assert began.wait(60)
        while workers.under_way < 2:
            time.sleep(0.01)
        refused = ask(server, "/api/status")
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        may_end.set()
        for thread in asking:
            thread.join()
        assert answers == [200, 200]
        assert ask(server, "/api/status").status == 200


def test_what_goes_wrong_under_api_is_json() -> None:
    def broken() -> GroupStatus:
        raise RuntimeError("nobody expected this")

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with serve(broken) as server:
        failed = ask(server, "/api/status")
        assert (failed.status, set(failed.json)) == (500, {"error", "remedy"})
        assert "nobody expected this" not in failed.text
        refused = ask(server, "/api/status", "DELETE", origin=f"http://127.0.0.1:{server.port}")
        assert (refused.status, set(refused.json)) == (403, {"error", "remedy"})
        options = ask(server, "/api/status", "OPTIONS")
        assert (options.status, set(options.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
        assert options.json["error"]
        assert ask(server, "/api/nothing").json["error"].startswith("there is nothing at")
        assert ask(server, "/", "HEAD").text == ""


def test_probes_say_why() -> None:
    health = SteadyHealth()
    with serve(health=health) as server:
        assert ask(server, "/healthz").json == {
            "ok": True,
            "reason": "the last step ended 0.1 s ago",
        }
        assert ask(server, "/readyz").status == 200
        health.is_alive, health.is_ready = (False, "stuck"), (False, "joined: no partitions yet")
        assert ask(server, "/healthz").status == 503
        found = ask(server, "/readyz")
        assert (found.status, found.json["reason"]) == (503, "joined: no partitions yet")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("30", 30), ("0", 0), ("1", 5), ("999999", 3600), ("-3", 0), ("x", 0), ("²", 0)],
)
def test_a_browser_without_scripts_refreshes_when_its_reader_says_so(
    text: str, seconds: int
) -> None:
    assert refresh_seconds(text) == seconds


def test_the_page_refreshes_by_itself_only_where_asked() -> None:
    with serve() as server:
        assert "http-equiv" not in ask(server, "/").text
        assert '<meta http-equiv="refresh" content="30">' in ask(server, "/?refresh=30").text


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/metrics/", "/static/../page.css"])
def test_an_unknown_path_is_said_to_be_unknown(path: str) -> None:
    with serve() as server:
        found = ask(server, path)
    assert found.status == 404
    assert "there is nothing at" in found.text


def test_pages_name_nothing_elsewhere_and_carry_no_style_or_script_of_their_own() -> None:
    """Which the policy in their headers would stop."""
    for template in TEMPLATES.glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), template
        assert not re.search(r"\sstyle=|<style|\son\w+=", text), template
        assert "|safe" not in text, template
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), template


@pytest.mark.parametrize(
    ("number", "said"), [(-0.001, "0.00"), (0.0, "0.00"), (0.25, "+0.25"), (-1.5, "\u22121.50")]
)
def test_an_amount_has_a_sign_where_it_is_not_zero(number: float, said: str) -> None:
    assert words.signed(number) == said
