"""`warm` compiles ahead what the other verbs call, and whoever waits for that is told so."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stream_scorer import jit, kernel_folder, progress
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.demo.embedded import EmbeddedKafka
from stream_scorer.errors import Halt, InputError
from stream_scorer.jobs import init
from stream_scorer.jobs.warm import warm
from stream_scorer.live import rehearsal, warming

# Prints what numba compiles while the rest of the program runs, which is its only argument.
COMPILED = """
import json, sys
from numba.core import event
class Compiled(event.Listener):
    seen = []
    def on_start(self, e):
        self.seen.append([e.data["dispatcher"].py_func.__name__, str(e.data["args"])])
    def on_end(self, e):
        pass
event.register("numba:compile", Compiled())
exec(sys.argv[1])
print(json.dumps(Compiled.seen))
"""
REPLAYS = """
from stream_scorer import cli
import pyarrow as pa
import pyarrow.parquet as pq
from datetime import datetime
from pathlib import Path
rows = [json.loads(line) for line in Path("events/sample.jsonl").read_text().splitlines()[:20]]
for row in rows:
    row["occurred_at"] = datetime.fromisoformat(row["occurred_at"].replace("Z", "+00:00"))
    row["attributes"] = list(row["attributes"].items())
fields = pa.schema([("attributes", pa.map_(pa.string(), pa.string()))])
table = pa.Table.from_pylist([{k: v for k, v in row.items() if k != "attributes"} for row in rows])
table = table.append_column("attributes", pa.array([r["attributes"] for r in rows], fields[0].type))
pq.write_table(table, "sample.parquet")
for number, events in enumerate(["events", "sample.parquet"]):
    arguments = ["replay", events, "-c", "stream_scorer.toml", "--out", f"out{number}"]
    sys.stdout = sys.stderr
    cli.app([*arguments, "--cutoffs", "2026-09-07T00:00Z"], standalone_mode=False)
    sys.stdout = sys.__stdout__
"""
LIVE = """
from pathlib import Path
from stream_scorer.live.consumer import Consumer
from stream_scorer.settings.tree import Settings
settings = Settings.load(Path("scorer.toml"))
with Consumer(settings) as consumer:
    consumer.warm_up()
    consumer.join()
    records = dead_letters = 0
    while records < 4:
        report = consumer.pipeline.step()
        records += report.records
        dead_letters += len(report.dead_letters)
assert dead_letters == 1
"""


def compiled(program: str, folder: Path, **environment: str) -> list[Any]:
    """What numba compiles in a process that runs `program` in `folder`."""
    ran = subprocess.run(
        [sys.executable, "-c", COMPILED, program], cwd=folder, env=os.environ | environment,
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found: list[Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def ready() -> warming.Ready:
    """All parts of the rehearsal done, into the folder that the other tests use too."""
    return warming.compile_all(lambda _line: None)


@pytest.mark.mxnet
def test_there_is_code_of_every_kernel_of_the_package(ready: warming.Ready) -> None:
    """But for the limit that the bench measures, which nobody waits for."""
    for name, source in kernel_folder._kernel_sources().items():
        if b"@kernel" in source:
            importlib.import_module(name)
    folder = kernel_folder.cache_folder()
    assert folder is not None
    there = {path.name.partition("-")[0] for path in folder.glob("*.nbc")}
    # Tests declare kernels of their own.
    ours = [name for name in jit.kernels() if name.startswith("stream_scorer.")]
    needed = {name for name in ours if not name.startswith("stream_scorer.bench.")}
    assert {name for name in needed if ".".join(name.split(".")[-2:]) not in there} == set()
    assert ready.kernels == len(needed)


def test_past_events_of_each_format_compile_nothing_after_it(
    ready: warming.Ready, tmp_path: Path
) -> None:
    init.init(tmp_path / "shop")
    assert compiled(REPLAYS, tmp_path / "shop") == []


def test_the_live_path_compiles_nothing_after_it_not_even_for_its_first_bad_record(
    ready: warming.Ready, config: Path, kafka: EmbeddedKafka
) -> None:
    from confluent_kafka import Producer  # noqa: PLC0415

    for topic in ("customer-events", "category-propensities", "customer-events-dead-letters"):
        kafka.create(topic)
    event = {"event_id": "1", "customer_id": "1", "event_type": "purchase", "category_id": "tea",
             "value": 1.0, "occurred_at": 1_700_000_000_000}  # fmt: skip
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for value in [*encode_events([event, event, event]), b"bad"]:
        producer.produce("customer-events", value, key=b"1", partition=0)
    assert producer.flush(10) == 0
    assert compiled(LIVE, config.parent) == []


def test_a_second_time_there_is_nothing_to_compile(ready: warming.Ready) -> None:
    assert kernel_folder.is_complete()
    lines: list[str] = []
    warming.compile_where_missing(lines.append)
    assert lines == []


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A new folder, and of the rehearsal only two short parts; the lines that are said."""
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(tmp_path / "kernels"))
    monkeypatch.setattr(warming, "SAY_SECONDS", 0.0)
    parts = {"training": rehearsal.training}
    monkeypatch.setattr(rehearsal, "PARTS", parts)
    kernel_folder.cache_folder.cache_clear()
    return []


