"""The README names every verb and every make target, and the project file every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from stream_scorer import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# For those who work on stream-scorer itself.
INNER_TARGETS = {"clean", "help", "test-counts"}


# Folders of the top level that ship as packages, by package-dir.
OUTSIDE_PACKAGES = {"stream_scorer.schemas", "stream_scorer.deploy"}


def verbs() -> list[str]:
    """Every command as typed: "run", "topics create", ..."""
    root = typer.main.get_command(cli.app)
    found = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [f"{name} {part}" for part in inner] if inner else [name]
    return found


def targets() -> set[str]:
    """The phony targets of the Makefile."""
    return set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()) - INNER_TARGETS  # type: ignore[index]


@pytest.mark.parametrize("verb", verbs())
def test_readme_names_the_verb(verb: str) -> None:
    assert f"stream-scorer {verb}" in README or f"`{verb}`" in README


@pytest.mark.parametrize("target", sorted(targets()))
def test_readme_names_the_make_target(target: str) -> None:
    assert re.search(rf"\bmake {target}\b|^\| `(make )?{target}`", README, re.M)


def test_readme_names_no_verb_or_target_that_is_missing() -> None:
    known = {verb.split()[0] for verb in verbs()}
    assert set(re.findall(r"`?stream-scorer ([a-z]+(?:-[a-z]+)*)", README)) <= known
    defined = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.M))
    assert set(re.findall(r"\bmake ([a-z]+(?:-[a-z0-9]+)*)`", README)) <= defined


def test_every_target_that_is_declared_has_a_recipe() -> None:
    declared = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())  # type: ignore[index]
    assert declared == set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.M))


def test_every_package_is_shipped() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r'"(.+)",', re.search(r"^packages = \[\n(.+?)^\]", project, re.M | re.S)[1])  # type: ignore[index]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("stream_scorer/**/*.py")}
    assert set(listed) == {".".join(f.parts) for f in folders} | OUTSIDE_PACKAGES
