"""Compiled kernels are what their source says, wherever compiled code can or can't be kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_scorer import jit, kernel_folder, missing_kernels
from stream_scorer.spark.worker import in_worker

PACKAGE = Path(jit.__file__).parent
# Kernels of one module that call helpers of another, with a constant of a module without kernels.
PROGRAM = """
import numpy as np
from stream_scorer.core.avro import attributes
text = np.frombuffer(b"keyvalue", np.uint8)
entry = attributes.MapEntries(*(np.array([number]) for number in (0, 0, 3, 3, 5)))
maps, ends = attributes.write_maps(text, entry, np.array([0]))
_, lengths = attributes._find_in_maps(maps, np.array([0]), ends.astype(np.int32), text[:2])
hits = sum(attributes._find_in_maps.stats.cache_hits.values())
print(attributes.__file__, maps.tobytes().hex(), lengths[0], hits)
"""
WRITTEN = bytes([2, 6, *b"key", 10, *b"value", 0]).hex()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package, whose sources a test may edit."""
    copy = tmp_path / "copy" / "stream_scorer"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """The folder is chosen once for each process: choose again in a test, and after it."""
    kernel_folder.cache_folder.cache_clear()
    yield
    kernel_folder.cache_folder.cache_clear()


def run(copy: Path, **environment: str) -> tuple[str, str, int]:
    """What the program prints when it runs on the copy: bytes, length, hits of the cache."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    # Python takes kept bytecode for that of a source with the same length and time of change.
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=copy.parent, env=kept | environment,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path, written, length, hits = done.stdout.split()
    assert Path(path).is_relative_to(copy)
    return written, length, int(hits)


def edit(module: Path, old: str, new: str) -> None:
    source = module.read_text(encoding="utf-8")
    assert source.count(old) == 1
    module.write_text(source.replace(old, new), encoding="utf-8")


def test_an_edit_of_a_helper_or_constant_in_another_file_is_seen(
    copied: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    cache = {kernel_folder.CACHE_VARIABLE: str(folder)}
    assert run(copied, **cache) == (WRITTEN, "-1", 0)
    assert run(copied, **cache) == (WRITTEN, "-1", 1)
    # Same length and same time of change: only the content differs.
    primitives = copied / "core" / "avro" / "primitives.py"
    before = primitives.stat()
    edit(primitives, "    data[pos] = np.uint8(n)\n", "    data[pos] = np.uint8(7)\n")
    os.utime(primitives, ns=(before.st_atime_ns, before.st_mtime_ns))
    written, length, hits = run(copied, **cache)
    assert (written[:4], length, hits) == ("0707", "-1", 0)
    edit(copied / "core" / "events" / "batch.py", "NULL = -1\n", "NULL = -5\n")
    assert run(copied, **cache)[1:] == ("-5", 0)
    assert len(list(folder.glob("kernels-*"))) == 3


def test_a_damaged_cache_is_compiled_anew(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    run(copied, **{kernel_folder.CACHE_VARIABLE: str(folder)})
    kept = [path for path in folder.rglob("*.nb*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:20])
    assert run(copied, **{kernel_folder.CACHE_VARIABLE: str(folder)}) == (WRITTEN, "-1", 0)


def test_a_folder_that_was_compiled_elsewhere_is_used_by_its_relative_path(
    copied: Path, tmp_path: Path
) -> None:
    """As one that Spark sends to its executors and unpacks where their workers run."""
    sent = tmp_path / "sent.tar.gz"
    run(copied, **{kernel_folder.CACHE_VARIABLE: str(tmp_path / "here")})
    subprocess.run(["tar", "-czf", sent, "-C", tmp_path / "here", "."], check=True)
    (copied.parent / "there").mkdir()
    subprocess.run(["tar", "-xzf", sent, "-C", copied.parent / "there"], check=True)
    assert run(copied, **{kernel_folder.CACHE_VARIABLE: "./there"}) == (WRITTEN, "-1", 1)


def test_what_waits_for_a_missing_kernel_is_done_once_and_before_it_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(tmp_path))
    compiled: list[str] = []

    def twice(number: float) -> float:
        return 2 * number

    def ahead() -> None:
        compiled.append("ahead")
        jit.kernel(twice)(21)  # as another process would

    with (
        missing_kernels.when_missing(ahead),
        jit.watching(lambda name, new: compiled.append(f"{name.rpartition('.')[2]} {new}")),
    ):
        assert jit.kernel(twice)(21) == 42
        assert jit.kernel(twice)(0.25) == 0.5
    assert compiled == ["ahead", "twice True", "twice False", "twice True"]


def test_a_spark_worker_says_that_it_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(tmp_path))

    def twice(number: int) -> int:
        return 2 * number

    @in_worker
    def doubled(batches: Iterator[int]) -> Iterator[int]:
        called = jit.kernel(twice)
        yield from (called(batch) for batch in batches)

    assert list(doubled(iter([1, 2]))) == [2, 4]
    assert "compiling kernels in this worker" in capsys.readouterr().err
    assert list(doubled(iter([1, 2]))) == [2, 4]
    assert capsys.readouterr().err == ""


def test_two_processes_that_compile_at_the_same_time_do_not_mix_up_their_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With numba's own files both would have written their code under the same name: each started
    from an empty folder, for another type."""

    def twice(number: float) -> float:
        return 2 * number

    for folder, number in (("a", 21), ("b", 0.25)):
        monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(tmp_path / folder))
        kernel_folder.cache_folder.cache_clear()
        jit.kernel(twice)(number)
    of_a, of_b = ({p.name for p in (tmp_path / f).rglob("*.nbc")} for f in "ab")
    assert of_a
    assert of_b
    assert not of_a & of_b
    shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
    both = jit.kernel(twice)
    assert (both(21), both(0.25)) == (42, 0.5)
    assert sum(both.stats.cache_hits.values()) == 2