@pytest.fixture(autouse=True)
def folder_as_before() -> Any:
    yield
    kernel_folder.cache_folder.cache_clear()


@pytest.mark.mxnet
def test_progress_is_said_in_lines_where_stderr_is_no_terminal(two_parts: list[str]) -> None:
    assert not kernel_folder.is_complete()
    warming.compile_where_missing(two_parts.append)
    assert two_parts[0].startswith("compiling kernels, once for this version: 1 of ")
    assert kernel_folder.is_complete()


@pytest.mark.mxnet
def test_progress_is_said_in_lines_where_the_verb_that_calls_a_kernel_draws_a_bar(
    two_parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal has one bar at a time; older versions of rich raise an error at the second."""
    monkeypatch.setattr(Console, "is_terminal", True)
    with progress.progress("training"):
        warming.compile_where_missing(two_parts.append)
    assert two_parts[0].startswith("compiling kernels, once for this version: 1 of ")


def test_a_part_that_fails_is_named_and_the_folder_is_not_complete(
    two_parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "PARTS", {"of nobody": rehearsal.training})
    with pytest.raises(Halt, match="kernels of of nobody could not be compiled ahead: KeyError"):
        warming.compile_all()
    warming.compile_where_missing(two_parts.append)
    assert two_parts[-1].endswith("what is missing is compiled when it is first used")
    assert not kernel_folder.is_complete()


TWO_AT_ONCE = """
import sys
from stream_scorer import jit
from stream_scorer.live import rehearsal, warming
rehearsal.PARTS = {"records": rehearsal.records}
warming.WAIT_SECONDS = 1e6
if sys.argv[1] == "without lock":
    warming._locked = lambda _file: True
compiled = []
with jit.watching(lambda name, new: compiled.append(name) if new else None):
    warming.compile_where_missing(lambda line: print(line, file=sys.stderr))
    rehearsal.records()
print(len(compiled))
"""


@pytest.mark.parametrize("locks", ["lock", "without lock"])
def test_two_members_started_together_on_a_new_machine_end_with_all_kernels(
    tmp_path: Path, locks: str
) -> None:
    """With the lock one of them compiles; without, as where the file system has none, both do."""
    environment = os.environ | {kernel_folder.CACHE_VARIABLE: str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_AT_ONCE, locks], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    answers = [process.communicate(timeout=280) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    # What was compiled ahead is only read by the process that asked for it.
    assert [out for out, _ in answers] == ["0\n", "0\n"]
    progress = ["compiling kernels" in errors for _, errors in answers]
    assert sorted(progress) == ([False, True] if locks == "lock" else [True, True])


@pytest.mark.mxnet
def test_another_copy_of_the_package_in_the_current_folder_is_not_compiled(
    two_parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the build of an image, whose current folder is that of the sources."""
    (tmp_path / "stream_scorer").mkdir()
    (tmp_path / "stream_scorer" / "__init__.py").write_text("raise ImportError('another copy')")
    monkeypatch.chdir(tmp_path)
    # As in the program that pip makes; `python -m pytest` has the current folder in it.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert warming.compile_all(two_parts.append).compiled


def test_a_folder_that_can_not_be_written_to_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who can write anywhere but below a file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(tmp_path / "file" / "kernels"))
    kernel_folder.cache_folder.cache_clear()
    with pytest.raises(InputError, match="can't be written to; name a folder that can"):
        warm()
