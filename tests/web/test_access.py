"""Who gets what: tokens, cookies, host names, and pages of other sites."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from stream_scorer.web.access import COOKIE, COOKIE_SECONDS, Access
from stream_scorer.web.guard import HEADERS, need_of
from stream_scorer.web.sign_in import MOST_FORM_BYTES, within
from tests.web.asking import ask
from tests.web.fixed_group import serve

TOKEN = "a-token-of-enough-characters"
NOW = 1_800_000_000.0


def form(**fields: str) -> dict[str, str]:
    return {
        "method": "POST", "body": urlencode(fields),
        "content_type": "application/x-www-form-urlencoded",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("token", "local", "need", "expected"),
    [
        (None, True, "status", True), (None, True, "customers", True),
        (None, False, "status", True), (None, False, "customers", False),
        (TOKEN, True, "status", False), (TOKEN, True, "customers", False),
        (TOKEN, False, "status", False), (TOKEN, False, "open", True),
    ],
)  # fmt: skip
def test_what_is_given_without_a_token(
    token: str | None, local: bool, need, expected: bool
) -> None:
    assert Access(token, local=local).admits(need, "", "", NOW) == expected


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Basic {TOKEN}",
     "Bearer tökén"],
)  # fmt: skip
def test_another_token_opens_nothing(authorization: str) -> None:
    assert not Access(TOKEN, local=True).admits("status", authorization, "", NOW)
    assert Access(TOKEN, local=True).admits("customers", f"bearer  {TOKEN} ", "", NOW)


def test_without_a_token_nobody_is_signed_in() -> None:
    access = Access(None, local=True)
    assert not access.is_token("")
    assert not access.is_signed_in("Bearer ", access.cookie(NOW), NOW)


def test_a_cookie_ends_by_itself_and_with_another_token() -> None:
    access = Access(TOKEN, local=False)
    cookie = access.cookie(NOW)
    assert TOKEN not in cookie
    assert access.admits("customers", "", cookie, NOW)
    assert access.admits("customers", "", cookie, NOW + COOKIE_SECONDS - 1)
    assert not access.admits("customers", "", cookie, NOW + COOKIE_SECONDS)
    assert not access.admits("customers", "", cookie, NOW - 2), "it was made before that"
    assert not Access(TOKEN + "x", local=False).admits("customers", "", cookie, NOW)
    ends, _, signature = cookie.partition(".")
    for other in ("", ends, f"{int(ends) + 1}.{signature}", f"{ends}.{signature[:-1]}", "9" * 5000,
                  f"{ends}.{'0' * 64}", "²." + signature):  # fmt: skip
        assert not access.admits("customers", "", other, NOW)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True), ("localhost:9108", True), ("127.0.0.1:9108", True), ("[::1]:80", True),
        ("10.1.2.3:1", True), ("LOCALHOST.", True), ("scorer.localhost:1", True),
        ("scorer.example.com:1", True), ("", False), ("evil.example.com", False),
        ("localhost.example.com", False), ("127.0.0.1.example.com:9108", False), ("[evil]", False),
    ],
)  # fmt: skip
def test_on_loopback_names_of_others_are_refused(host: str, known: bool) -> None:
    access = Access(None, local=True, host_names=["scorer.example.com"])
    assert access.knows_host(host) == known
    assert Access(None, local=False).knows_host(host), "where the name is the operator's own"


@pytest.mark.parametrize(
    ("path", "need"),
    [
        ("/", "status"), ("/api/status", "status"), ("/interface", "status"), ("/x", "status"),
        ("/metrics", "open"), ("/healthz", "open"), ("/readyz", "open"), ("/sign-in", "open"),
        ("/static/page.css", "open"), ("/api/openapi.json", "open"), ("/customers", "customers"),
        ("/customers/x", "customers"), ("/api/customers/7/propensities", "customers"),
        ("/metrics/", "status"), ("//metrics", "status"), ("/static", "status"),
    ],
)  # fmt: skip
def test_what_each_path_needs(path: str, need: str) -> None:
    assert need_of(path) == need


def test_programs_and_browsers_are_asked_for_the_token_in_their_own_way() -> None:
    with serve(access=Access(TOKEN, local=True)) as server:
        refused = ask(server, "/api/status")
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json["remedy"].startswith("send it in the header")
        page = ask(server, "/interface?a=b")
        assert (page.status, page.headers["location"]) == (
            303,
            "/sign-in?next=%2Finterface%3Fa%3Db",
        )
        assert ask(server, "/api/status", authorization=f"Bearer {TOKEN}").status == 200
        for path in ("/metrics", "/healthz", "/readyz", "/sign-in", "/api/openapi.json"):
            assert ask(server, path).status == 200, path


def test_a_browser_signs_in_and_out() -> None:
    with serve(access=Access(TOKEN, local=False)) as server:
        wrong = ask(server, "/sign-in", **form(token="wrong", next="/"))
        assert wrong.status == 401
        assert "This is not the token" in wrong.text
        assert "set-cookie" not in wrong.headers
        right = ask(server, "/sign-in", **form(token=TOKEN, next="/interface"))
        assert (right.status, right.headers["location"]) == (303, "/interface")
        cookie = right.headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={COOKIE_SECONDS}"):
            assert part in cookie
        page = ask(server, "/", cookie=cookie.partition(";")[0])
        assert page.status == 200
        assert "Sign out" in page.text
        out = ask(server, "/sign-out", "POST")
        assert f'{COOKIE}=""' in out.headers["set-cookie"]


@pytest.mark.parametrize(
    "path", ["//evil.example.com", "https://evil.example.com", "/\\evil", "/\t/evil", "", "evil"]
)
def test_the_form_leads_to_this_site_alone(path: str) -> None:
    assert within(path) == "/"
    assert within("/customers?id=7") == "/customers?id=7"


def test_pages_of_other_sites_can_send_nothing_and_long_forms_are_refused() -> None:
    with serve(access=Access(TOKEN, local=True)) as server:
        sent = form(token=TOKEN)
        assert ask(server, "/sign-in", origin="https://evil.example.com", **sent).status == 403
        assert ask(server, "/sign-in", sec_fetch_site="cross-site", **sent).status == 403
        ours = f"http://127.0.0.1:{server.port}"
        assert ask(server, "/sign-in", origin=ours, **sent).status == 303
        assert ask(server, "/sign-in", **form(token="x" * MOST_FORM_BYTES)).status == 413


def test_a_strange_host_name_gets_probes_alone() -> None:
    with serve() as server:
        for path in ("/", "/api/status", "/static/page.css", "/customers?id=7"):
            refused = ask(server, path, host="evil.example.com")
            assert refused.status == 421, path
            assert "web.host_names" in refused.text
        for path in ("/metrics", "/healthz", "/readyz"):
            assert ask(server, path, host="evil.example.com").status == 200


def test_every_answer_has_the_headers_that_keep_it_here() -> None:
    with serve() as server:
        for path in ("/", "/metrics", "/nowhere", "/api/status", "/static/page.js", "/sign-in"):
            found = ask(server, path).headers
            assert {n.lower(): found.get(n.lower()) for n in HEADERS} == {
                n.lower(): v for n, v in HEADERS.items()
            }, path  # fmt: skip
            assert "server" not in found


@pytest.mark.parametrize("host", ["x/metrics?", "x/static/?", "x/sign-in#", "[::1", ""])
def test_the_header_host_does_not_choose_what_a_request_is_taken_for(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions of Starlette cut the path of `Request.url` from Host and path together."""

    def joined(self: Request) -> None:
        raise AssertionError("the path is scope['path']")

    monkeypatch.setattr(Request, "url", property(joined))
    with serve(access=Access(TOKEN, local=False)) as server:
        for path in ("/api/status", "/api/customers/anna", "/?a=%FF"):
            assert ask(server, path, host=host).status in (401, 303)
        assert ask(server, "/metrics", host=host).status == 200
