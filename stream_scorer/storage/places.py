"""Where data lie: a local path, or an object under `s3://`, `gs://` or `abfs://`.

`place` makes a `Path` of what is local, also of `file://`, and an `ObjectPath` of the rest. An
ObjectPath has those methods of Path that readers call, so the same code reads both; what it lacks,
such as `mkdir`, mypy finds. Writing is atomic.py's, and uploads.py's. An address never holds a
secret: servers.py says how servers are reached.

An object that is not there raises FileNotFoundError, as a file does. All else that a server refuses
is an InputError that names the argument, and one that does not answer is Unavailable.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeGuard
from urllib.parse import unquote, urlsplit

from stream_scorer.errors import InputError
from stream_scorer.storage.servers import endpoint, file_system, refusal, without_bucket

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Of one request of a reader: small at first, since most look only at the start or the end.
_FIRST_BYTES, _MOST_BYTES = 1 << 16, 8 << 20
_SCHEMES = ("s3", "gs", "abfs", "abfss")
_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_USE = (
    "use a path, s3://BUCKET/..., gs://BUCKET/..., abfs://CONTAINER@ACCOUNT.../... or file:///..."
)


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or all objects below a prefix, which is called a folder here as well.

    scheme, authority (the bucket; of Azure the container, with @account) and key, without "/" at
    either end. argument: what errors name. found: what a listing said of it.
    """

    scheme: str
    authority: str
    key: str
    argument: str = field(default="address", compare=False)
    found: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}" + (f"/{self.key}" if self.key else "")

    def __truediv__(self, name: str) -> ObjectPath:
        return self._at(f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """What stands behind the last "/"."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def parent(self) -> ObjectPath:
        """The folder that it stands in; the bucket is its own parent."""
        return self._at(self.key.rpartition("/")[0])

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket's address, then the names between the "/"."""
        return f"{self.scheme}://{self.authority}", *filter(None, self.key.split("/"))

    @property
    def bucket(self) -> str:
        """The bucket, or the container."""
        return self.authority.partition("@")[0]

    @property
    def where(self) -> str:
        """The path as pyarrow's file system takes it."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def file_system(self) -> Any:
        """pyarrow's file system that it is in."""
        with self.reported():
            account = self.authority.partition("@")[2]
            return file_system(self.scheme, account, endpoint(self.scheme))

    def resolve(self) -> ObjectPath:
        """Itself: there are no links, and no working directory."""
        return self

    def is_symlink(self) -> bool:
        """Never."""
        return False

    def exists(self) -> bool:
        """Whether there is an object of that name, or below it. Raises where there is no bucket."""
        return self._kind() != "NotFound"

    def is_dir(self) -> bool:
        """Whether there is an object below it."""
        return self._kind() == "Directory"

    def stat(self) -> os.stat_result:
        """Its kind, size and time of writing; all else is 0. Raises FileNotFoundError."""
        kind = self._kind()
        if kind == "NotFound":
            raise self._missing()
        info = self.found or self._info()
        mode = stat.S_IFREG if kind == "File" else stat.S_IFDIR
        written = int(info.mtime.timestamp()) if info.mtime is not None else 0
        return os.stat_result((mode, 0, 0, 1, 0, 0, info.size or 0, written, written, written))

    def lstat(self) -> os.stat_result:
        """As `stat`."""
        return self.stat()

    def iterdir(self) -> Iterator[ObjectPath]:
        """What stands directly in the folder."""
        yield from self._listed(recursive=False)

    def walk(self) -> list[ObjectPath]:
        """All objects below the folder, by name."""
        below = self._listed(recursive=True)
        # An object whose name ends with "/" is how some tools show an empty folder.
        return sorted(path for path in below if path.found.type.name == "File")

    def open(self, mode: str = "rb") -> IO[bytes]:
        """A stream of its bytes, which can seek. Raises FileNotFoundError."""
        if mode != "rb":
            raise ValueError(f"an object can only be opened for reading: {mode}")
        return io.BufferedReader(_ObjectStream(self), _FIRST_BYTES)

    def read_bytes(self) -> bytes:
        """All of it. Raises FileNotFoundError."""
        with self.reported(), self.file_system.open_input_file(self.where) as source:
            return bytes(source.read())

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        try:
            with self.reported(writing=True):
                self.file_system.delete_file(self.where)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @contextmanager
    def reported(self, *, writing: bool = False) -> Iterator[None]:
        """What pyarrow raises in the block becomes one error that names the argument."""
        try:
            yield
        except FileNotFoundError:
            raise self._missing() from None
        except (OSError, ValueError, NotImplementedError) as error:  # pa.ArrowInvalid is the second
            said = str(error)
            raise refusal(self.argument, str(self), self.bucket, said, writing=writing) from None

    def _at(self, key: str) -> ObjectPath:
        return ObjectPath(self.scheme, self.authority, key, self.argument)

    def _info(self) -> Any:
        with self.reported():
            return self.file_system.get_file_info(self.where)

    def _kind(self) -> str:
        kind: str = (self.found or self._info()).type.name
        if kind == "NotFound" and self.key and not _bucket_is_there(self._at("")):
            raise self._without_bucket()
        return kind

    def _listed(self, *, recursive: bool) -> list[ObjectPath]:
        from pyarrow.fs import FileSelector  # noqa: PLC0415 - only for whom it is needed

        with self.reported():
            selected = FileSelector(self.where, recursive=recursive)
            infos = self.file_system.get_file_info(selected)
        prefix = len(self.bucket) + 1
        return [
            ObjectPath(self.scheme, self.authority, i.path[prefix:].strip("/"), self.argument, i)
            for i in infos
        ]

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(2, "there is no such object", str(self))

    def _without_bucket(self) -> InputError:
        return InputError(self.argument, self, without_bucket(self.bucket))


Place = Path | ObjectPath


def place(text: str | Path | ObjectPath, argument: str = "address") -> Place:
    """Where the data named by a command line, a setting or a program lie.

    argument: what errors name. Raises InputError for an address that can't be used.
    """
    if not isinstance(text, str):
        return text
    found = _ADDRESS.match(text)
    if found is None:
        return Path(text)
    scheme = found[1].lower()
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise InputError(argument, text, "write file:///, with three slashes, and the path")
        return Path(unquote(parts.path))
    if scheme not in _SCHEMES:
        also = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "az": "abfs", "wasb": "abfs"}.get(scheme)
        remedy = f"write {also}://" if also else _USE
        raise InputError(argument, f"{scheme}://...", f"{scheme} is not known; {remedy}")
    authority, _, key = text[found.end() :].partition("/")
    user, at, _host = authority.rpartition("@")
    # Arrow would take s3://KEY:SECRET@bucket; whoever reads a log or a manifest would have it, too.
    if ":" in user or (at and scheme in ("s3", "gs")) or "?" in text:
        remedy = "an address may hold neither credentials nor ?; give those by the environment"
        raise InputError(argument, f"{scheme}://...", remedy)
    if not authority:
        raise InputError(argument, text, f"names no bucket; {_USE}")
    return ObjectPath(scheme, authority, key.strip("/"), argument)


