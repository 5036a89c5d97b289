"""The pages in a real Chromium: for everyone, at any size, and with nothing from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from stream_scorer.web.server import WebServer
from tests.browser.conftest import SIZES, TOKEN, Visit
from tests.browser.likeness import FOLDER, MOST_CHANGED, changed_share

pytestmark = pytest.mark.browser

CUSTOMER = "/customers?id=anna&category=soup"
PAGES = {
    "status": ("well", "/"), "problems": ("unwell", "/"), "customer": ("well", CUSTOMER),
    "search": ("well", "/customers"), "sign-in": ("locked", "/sign-in?next=/"),
    "api": ("well", "/interface"), "refused": ("well", "/nowhere"),
}  # fmt: skip
PICTURES = [
    (name, size, scheme)
    for name in ("status", "problems", "customer")
    for size, scheme in (("desktop", "light"), ("desktop", "dark"), ("phone", "light"))
]


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [
        *((name, size, scheme) for name in ("status", "customer")
          for size in SIZES for scheme in ("light", "dark")),
        *((name, *screen) for name in ("problems", "sign-in")
          for screen in (("desktop", "light"), ("phone", "dark"))),
        *((name, "phone", "light") for name in ("search", "api", "refused")),
    ],
)  # fmt: skip
def test_axe_finds_no_fault(visit: Visit, name: str, size: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - of an extra

    page = visit(*PAGES[name], size=size, scheme=scheme)
    for details in page.locator("details").all():
        details.evaluate("e => e.open = true")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= SIZES[size][0], "the page as a whole does not scroll sideways"
    assert page.messages == [] or name == "refused", "the policy stops nothing of ours"


def test_axe_would_see_a_fault(visit: Visit) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - of an extra

    page = visit()
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<img src=x>')")
    assert Axe().run(page).violations_count > 0


@pytest.mark.parametrize("name", PAGES)
def test_no_request_goes_elsewhere(visit: Visit, servers: dict[str, WebServer], name: str) -> None:
    asked: list[str] = []
    server, path = PAGES[name]
    page = visit(
        server, path, before=lambda page: page.on("request", lambda r: asked.append(r.url))
    )
    page.wait_for_load_state("networkidle")
    ours = f"http://127.0.0.1:{servers[server].port}/"
    assert any(url.endswith("page.css") for url in asked)
    assert [url for url in asked if not url.startswith(ours)] == []


def test_the_policy_stops_what_would_go_elsewhere(visit: Visit) -> None:
    page = visit()
    refused = page.evaluate("fetch('http://127.0.0.2:9/').then(() => false, () => true)")
    assert refused
    assert any("Content Security Policy" in message for message in page.messages)


def test_without_scripts_all_is_there_and_refreshing_is_the_readers_choice(visit: Visit) -> None:
    page = visit("well", "/", scripts=False)
    assert page.locator("h2", has_text="All is well").is_visible()
    assert page.get_by_role("button", name="Pause updates").count() == 0
    assert page.locator("meta[http-equiv]").count() == 0
    page.get_by_role("link", name="every 30 s").click()
    assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "30"
    page.get_by_role("link", name="Stop refreshing").click()
    assert page.locator("meta[http-equiv]").count() == 0
    page.get_by_role("link", name="Customers", exact=True).click()
    page.get_by_label("Customer id").fill("anna")
    page.get_by_role("button", name="Look up").click()
    assert page.get_by_role("heading", name="Why").is_visible()


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def test_the_keyboard_reaches_everything_in_the_order_of_reading(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    assert page.locator(".skip").bounding_box()["x"] >= 0, "it shows itself with the focus"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert focused(page) == "Pause updates"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where the focus is can be seen"
    page.keyboard.press("Space")
    assert focused(page) == "Resume updates"
    assert page.get_by_role("status").inner_text() == "Updates are paused."
    page.keyboard.press("Tab")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == "Table of members", "a table that may scroll can be scrolled"
    page = visit()
    seen = []
    for _ in range(5):
        page.keyboard.press("Tab")
        seen.append(focused(page))
    assert seen == ["Skip to content", "stream-scorer", "Status", "Customers", "API"]


def test_the_page_keeps_itself_fresh_until_it_is_paused(visit: Visit) -> None:
    asked: list[str] = []

    def watch(page: Any) -> None:
        page.clock.install()
        page.on("request", lambda r: asked.append(r.resource_type))

    page = visit(before=watch)
    page.evaluate("document.querySelector('#verdict').textContent = 'changed'")
    page.clock.run_for(5_100)
    page.locator("#verdict", has_text="All is well").wait_for()
    assert asked.count("fetch") == 1
    page.get_by_role("button", name="Pause updates").click()
    page.evaluate("document.querySelector('#verdict').textContent = 'changed'")
    page.clock.run_for(20_000)
    assert page.locator("#verdict").inner_text() == "changed"
    assert asked.count("fetch") == 1
    page.get_by_role("button", name="Resume updates").click()
    page.locator("#verdict", has_text="All is well").wait_for()


def test_a_part_that_is_in_use_stays_and_a_server_that_is_gone_is_said(visit: Visit) -> None:
    page = visit(before=lambda page: page.clock.install())
    page.get_by_role("region", name="Table of members").focus()
    page.evaluate("document.querySelector('#members').textContent = 'mine'")
    page.clock.run_for(5_100)
    page.wait_for_load_state("networkidle")
    assert page.locator("#members").inner_text() == "mine"
    page.route("**/*", lambda route: route.abort())
    page.clock.run_for(5_100)
    page.get_by_role("status", name="").filter(has_text="does not answer").wait_for()


def test_a_browser_signs_in_looks_around_and_signs_out(visit: Visit) -> None:
    page = visit("locked", "/")
    assert page.url.endswith("/sign-in?next=%2F")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text() == "This is not the token."
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    assert page.locator("h2", has_text="All is well").is_visible()
    assert page.evaluate("document.cookie") == "", "scripts can't read it"
    page.get_by_role("button", name="Sign out").click()
    page.goto(page.url.replace("/sign-in", "/"))
    assert "/sign-in" in page.url


@pytest.mark.parametrize(("name", "size", "scheme"), PICTURES)
def test_pages_look_as_they_did(visit: Visit, name: str, size: str, scheme: str) -> None:
    """`python tests/browser/pictures.py` stores them anew."""
    page = visit(*PAGES[name], size=size, scheme=scheme)
    changed = changed_share(page.screenshot(), FOLDER / f"{name}-{size}-{scheme}.png")
    assert changed <= MOST_CHANGED, f"{100 * changed:.1f} % of the cells differ"


FAULTS = {
    "without styles": "document.querySelector('link[rel=stylesheet]').remove()",
    "without the verdict": "document.querySelector('.verdict').remove()",
    "without figures": "document.querySelector('.tiles').remove()",
    "without members": "document.querySelector('[data-part=members]').remove()",
    "with one column": "document.querySelector('.tiles').style.display = 'block'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_that_looks_otherwise_would_be_seen(visit: Visit, fault: str) -> None:
    page = visit()
    page.evaluate(FAULTS[fault])
    assert changed_share(page.screenshot(), FOLDER / "status-desktop-light.png") > MOST_CHANGED


@pytest.mark.parametrize("font", ["serif", "monospace"])
def test_another_font_is_not_taken_for_another_page(visit: Visit, font: str) -> None:
    page = visit()
    page.evaluate(f"document.body.style.fontFamily = '{font}'")
    assert changed_share(page.screenshot(), FOLDER / "status-desktop-light.png") <= MOST_CHANGED
