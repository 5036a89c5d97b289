"""Stores the screenshots that the tests compare with, and the pictures of the documents.

Usage: python tests/browser/pictures.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # for `tests.` below, where it is run as a program

from playwright.sync_api import sync_playwright  # noqa: E402

from tests.browser.conftest import SIZES, chromium_here  # noqa: E402
from tests.browser.likeness import FOLDER, cells_of  # noqa: E402
from tests.browser.test_browser import PAGES, PICTURES  # noqa: E402
from tests.customers.conftest import NOW_MS, made_shop  # noqa: E402
from tests.web.fixed_group import looked_up, serve, unwell, well  # noqa: E402

DOCUMENTS = {
    "status-page.png": ("status", "light"), "status-page-dark.png": ("status", "dark"),
    "customer-page.png": ("customer", "light"),
}  # fmt: skip


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        made_shop(Path(folder)) as shop,
        sync_playwright() as playwright,
    ):
        looked = looked_up(shop.settings, NOW_MS)
        browser = playwright.chromium.launch(
            executable_path=chromium_here(), args=["--no-sandbox", "--disable-lcd-text"]
        )
        with serve(well, **looked) as one, serve(unwell, **looked) as other:
            ports = {"well": one.port, "unwell": other.port}

            def taken(name: str, size: str, scheme: str, *, whole: bool) -> bytes:
                server, path = PAGES[name]
                width, height = SIZES[size]
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme,
                    reduced_motion="reduce", locale="en-GB",
                )  # fmt: skip
                page = context.new_page()
                page.goto(f"http://127.0.0.1:{ports[server]}{path}")
                picture = page.screenshot(full_page=whole)
                context.close()
                return bytes(picture)

            for name, size, scheme in PICTURES:
                cells_of(taken(name, size, scheme, whole=False)).save(
                    FOLDER / f"{name}-{size}-{scheme}.png"
                )
            for file, (name, scheme) in DOCUMENTS.items():
                picture = taken(name, "desktop", scheme, whole=True)
                (ROOT / "docs" / file).write_bytes(picture)
        looked["look_ups"].close()
        browser.close()


if __name__ == "__main__":
    main()
