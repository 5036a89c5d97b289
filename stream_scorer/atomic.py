"""Files and folders that appear whole or not at all.

A new file or folder is written under a hidden name beside its target, so that both are on one file
system, where a rename is one step: a reader sees the whole or nothing. A rename alone does not
survive a power failure. The contents have to be on disk before it, or the name may outlive them;
the folder that holds the name has to be on disk after it, or the name may be lost. `publish` does
all three in that order.

Every function raises the OSError of the disk; callers turn it into an error that names their
option. A target on object storage is written in a temporary folder first, then uploaded
(storage/uploads.py), which raises errors of its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stream_scorer.storage.places import ObjectPath, Place
from stream_scorer.storage.uploads import FolderUpload, new_object, new_work_folder


class NewFolder:
    """A folder to be written in `work` and named `path` by `publish`; makes the parent folders.

    A context manager: leaving it without `publish` removes what was written.
    """

    def __init__(self, path: Place) -> None:
        self._upload: FolderUpload | None = None
        self._made: list[Path] = []
        self._path = path
        if isinstance(path, ObjectPath):
            self._upload = FolderUpload(path)
            self.work = new_work_folder()
            return
        self._made = _make_parents(path)
        self.work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        self.work.chmod(0o755)  # mkdtemp makes it readable by its owner alone

    def settle(self, file: Path) -> None:
        """A file in `work` is complete: one for object storage is uploaded, and gone from here."""
        if self._upload is not None:
            self._upload.send(file)

    def publish(self) -> None:
        """Have all files on disk and give the folder its name."""
        if self._upload is not None:
            self._upload.finish(self.work)
        elif isinstance(self._path, Path):
            publish(self.work, self._path)

    def discard(self) -> None:
        """Remove what was written and the parents that were made, unless it was published."""
        shutil.rmtree(self.work, ignore_errors=True)
        _remove_empty(self._made)
        if self._upload is not None:
            self._upload.discard()

    def __enter__(self) -> NewFolder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.discard()


@contextmanager
def new_file(path: Place) -> Iterator[Path]:
    """The name under which to write the file `path`; it is published when the block ends well.

    A file that is there already is replaced. Makes the parent folders, and removes those that it
    made where the block fails.
    """
    if isinstance(path, ObjectPath):
        with new_object(path) as work:
            yield work
        return
    made = _make_parents(path)
    # With the process's number, so that two that write the same file do not write into each
    # other's.
    work = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield work
        publish(work, path)
    finally:
        work.unlink(missing_ok=True)
        _remove_empty(made)


def write_file(path: Place, content: bytes) -> None:
    """Write the file `path`, or replace it, whole or not at all."""
    with new_file(path) as work:
        work.write_bytes(content)


def publish(work: Path, path: Path) -> None:
    """Have the file, folder or link `work` on disk and rename it to `path`, beside it.

    Where the folder can't be flushed, a name that was new is taken back: `path` becomes `work`.
    """
    is_new = not os.path.lexists(path)
    # In this order: the name must not reach the disk before the contents do.
    _flush_whole(work)
    work.rename(path)
    try:
        flush(path.parent)
    except OSError:
        if is_new:
            path.rename(work)
        raise


def flush(path: Path) -> None:
    """Have the contents of a file, or the names in a folder, on disk."""
    # A folder can only be opened for reading, and fsync needs no more.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_parents(path: Path) -> list[Path]:
    """Make the folders above `path`; those that were not there, the deepest first."""
    missing = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders as long as they are empty; what was published keeps its own."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _flush_whole(path: Path) -> None:
    """Flush a file, or a folder with everything in it. A link's text is flushed by its folder."""
    if path.is_symlink():
        return
    if path.is_dir():
        for child in path.iterdir():
            _flush_whole(child)
    flush(path)
