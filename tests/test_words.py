"""Words and phrases that no reader of the field would understand, which must not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path
    for pattern in (
        "stream_scorer/**/*.py",
        "stream_scorer/**/*.lua",
        "tests/**/*.py",
        "docs/**/*.md",
        "deploy/**/*.md",
        "deploy/**/*.java",
        "examples/*.py",
        "*.md",
    )
    for path in ROOT.glob(pattern)
    if path.name not in ("CHANGELOG.md", Path(__file__).name)
)
# Left: what was written; right: what to write.
WRONG = {
    r"[Mm]ust not\s+live\s+here": "say what a reader can't see: theory of operation, formats, why",
    r"\bLives here\b": "say what a reader can't see: theory of operation, formats, why",
    r"\bmend(s|ed|ing)?\b": "fix or remedy",
    r"\bsittings?\b": "run",
    r"\bparted\b": "partitioned, or divided",
    r"\b[Ii]n\s+our\s+words\b|in_our_words": "translate",
    r"\bTeller\b": "report, log or notify",
    r"\bklass\b": "a name that says which class",
}


def found_in(text: str) -> list[str]:
    """Every wrong word in `text`, with its line and what to write instead."""
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}: {right}"
        for wrong, right in WRONG.items()
        for match in re.finditer(wrong, text)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_wrong_word_is_left(path: Path) -> None:
    assert not found_in(path.read_text(encoding="utf-8"))


def test_the_search_finds_what_it_is_for() -> None:
    sample = "Lives here: one.\nMust not\nlive here: two, how to mend it, in our words, klass."
    assert len(found_in(sample)) == 5
    assert not found_in("A recommendation is a departed opposite, besitting nothing: amended.")