def test_a_complete_folder_is_used_though_another_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an image: what was compiled in its build, and a volume for what was not."""
    built, volume = tmp_path / "built", tmp_path / "volume"
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(built))
    kernel_folder.mark_complete()
    kernel_folder.cache_folder.cache_clear()
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, f"{volume}{os.pathsep}{built}")
    assert kernel_folder.cache_folder() == built / f"kernels-{kernel_folder.source_hash()}"
    assert kernel_folder.is_complete()
    # Another processor finds nothing there that fits it.
    monkeypatch.setattr(kernel_folder, "_mark", lambda: "complete-of-another-processor")
    kernel_folder.cache_folder.cache_clear()
    assert kernel_folder.cache_folder() == volume / f"kernels-{kernel_folder.source_hash()}"


def test_where_no_home_can_be_written_to_a_private_temporary_folder_serves(
    copied: Path, tmp_path: Path
) -> None:
    """The tests may run as root, who can write anywhere but below a file."""
    temporary, no_folder = tmp_path / "temporary", tmp_path / "file"
    temporary.mkdir()
    no_folder.touch()
    blocked = {
        "HOME": str(no_folder / "home"), kernel_folder.CACHE_VARIABLE: str(no_folder / "cache"),
        "TMPDIR": str(temporary),
    }  # fmt: skip
    assert run(copied, **blocked) == (WRITTEN, "-1", 0)
    assert run(copied, **blocked) == (WRITTEN, "-1", 1)
    (folder,) = temporary.glob("stream_scorer-*")
    assert folder.stat().st_mode & 0o077 == 0


def test_without_any_folder_kernels_are_compiled_and_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", kernel_folder.CACHE_VARIABLE):
        monkeypatch.setenv(name, str(no_folder / "nothing"))
    monkeypatch.setattr(tempfile, "tempdir", str(no_folder))
    assert kernel_folder.cache_folder() is None

    def twice(number: int) -> int:
        return 2 * number

    assert jit.kernel(twice)(21) == 42


def test_a_temporary_folder_that_others_can_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    private = kernel_folder._private_temporary_folder()
    assert private is not None
    assert private.parent == tmp_path
    private.chmod(0o777)
    assert kernel_folder._private_temporary_folder() is None


def test_folders_of_old_sources_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernel_folder.CACHE_VARIABLE, str(tmp_path))
    (tmp_path / "of_another_program").mkdir()
    old = [tmp_path / f"kernels-{number:032x}" for number in range(kernel_folder.KEPT_FOLDERS + 5)]
    for age, folder in enumerate(old):
        folder.mkdir()
        (folder / "code.nbc").touch()
        os.utime(folder, (1e9 - age, 1e9 - age))
    current = kernel_folder.cache_folder()
    assert current is not None
    kept = {current, tmp_path / "of_another_program", *old[: kernel_folder.KEPT_FOLDERS]}
    assert set(tmp_path.iterdir()) == kept


def test_an_edit_where_no_kernel_looks_does_not_compile_all_of_them_again() -> None:
    sources = kernel_folder._kernel_sources()
    assert {"stream_scorer.core.avro.primitives", "stream_scorer.core.events.batch"} <= set(sources)
    rooms = {name.split(".")[1] for name in sources}
    assert not rooms & {"io", "jobs", "cli", "settings", "live", "past", "spark"}
