"""Files that are compressed as a whole: gzip, Zstandard and bzip2, recognised by their first bytes.

They are decompressed as they are read, so that no more than the reader asks for is in memory.
"""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import IO

import pyarrow as pa

from stream_scorer.storage.places import Place

_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_BUFFER_BYTES = 2**18
SUFFIXES = (".gz", ".zst", ".bz2")


def codec_of(start: bytes) -> str | None:
    """How a file with these first bytes is compressed; None where it is not."""
    return next((codec for magic, codec in _CODECS.items() if start.startswith(magic)), None)


def open_plain(path: Place) -> IO[bytes]:
    """The bytes of the file, decompressed where it is compressed.

    Raises OSError, and so does reading: also for data that is corrupt or cut short.
    """
    with path.open("rb") as stream:
        codec = codec_of(stream.read(4))
    if codec is None:
        return path.open("rb")
    # pyarrow reads several compressed parts one after another, as `cat a.gz b.gz` makes them.
    return _Decompressed(path, codec)


class _Decompressed(BufferedReader):
    """The decompressed bytes of a file, of which `source` is what lies on disk."""

    def __init__(self, path: Place, codec: str) -> None:
        # Arrow reads a file of its own faster than one of Python.
        local = isinstance(path, Path)
        self.source = pa.OSFile(str(path)) if local else pa.PythonFile(path.open("rb"), "r")
        super().__init__(pa.CompressedInputStream(self.source, codec), _BUFFER_BYTES)


def bytes_taken(stream: IO[bytes]) -> int:
    """How far a stream of `open_plain` is in its file, in bytes as they lie on disk."""
    return stream.source.tell() if isinstance(stream, _Decompressed) else stream.tell()


def unreadable_data(error: OSError, records: int) -> str:
    """What is said of a file whose data can't be read or decompressed after so many records."""
    # Zstandard's own limit, so that a few bytes can't ask for gigabytes of memory.
    if "requires too much memory" in str(error):
        return "its Zstandard window is larger than 128 MB; compress it again without --long"
    return f"corrupt or cut short after {records} records ({error}); copy it again"
