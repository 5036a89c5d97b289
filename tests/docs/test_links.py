"""Relative links of all Markdown files lead to files and headings that exist.

`make docs` checks the pages under docs/ alone, and needs the site's own packages.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/*.md")
FILES = sorted(file for pattern in PATTERNS for file in ROOT.glob(pattern))


def dead_links(file: Path) -> list[str]:
    """The relative links of a file that lead nowhere."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(file.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = file.parent / name if name else file
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)


def anchors(file: Path) -> set[str]:
    """What links to a heading of the file end in: its words in lower case, joined by hyphens."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)", text, re.M)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {heading.replace(" ", "-") for heading in words}


def test_the_files_of_the_top_level_are_among_those_that_are_checked() -> None:
    named = {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
    assert named <= {file.name for file in FILES if file.parent == ROOT}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(file: Path) -> None:
    assert dead_links(file) == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The `score` verb, in short\n\n```sh\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#the-score-verb-in-short) [c](#here) [d](absent.md)\n"
        "[e](other.md#no-heading) [f](#there) [g](https://example.org/absent) `[h](absent)`\n"
    )
    assert dead_links(page) == ["absent.md", "other.md#no-heading", "#there"]


def test_every_page_is_in_the_sites_menu() -> None:
    """`make docs` refuses others; here it is known sooner."""
    menu = set(re.findall(r"[\w/.-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - menu == set()
