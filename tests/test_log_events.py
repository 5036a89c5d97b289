"""The list of log events is what the code logs, both ways, and the page of logs has all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from stream_scorer.log_events import COMMON, LOG_EVENTS

PACKAGE = Path(__file__).parent.parent / "stream_scorer"


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of `event` in the package, with where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if "from stream_scorer.log_events import event" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "event":
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node


def test_every_event_of_the_code_is_declared_with_its_fields_and_every_declared_one_is_logged() -> (
    None
):
    logged = set()
    for place, call in calls():
        (name,) = (ast.unparse(argument).strip("'") for argument in call.args)
        assert name in LOG_EVENTS, f"{place}: {name} is not in LOG_EVENTS"
        logged.add(name)
        # `**fields`, as of rebalances.py, has no name here.
        names = {keyword.arg for keyword in call.keywords}
        if None not in names:
            assert names == set(LOG_EVENTS[name].fields), f"{place}: {name}"
    assert logged == set(LOG_EVENTS)


def test_no_field_has_the_name_of_what_every_line_has() -> None:
    for name, declared in LOG_EVENTS.items():
        assert not set(declared.fields) & set(COMMON), name
        assert set(declared.fields.values()) <= {str, int, float, bool, list}, name


def test_names_are_of_one_kind() -> None:
    for name, declared in LOG_EVENTS.items():
        for word in (name, *declared.fields):
            assert word == word.lower(), word
            assert word.replace("_", "").isalpha(), word
