"""What the tutorials and how-tos say to type works; the blocks that need no server run here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import shell_blocks


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shell_blocks.make_shop(tmp_path_factory.mktemp("tutorial"))


def test_the_first_tutorial_runs_to_its_end(shop: Path) -> None:
    assert (shop / "quality.html").exists()
    assert (shop / "scores.parquet").exists()


@pytest.mark.timeout(900)  # the tutorial of the public data trains two models
@pytest.mark.parametrize("page", shell_blocks.pages_of("plain"), ids=lambda page: page.stem)
def test_the_page_runs_as_it_is_written(page: Path, shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    shell_blocks.run(page, "plain", folder)


@pytest.mark.parametrize("page", shell_blocks.PAGES, ids=lambda page: page.stem)
def test_every_block_says_where_it_runs(page: Path) -> None:
    languages = re.findall(r"^```(\w+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = shell_blocks.blocks(page)
    assert len(found) == languages.count("sh")
    assert not {"bash", "shell", "console"} & set(languages), "call it sh, so that it is run"
    for block in found:
        known = block.tier in shell_blocks.TIERS or (block.tier == "never" and block.reason)
        assert known, f"{page.name}: say `<!-- runs: TIER -->` before\n{block.text}"
