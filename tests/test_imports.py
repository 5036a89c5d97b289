"""The table of rooms in ARCHITECTURE is what the imports say, core is pure, and clients stay where
they belong. All is read from the source; nothing is imported.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "stream_scorer"
MODULES = {
    "stream_scorer." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}

ARCHITECTURE = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
# Third-party packages and the only rooms that may import them; a folder stands for all in it.
CLIENTS = {
    "mxnet": {"model"},
    "numba": {"jit", "kernel_folder"},
    "confluent_kafka": {"io/kafka", "demo", "bench"},
    "redis": {"io/stores", "live", "demo", "bench"},
    "prometheus_client": {"io"},
    "opentelemetry": {"io/telemetry"},
    "pyarrow": {"api", "io/files", "demo", "storage"},
    "pydantic": {"settings"},
    "typer": {"cli"},
    "rich": {"demo", "progress"},
    "matplotlib": {"reports"},
    "torch": {"bench"},
    "pyspark": {"spark"},
    "py4j": {"spark"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "jinja2": {"web"},
}
# Clocks, environment, sockets, files, logs, randomness; threads and processes; files of packages.
IMPURE_MODULES = {
    "asyncio", "http", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess",
    "tempfile", "time", "urllib", "uuid", "warnings",
    "_thread", "concurrent", "multiprocessing", "queue", "sched", "signal", "threading",
    "importlib", "pkgutil",
}  # fmt: skip
IMPURE_NAMES = {"sys.argv", "sys.stdin", "sys.stdout", "sys.stderr"}
IMPURE_CALLS = {
    "open", "print", "input", "datetime.now", "datetime.utcnow", "date.today", "__import__",
    "np.fromfile", "np.load", "np.loadtxt", "np.memmap", "np.save", "np.savez",
}  # fmt: skip


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
    """The folder of a module, as `core/avro`; a module outside every folder is its own room."""
    *folders, name = module.split(".")[1:]
    return "/".join(folders) or name


def is_in(module: str, room: str) -> bool:
    return room_of(module) == room or room_of(module).startswith(f"{room}/")


def arrows() -> dict[str, set[str]]:
    """Room -> the other rooms that its modules import."""
    found: dict[str, set[str]] = {room_of(module): set() for module in MODULES}
    for module in MODULES:
        rooms = {room_of(name) for name in all_imports(module) if name in MODULES}
        found[room_of(module)] |= rooms - {room_of(module)}
    return found


def documented() -> dict[str, set[str]]:
    """The same, as the table under "Rooms" in ARCHITECTURE.md says it."""
    section = ARCHITECTURE.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+)` \|[^|]*\|([^|]*)\|$", section, flags=re.MULTILINE)
    return {room: set(re.findall(r"[\w/]+", imports)) for room, imports in rows}


def test_the_table_of_rooms_is_what_the_imports_say() -> None:
    found, said = arrows(), documented()
    assert sorted(found) == sorted(said), "the rooms of ARCHITECTURE.md and of the code differ"
    for room, rooms in found.items():
        missing, stale = sorted(rooms - said[room]), sorted(said[room] - rooms)
        assert not missing, f"{room} imports {missing}, which ARCHITECTURE.md does not allow"
        assert not stale, f"ARCHITECTURE.md says that {room} imports {stale}, which it does not"


def test_rooms_import_each_other_one_way() -> None:
    graph = arrows()
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"rooms import each other in a circle: {' -> '.join(error.args[1])}")


def test_jobs_do_not_import_each_other() -> None:
    for module in (m for m in MODULES if room_of(m) == "jobs"):
        others = {n for n in all_imports(module) if n in MODULES and room_of(n) == "jobs"}
        assert not others, f"{module} imports {others}: what two jobs need belongs below them"


@pytest.mark.parametrize("module", MODULES)
def test_clients_stay_in_their_rooms(module: str) -> None:
    for name in all_imports(module):
        rooms = CLIENTS.get(name.split(".")[0])
        inside = rooms is None or any(is_in(module, room) for room in rooms)
        assert inside, f"{module} imports {name}"


def impurities(tree: ast.Module) -> Iterator[str]:
    """What in a module depends on more than its arguments, as `line: what`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            outside = [n for n in imports(node) if n.split(".")[0] in IMPURE_MODULES]
            yield from (f"{node.lineno}: imports {name}" for name in outside)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in IMPURE_NAMES:
            yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in IMPURE_CALLS:
                yield f"{node.lineno}: calls {called}"
            if "np.random." in called and not (called == "np.random.default_rng" and node.args):
                yield f"{node.lineno}: draws without a seed"


@pytest.mark.parametrize("module", [m for m in MODULES if is_in(m, "core")])
def test_core_depends_on_its_arguments_alone(module: str) -> None:
    assert not list(impurities(tree_of(module)))


@pytest.mark.parametrize(
    "source",
    [
        "import threading",
        "from concurrent.futures import ThreadPoolExecutor",
        "import multiprocessing.pool",
        "from queue import Queue",
        "from importlib.resources import files",
        "from importlib import resources",
        "import os",
        "from os import environ",
        "import time",
        "from pathlib import Path",
        "import logging",
        "import socket",
        "open('a')",
        "print(1)",
        "np.random.default_rng()",
        "np.random.rand(3)",
        "import sys; sys.argv[1]",
        "datetime.now()",
    ],
)
def test_what_core_may_not_do_is_seen(source: str) -> None:
    assert list(impurities(ast.parse(source)))


# Of modules at the root of the package and of the repository as a whole; and generated records,
# bytes of Avro and a proxy of Redis, which a room shares with other rooms or with containers.
AT_THE_TOP = {
    "avro_bytes", "conftest", "fuzz_records", "peak_memory", "redis_proxy",
    "requirements_without_mxnet", "shell_blocks", "test_atomic",
    "test_backoff", "test_confidential", "test_counts", "test_errors", "test_imports",
    "test_jit", "test_log_events", "test_progress", "test_runtime", "test_words", "tier_counts",
    "without_mxnet",
}  # fmt: skip
# Folders of tests/ that test no room: servers and other languages, and what stands beside the code.
OTHER_TESTS = {
    "browser", "containers", "deploy", "docs", "examples", "images", "jvm", "mutants", "quality",
    "simulation",
}  # fmt: skip


def test_the_folders_of_tests_are_rooms() -> None:
    tests = Path(__file__).parent
    with_tests = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    folders = {folder.as_posix() for folder in with_tests if folder.parts}
    rooms = {room_of(module) for module in MODULES}
    strange = {f for f in folders if f not in rooms and f.split("/")[0] not in OTHER_TESTS}
    assert not strange, f"tests/{sorted(strange)} are neither rooms nor in OTHER_TESTS"
    loose = sorted(path.name for path in tests.glob("*.py") if path.stem not in AT_THE_TOP)
    assert not loose, f"tests/{loose} belong into the folder of the room that they test"


@pytest.mark.parametrize(
    "start",
    [
        "stream_scorer.model.engines.native",
        "stream_scorer.live.consumer",
        "stream_scorer.cli.streaming",
    ],
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
