"""A real headless Chromium, and pages on fixed data.

What these tests need (Playwright, Chromium) is an error in CI where it is absent (CI=true) and a
skip elsewhere. `make test-browser` runs them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from importlib.util import find_spec
from typing import Any

import pytest

from stream_scorer.web.access import Access
from stream_scorer.web.server import WebServer
from tests.customers.conftest import NOW_MS, Shop, shop
from tests.web.fixed_group import looked_up, serve, unwell, well

__all__ = ["shop"]

TOKEN = "a-token-of-enough-characters"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def chromium_here() -> str | None:
    """Where Chromium is, as Debian or others call it."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Of the system, driven by Playwright."""
    for what, found in (("playwright", find_spec("playwright")), ("chromium", chromium_here())):
        if found is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{what} is not installed")
            pytest.skip(f"{what} is not installed")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of an extra

    with sync_playwright() as playwright:
        # Without a sandbox of its own, which it may not have in a container, nor as root.
        opened = playwright.chromium.launch(
            executable_path=chromium_here(), args=["--no-sandbox", "--disable-lcd-text"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def servers(shop: Shop) -> Iterator[dict[str, WebServer]]:
    """well, unwell: the group so; both with customers. locked: behind a token."""
    with ExitStack() as stack:
        looked = looked_up(shop.settings, NOW_MS)
        stack.enter_context(closing(looked["look_ups"]))
        locked = Access(TOKEN, local=True)
        yield {
            "well": stack.enter_context(serve(well, **looked)),
            "unwell": stack.enter_context(serve(unwell, **looked)),
            "locked": stack.enter_context(serve(well, access=locked)),
        }


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, servers: dict[str, WebServer]) -> Iterator[Visit]:
    """Opens `path` of a server, as someone with such a screen, scheme of colours, and scripts."""
    with ExitStack() as stack:

        def opened(
            server: str = "well", path: str = "/", *, size: str = "desktop", scheme: str = "light",
            scripts: bool = True, before: Callable[[Any], None] = lambda _page: None,
        ) -> Any:  # fmt: skip
            width, height = SIZES[size]
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme,
                java_script_enabled=scripts, reduced_motion="reduce", locale="en-GB",
            )  # fmt: skip
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.messages = []
            page.on("console", lambda message: page.messages.append(message.text))
            page.on("pageerror", lambda error: page.messages.append(str(error)))
            before(page)
            page.goto(f"http://127.0.0.1:{servers[server].port}{path}")
            return page

        yield opened
