"""New objects that appear whole or not at all.

A single object does by itself: a store shows it when its last byte has come. A folder of several is
whole when the file that `MAKES_WHOLE` names is there, which is uploaded last; readers refuse a
folder without it. Before anything else an object `_unfinished` is put beside: it shows at once
whether this user may write, and says to whoever finds the rest of a run that was killed what it is.
There is no rename on object storage, so what was uploaded is deleted where the work fails.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.storage.places import ObjectPath

UNFINISHED = "_unfinished"
MAKES_WHOLE = ("_manifest.json", "manifest.json", "report.html")
UNFINISHED_REMEDY = (
    f"was not written to its end, since it has an object {UNFINISHED}: wait for who writes it; if "
    "nobody does, delete all of it and write it again"
)
_BLOCK_BYTES = 8 << 20


class FolderUpload:
    """The objects of the new folder `path`. Raises InputError where this user may not write."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self._mark = path, path / UNFINISHED
        self._sent: list[ObjectPath] = []
        self._whole = False
        about = {"host": socket.gethostname(), "process": os.getpid()}
        put(json.dumps(about).encode(), self._mark)

    def send(self, file: Path) -> None:
        """Upload a whole file under its own name, and delete it here."""
        target = self._path / file.name
        self._sent.append(target)
        upload(file, target)
        file.unlink()

    def finish(self, work: Path) -> None:
        """Upload all that is left in the folder `work`, what makes it whole last of all."""
        files = sorted(work.iterdir(), key=lambda file: (file.name in MAKES_WHOLE, file.name))
        if files and files[-1].name in MAKES_WHOLE and (self._path / files[-1].name).exists():
            remedy = "was written by another process meanwhile; choose another address"
            raise InputError(self._path.argument, self._path, remedy)
        for file in files:
            self.send(file)
        self._mark.unlink(missing_ok=True)
        self._whole = True

    def discard(self) -> None:
        """Delete what was uploaded, unless `finish` was done."""
        if self._whole:
            return
        for target in [*reversed(self._sent), self._mark]:
            # The error that is on its way says more.
            with suppress(StreamScorerError, OSError):
                target.unlink(missing_ok=True)
        self._sent.clear()


@contextmanager
def new_object(path: ObjectPath) -> Iterator[Path]:
    """The name of a local file whose bytes become the object when the block ends well."""
    # As of a folder: whether this user may write shows before the work and not after it.
    mark = path.parent / f".{path.name}.unfinished"
    put(b"", mark)
    work = new_work_folder() / path.name
    try:
        yield work
        upload(work, path)
    finally:
        shutil.rmtree(work.parent, ignore_errors=True)
        with suppress(StreamScorerError, OSError):
            mark.unlink(missing_ok=True)


def upload(file: Path, target: ObjectPath) -> None:
    """The file's bytes as one object. Raises OSError of the file, InputError, Unavailable."""
    size = file.stat().st_size
    with file.open("rb") as source:
        _write(source, target)
    if target.stat().st_size != size:
        target.unlink(missing_ok=True)
        remedy = f"has not the {size} bytes that were written; write it again"
        raise InputError(target.argument, target, remedy)


def put(content: bytes, target: ObjectPath) -> None:
    """These bytes as one object."""
    _write(io.BytesIO(content), target)


def new_work_folder() -> Path:
    """A folder among the temporary files (TMPDIR) for what is to be uploaded."""
    return Path(tempfile.mkdtemp(prefix="stream-scorer-"))


def _write(source: IO[bytes], target: ObjectPath) -> None:
    # By default pyarrow would compress what has a name like that of a compressed file.
    with (
        target.reported(writing=True),
        target.file_system.open_output_stream(target.where, compression=None) as sink,
    ):
        shutil.copyfileobj(source, sink, _BLOCK_BYTES)
