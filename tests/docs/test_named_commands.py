"""Commands of `stream-scorer` that pages name exist and take the options that they are given: those
of shell blocks, also of blocks that no test runs, and those within a sentence."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from stream_scorer import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PROGRAM = typer.main.get_command(cli.app)
# Verbs that are words of other things, too: in a sentence they are commands after "stream-scorer".
COMMON = {"web", "run", "score", "train", "init", "bench", "demo", "features", "models", "topics"}

NO_COMMANDS = {"namespace NAME IDENTITY"}  # the metadata of the group's committed offsets


def wrong_commands(text: str) -> list[str]:
    """The commands of a page that `stream-scorer` would refuse for a verb or an option."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    shown = [found for line in lines for found in re.findall(r"\bstream-scorer ([^|>&;)]*)", line)]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for named in re.findall(r"`([^`]+)`", prose):
        words = named.replace("\n", " ").split()
        if words[0] == "stream-scorer" and len(words) > 1:
            shown.append(" ".join(words[1:]))
        elif words[0] in set(_verbs(PROGRAM)) - COMMON or named.startswith(tuple(_two_words())):
            shown.append(" ".join(words))
    return [command for command in shown if command not in NO_COMMANDS and _is_wrong(command)]


def _verbs(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def _two_words() -> list[str]:
    """Verbs of two words, such as `models status`."""
    return [f"{name} {verb}" for name, group in _verbs(PROGRAM).items() for verb in _verbs(group)]


def _is_wrong(command: str) -> bool:
    words = shlex.split(command.split(" # ", maxsplit=1)[0].replace("...", ""), comments=True)
    if not words or words[0].startswith("-"):
        return False
    found: Any = PROGRAM
    while words and _verbs(found):
        if words[0] not in _verbs(found):
            # The name of a group alone is a way to speak of all its verbs.
            return True
        found = _verbs(found)[words.pop(0)]
    options = {"--help", *(name for option in found.params for name in option.opts)}
    options |= {name for option in found.params for name in option.secondary_opts}
    named = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    return not named <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_named_is_one(page: Path) -> None:
    assert wrong_commands(page.read_text(encoding="utf-8")) == []


def test_a_verb_and_an_option_that_are_not_there_are_found() -> None:
    page = (
        "Call `stream-scorer dokter`, `doctor --fast`, `models status -c FILE` or `models stats`.\n"
        "```sh\nstream-scorer verify -c a.toml \\\n  --samples 3 | tee log\n"
        "stream-scorer replay --into new # --all of it\n```\n"
        "Not `run`, nor `--all`, nor `models`; but `stream-scorer models statos`.\n"
    )
    assert wrong_commands(page) == [
        "verify -c a.toml    --samples 3 ", "dokter", "doctor --fast", "models statos",
    ]  # fmt: skip
