"""Files that module heads, comments and documents name are there: no old name outlives a move."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Where sources of ours lie. A name in prose may leave out the folders above it.
FOLDERS = ("stream_scorer", "tests", "docs", "examples", "schemas", "deploy")
BUILT = {"__pycache__", "target"}  # Maven may be at work in it


def files_of(folder: Path) -> Iterator[str]:
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in BUILT]
        yield from (str((Path(at) / name).relative_to(ROOT)) for name in names if "." in name)


PRESENT = {name for folder in FOLDERS for name in files_of(ROOT / folder)} | {
    path.name for path in ROOT.glob("*.*")
}
READ = sorted(
    ROOT / name
    for name in PRESENT
    if name.endswith((".py", ".md", ".lua", ".java", ".toml")) and not name.startswith("tests/")
)


def absent_files(text: str) -> list[str]:
    """The names of sources in `text` that are not there."""
    named = re.findall(r"(?<![\w./{-])((?:[\w-]+/)*[\w-]+\.(?:py|lua|avsc|java))\b", text)
    return [
        name
        for name in named
        if not any(path == name or path.endswith(f"/{name}") for path in PRESENT)
    ]


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(path: Path) -> None:
    assert absent_files(path.read_text(encoding="utf-8")) == []


def test_an_old_name_is_found() -> None:
    text = "As in core/start_offset.py, result.py and stream_scorer/io/kafka/start_offset.py."
    assert absent_files(text) == ["core/start_offset.py"]