def is_address(text: object) -> TypeGuard[str]:
    """Whether it is text with a scheme, such as s3://, and no path."""
    return isinstance(text, str) and _ADDRESS.match(text) is not None


def places(texts: list[str], argument: str) -> list[Place]:
    """Each of them as a `place`."""
    return [place(text, argument) for text in texts]


def absolute(where: Place) -> Place:
    """Without its links followed."""
    return where if isinstance(where, ObjectPath) else Path(os.path.abspath(where))


@contextmanager
def on_disk(where: Place) -> Iterator[Path]:
    """The file itself; of an object a copy among the temporary files, gone after the block."""
    if isinstance(where, Path):
        yield where
        return
    # Without a name, so that it is gone however the process ends.
    with tempfile.TemporaryFile(prefix="stream-scorer-") as copy, where.open() as source:
        shutil.copyfileobj(source, copy, _MOST_BYTES)
        copy.flush()
        yield Path(f"/proc/self/fd/{copy.fileno()}")


class _ObjectStream(io.RawIOBase):
    """An object's bytes, asked for in parts that grow while they are read in order."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self._at = path, 0
        with path.reported():
            self._source = path.file_system.open_input_file(path.where)
            self._size = self._source.size()
        self._part, self._part_at, self._next = b"", 0, _FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        within = self._at - self._part_at
        if not 0 <= within < len(self._part):
            wanted = min(max(len(view), self._next), max(self._size - self._at, 0))
            in_order = self._at == self._part_at + len(self._part)
            with self._path.reported():
                self._part = self._source.read_at(wanted, self._at) if wanted else b""
            self._part_at, within = self._at, 0
            self._next = min(4 * self._next, _MOST_BYTES) if in_order else _FIRST_BYTES
        given = self._part[within : within + len(view)]
        view[: len(given)] = given
        self._at += len(given)
        return len(given)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def _bucket_is_there(bucket: ObjectPath) -> bool:
    """False only where the server says so: who may write need not be allowed to ask."""
    try:
        return bool(bucket._info().type.name != "NotFound")
    except InputError:
        return True
