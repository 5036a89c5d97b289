"""A file or folder is there whole or not at all, and its bytes are on disk before its name is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_scorer import atomic


def write_folder(path: Path) -> None:
    with atomic.NewFolder(path) as folder:
        (folder.work / "inner").mkdir()
        (folder.work / "inner" / "file").write_bytes(b"content")
        folder.publish()


def write_file(path: Path) -> None:
    atomic.write_file(path, b"content")


def write_link(path: Path) -> None:
    work = path.with_name(".work")
    work.symlink_to("target")
    atomic.publish(work, path)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def fails_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The fsync of this number, counted from 0, finds the disk full."""
    left = [number]
    real = os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("write", [write_folder, write_file])
@pytest.mark.parametrize("number", [0, 1])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], number: int
) -> None:
    fails_at(monkeypatch, number)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "new")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("write", "flushed"),
    [(write_folder, ["file", "inner", "work", "parent"]), (write_file, ["work", "parent"]),
     (write_link, ["parent"])],
)  # fmt: skip
def test_contents_are_flushed_before_the_name_and_the_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None],
    flushed: list[str],
) -> None:  # fmt: skip
    seen = []
    real = os.fsync

    def fsync(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        named = (tmp_path / "new").is_symlink() or (tmp_path / "new").exists()
        assert named == (path == tmp_path), "the parent is flushed after the rename, others before"
        hidden = path.parent == tmp_path and path.name.startswith(".")
        seen.append("parent" if path == tmp_path else "work" if hidden else path.name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "new")
    assert seen == flushed
    assert names(tmp_path) == ["new"]


def test_a_file_that_is_replaced_stays_as_it_was_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").write_bytes(b"before")
    with monkeypatch.context() as patch:
        fails_at(patch, 0)
        with pytest.raises(OSError, match="No space left"):
            atomic.write_file(tmp_path / "old", b"after")
    assert (tmp_path / "old").read_bytes() == b"before"
    assert names(tmp_path) == ["old"]
    atomic.write_file(tmp_path / "old", b"after")
    assert (tmp_path / "old").read_bytes() == b"after"


def test_a_folder_that_was_not_published_is_removed(tmp_path: Path) -> None:
    with atomic.NewFolder(tmp_path / "a" / "b") as folder:
        (folder.work / "file").write_bytes(b"content")
    assert names(tmp_path) == []


def test_an_error_while_writing_leaves_no_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic.new_file(tmp_path / "new") as work:
            work.write_bytes(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        interrupted()
    assert names(tmp_path) == []


def test_others_may_read_what_was_published(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder")
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


def test_what_fails_leaves_no_folder_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(RuntimeError), atomic.new_file(tmp_path / "old" / "a" / "b" / "file"):
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic.NewFolder(tmp_path / "old" / "c" / "folder"):
        raise RuntimeError
    assert list((tmp_path / "old").iterdir()) == []
