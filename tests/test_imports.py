"""Imports point down, core is pure, and each server's client stays in its room. From the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stream_scorer"
MODULES = {
    "stream_scorer." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}

# A room is a folder, or a module at the top. Who may import whom; every room may import itself,
# except jobs: what two jobs need lies below them.
EDGES = {"core", "errors"}
PARTS = EDGES | {"connections", "settings", "topic_plan", "io", "model", "pipeline", "machine"}
ALLOWED = {
    "errors": set(),
    "core": {"errors"},
    "connections": {"errors"},
    "config_sources": {"errors"},
    "topic_plan": {"connections"},
    "settings": EDGES | {"connections", "config_sources"},
    "io": EDGES,
    "model": EDGES | {"machine"},
    "machine": set(),
    "pipeline": EDGES,
    "progress": set(),
    "reports": EDGES,
    "assembly": PARTS,
    "past_events": PARTS | {"assembly"},
    "past_scores": {"core", "errors", "model", "progress"},
    "past_fold": PARTS | {"past_events", "progress", "read_ahead"},
    "read_ahead": {"core"},
    "bench": PARTS | {"assembly", "demo", "past_events", "past_fold"},
    "jobs": PARTS
    | {"assembly", "bench", "past_events", "past_fold", "past_scores", "progress", "reports"},
    "demo": PARTS | {"assembly", "progress"},
    "spark": PARTS | {"past_events"},
    "cli": {"errors", "settings", "io", "jobs", "demo", "spark", "machine"},
    "__main__": {"cli"},
}
# Third-party packages and the only rooms or modules that may import them.
CLIENTS = {
    "mxnet": {"model"},
    "confluent_kafka": {"io", "demo", "bench"},
    "redis": {"io", "assembly", "demo", "bench"},
    "prometheus_client": {"io"},
    "pyarrow": {"io", "demo"},
    "pydantic": {"connections", "settings", "config_sources"},
    "typer": {"cli"},
    "rich": {"demo", "progress"},
    "matplotlib": {"reports"},
    "torch": {"bench"},
    "pyspark": {"spark"},
    "py4j": {"spark"},
}
IMPURE_MODULES = {
    "asyncio", "http", "logging", "os", "pathlib", "random", "secrets", "socket",
    "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "warnings",
}  # fmt: skip
IMPURE_NAMES = {"sys.argv", "sys.stdin", "sys.stdout", "sys.stderr"}
IMPURE_CALLS = {"open", "print", "input", "datetime.now", "datetime.utcnow", "date.today"}


def imports(node: ast.AST) -> Iterator[str]:
    """Full names of what one import statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the room"
        module = node.module or ""
        for alias in node.names:
            full = f"{module}.{alias.name}"
            yield full if full in MODULES else module


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def all_imports(module: str) -> set[str]:
    return {name for node in ast.walk(tree_of(module)) for name in imports(node)}


def room_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    room = room_of(module)
    assert room in ALLOWED, f"say in this test what {room} may import"
    for name in all_imports(module):
        if not name.startswith("stream_scorer."):
            continue
        target = room_of(name)
        own = target == room and room != "jobs"
        assert own or target in ALLOWED[room], f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_clients_stay_in_their_rooms(module: str) -> None:
    for name in all_imports(module):
        rooms = CLIENTS.get(name.split(".")[0])
        assert rooms is None or room_of(module) in rooms, f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "core"])
def test_core_reads_no_clock_environment_file_or_unseeded_random(module: str) -> None:
    impure = {n for n in all_imports(module) if n.split(".")[0] in IMPURE_MODULES}
    assert not impure
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in IMPURE_NAMES, f"{module}:{node.lineno}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in IMPURE_CALLS, f"{module}:{node.lineno} calls {called}"
        if "np.random." in called:
            seeded = called == "np.random.default_rng" and node.args
            assert seeded, f"{module}:{node.lineno} draws without a seed"


@pytest.mark.parametrize(
    "start",
    ["stream_scorer.model.native_engine", "stream_scorer.assembly", "stream_scorer.cli.streaming"],
)
def test_mxnet_is_not_needed_where_it_is_not_chosen(start: str) -> None:
    waiting, seen = [start], set()
    while waiting:
        module = waiting.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        waiting += [name for node in tree_of(module).body for name in imports(node)]
    assert "stream_scorer.model.mxnet_loader" not in seen


def test_only_the_loader_imports_mxnet() -> None:
    found = {m for m in MODULES if any(n.split(".")[0] == "mxnet" for n in all_imports(m))}
    assert found == {"stream_scorer.model.mxnet_loader"}


def test_every_test_module_has_a_name_of_its_own() -> None:
    """pytest imports them by name alone; two of one name stop the whole run."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
