"""What `customer forget` and `customer history` refuse before any server is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_scorer import cli

FORGET = ["customer", "forget"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*FORGET], "give a customer's id"),
        ([*FORGET, "c1", "--list"], "--list"),
        ([*FORGET, "c1", "--receipt", "receipt.json"], "needs --yes"),
        ([*FORGET, "c1", "--yes", "--receipt", "there.json"], "is there already"),
        ([*FORGET, "c1", "--yes", "--receipt", "no/such/folder.json"], "its folder does not exist"),
        ([*FORGET, "--again", "absent.json", "--yes"], "can't be read"),
        ([*FORGET, "--again", "there.json", "--yes"], "line 1 is not such as"),
        ([*FORGET, "--ids-file", "absent.txt", "--yes"], "can't be read"),
        ([*FORGET, "", "--yes"], "is empty"),
        (["customer", "history", "c1", "--from", "yesterday"], "ISO 8601 with a zone"),
        (["customer", "history", "c1", "--replay", "e", "--all-partitions"], "of events"),
        (["customer", "history", ""], "is empty"),
        (["score", "m", "s", "--out", "o", "--forgotten", "absent.jsonl"], "can't be read"),
    ],
    ids=lambda part: " ".join(part[1:]) if isinstance(part, list) else "",
)
def test_bad_input_is_refused_with_the_remedy(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.json").write_text("c1\n")
    ran = CliRunner().invoke(cli.app, words)
    assert ran.exit_code == 2, ran.output
    assert said in " ".join(ran.output.split())
    assert "Traceback" not in ran.output
