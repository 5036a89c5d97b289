"""Which files the given paths stand for, and the format of each, before any of them is read.

All files are looked at first, so that a wrong path does not end a job halfway. Nothing in a
directory is passed over but names that begin with "." or "_", as other tools do: what can't be read
is refused by its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from stream_scorer.errors import EventFileError
from stream_scorer.io.files.avro_blocks import MAGIC as AVRO_MAGIC
from stream_scorer.io.files.compressed import SUFFIXES as COMPRESSED_SUFFIXES
from stream_scorer.io.files.compressed import codec_of, open_plain, unreadable_data
from stream_scorer.storage.places import ObjectPath, Place, place

PARQUET_MAGIC = b"PAR1"
JSON_SUFFIXES = (".jsonl", ".ndjson")
# How text begins that is not UTF-8 but UTF-16 or UTF-32: as a mark says, or with a zero byte.
_WIDE_TEXT = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"{\0", b"[\0", b"\0{", b"\0[", b"\0\0\0")
_BOM = b"\xef\xbb\xbf"
_START_BYTES = 64


def files_of(paths: Sequence[Place]) -> dict[Place, Place]:
    """Each event file of `paths`, in the order of reading, and the path that it was given by.

    Raises EventFileError for a path that is no event file, and for a file that is given twice, also
    where a link gives it a second name: its events would count twice.
    """
    given_as: dict[Place, Place] = {}
    seen: dict[object, Place] = {}
    for path in map(place, paths):
        for file in _listed(path):
            identity = _regular_file(file)
            before = seen.setdefault(identity, file)
            if file in given_as:
                raise EventFileError("events", file, "is given twice; name it once")
            if before != file:
                remedy = f"is the same file as {before}; leave one of the two out"
                raise EventFileError("events", file, remedy)
            format_of(file)
            given_as[file] = path
    return given_as


def format_of(path: Place) -> str:
    """One of "avro", "parquet", "json" and "json array", by how the file begins.

    Raises EventFileError for any other file.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_START_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    compressed = codec_of(start) is not None
    if compressed:
        start = _decompressed_start(path)
    found = "avro" if start[:4] == AVRO_MAGIC else "parquet" if start[:4] == PARQUET_MAGIC else None
    if found and not compressed:
        return found
    if found:
        remedy = "is compressed as a whole; decompress it, since Avro and Parquet compress inside"
        raise EventFileError("events", path, remedy)
    if start == b"\0" * _START_BYTES:
        raise EventFileError("events", path, "begins with zero bytes only; write or copy it again")
    if start.startswith(_WIDE_TEXT):
        raise EventFileError("events", path, "is UTF-16 or UTF-32 text; save it as UTF-8")
    text = start.removeprefix(_BOM).lstrip()
    if text[:1] == b"[":
        return "json array"
    name = path.name
    for suffix in COMPRESSED_SUFFIXES if compressed else ():
        name = name.removesuffix(suffix)
    if name.endswith(JSON_SUFFIXES) or text[:1] == b"{":
        return "json"
    # An empty file of JSON lines has no events; one of any other kind was not written to its end.
    if not start:
        raise EventFileError("events", path, "is empty; write it again or leave it out")
    raise EventFileError(
        "events", path,
        "not an event file; give Avro containers, Parquet or JSON lines (.jsonl, .ndjson), these "
        "also with gzip, Zstandard or bzip2",
    )  # fmt: skip


def partition_columns(path: Place, fields: Sequence[str]) -> dict[str, str]:
    """Of those fields that directories of the path name, as in category_id=bread/, the directory.

    Spark, Hive and DuckDB leave such columns out of the files. Their values are not read from the
    path, so a file that lacks one is refused.
    """
    return {
        name: part for part in path.parts[:-1] for name in fields if part.startswith(f"{name}=")
    }


def lacks_partition_column(name: str, part: str) -> str:
    """What is said of a file or record that lacks the field `name`, which the directory names."""
    return f"lacks {name}, which only its directory {part} names; write it into the file, too"


def unreadable(path: Place, error: OSError) -> EventFileError:
    """For a file that the system does not open or read."""
    reason = error.strerror or str(error) or type(error).__name__
    return EventFileError("events", path, f"can't be opened ({reason}); check path and permissions")


def _listed(path: Place) -> Sequence[Place]:
    if not path.is_dir():
        return [path]
    files = _objects(path) if isinstance(path, ObjectPath) else sorted(_walked(path))
    if not files:
        raise EventFileError("events", path, "the directory holds no files")
    return files


def _objects(top: ObjectPath) -> list[ObjectPath]:
    """All objects below `top`."""
    above = len(top.parts)
    return [
        path
        for path in top.walk()
        if not any(name.startswith((".", "_")) for name in path.parts[above:])
    ]


def _walked(top: Path) -> Iterator[Path]:
    """All files below `top`, those of linked directories too."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from error

    for folder, folders, files in os.walk(top, onerror=refuse, followlinks=True):
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in seen:
            remedy = "is a link to a directory that is read anyway; remove the link"
            raise EventFileError("events", folder, remedy)
        seen.add((about.st_dev, about.st_ino))
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        yield from (Path(folder, name) for name in files if not name.startswith((".", "_")))


def _regular_file(path: Place) -> object:
    """What identifies the file, whatever its name. Raises EventFileError for anything else."""
    try:
        about = path.stat()
    except OSError as error:
        if isinstance(path, Path) and path.is_symlink():
            remedy = (
                f"is a link to {os.readlink(path)}, which can't be opened; correct or remove it"
            )
            raise EventFileError("events", path, remedy) from error
        raise unreadable(path, error) from error
    # Opening a pipe would wait for whoever writes to it; a device may have no end.
    if not stat.S_ISREG(about.st_mode):
        remedy = "is a pipe, a socket or a device; write its content to a file and give that"
        raise EventFileError("events", path, remedy)
    return path if isinstance(path, ObjectPath) else (about.st_dev, about.st_ino)


def _decompressed_start(path: Place) -> bytes:
    try:
        with open_plain(path) as stream:
            start = stream.read(_START_BYTES)
    except OSError as error:
        raise EventFileError("events", path, unreadable_data(error, 0)) from error
    if codec_of(start) is not None:
        raise EventFileError("events", path, "is compressed twice; decompress it once")
    return start
