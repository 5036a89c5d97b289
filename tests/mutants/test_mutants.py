"""The list of mutants stays true: each can still be put into the code, and its tests exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mutant_list import ROOT, Mutant, listed

MUTANTS = listed()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_replaces_occurs_once(mutant: Mutant) -> None:
    assert mutant.occurrences(ROOT) == 1, f"{mutant.file} was changed: change mutants.toml as well"
    assert mutant.before != mutant.after


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_a_mutant_names_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not function or function.partition("[")[0] in functions


def test_mutants_have_different_names_and_no_tests_on_servers() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert not [t for m in MUTANTS for t in m.tests if Path(t).parts[1] == "containers"]


def test_a_mutant_is_put_into_the_copy_alone(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("a = 1\nb = 2\n", encoding="utf-8")
    Mutant("b is three", "m.py", "b = 2", "b = 3", []).put_into(tmp_path)
    assert (tmp_path / "m.py").read_text(encoding="utf-8") == "a = 1\nb = 3\n"
