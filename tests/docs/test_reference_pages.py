"""The reference pages are what the code says: `python docs/generate.py` writes them."""

from __future__ import annotations

from typing import Any

import pytest

from stream_scorer.settings.tree import Settings
from tests.docs.scripts import DOCS, script

GENERATOR = script("generate")
PAGES: dict[str, Any] = GENERATOR.PAGES


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run `python docs/generate.py`"


def test_the_annotated_file_says_what_every_setting_means() -> None:
    said = GENERATOR.meanings((DOCS.parent / "deploy" / "stream_scorer.toml").read_text("utf-8"))
    keys = {key for key, _, _ in GENERATOR.settings(Settings)}
    keys |= {key for key, _, _ in GENERATOR.feature_settings()}
    assert {key for key in keys if len(said.get(key, "").split()) < 3} == set()
    # The other comments are of whole sections; a meaning of any other key would be of no setting.
    assert set(said) - keys <= set(Settings.model_fields) | {"training.network"}


def test_meanings_are_read_from_comments_behind_and_above() -> None:
    said = GENERATOR.meanings(
        '# The file.\n\n[store]   # where records are\nname = "a#b"  # of the store\n'
        '# secret = "x"  # better elsewhere\nplain = 1\n\n'
        "# Features are columns.\n# Many of them.\n#   kind   one of two:\n#          a, b\n"
        '[[features]]\nname = "n"\n'
    )
    assert said == {
        "store": "where records are", "store.name": "of the store",
        "store.secret": "better elsewhere", "features": "Features are columns. Many of them.",
        "features.kind": "one of two: a, b",
    }  # fmt: skip
