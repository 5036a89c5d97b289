"""Blocks of an Avro object container file, decompressed up to a limit.

Read here and not by fastavro, which decompresses a block whole however large it becomes. The format
is that of the Avro specification, "Object Container Files". Snappy and Zstandard are pyarrow's.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import pyarrow as pa

from stream_scorer.errors import EventFileError
from stream_scorer.storage.places import Place

MAGIC = b"Obj\x01"
# What a record takes in memory beside its own bytes, about. Without it a block of records that are
# empty or nearly so would become gigabytes of small objects.
RECORD_OVERHEAD_BYTES = 64

_SYNC_BYTES = 16
# Entries of the header; writers make two, or a few. Two bytes are enough for one, so that reading a
# header of zeros took 20 minutes for each gigabyte.
_MOST_METADATA = 1_000
_CHUNK_BYTES = 2**20
# xz asks for memory before it decompresses anything; its strongest preset for 65 MiB.
_LEAST_XZ_MEMORY = 2**27


class Block(NamedTuple):
    """records: how many, as the file has it."""

    records: int
    content: bytes


class _TooLargeError(Exception):
    """A block that decompresses to more than may be."""


class _CorruptError(Exception):
    """Bytes that are no Avro container."""


class AvroBlocks:
    """The blocks of an open container file, in order, and `schema`, the JSON of its writer schema.

    Raises EventFileError, also while iterating, for a file that is corrupt or cut short, has a
    codec that is not known, or a block of more than max_block_bytes.
    """

    def __init__(self, path: Place, stream: IO[bytes], max_block_bytes: int) -> None:
        self._path, self._stream, self._most = path, stream, max_block_bytes
        try:
            metadata, self._sync = self._header()
            if "avro.schema" not in metadata:
                raise _CorruptError("its header has no avro.schema")
            self.schema = metadata["avro.schema"].decode()
            codec = metadata.get("avro.codec", b"null").decode()
        except (_CorruptError, UnicodeDecodeError) as error:
            remedy = f"not a readable Avro container ({error}); write or copy it again"
            raise EventFileError("events", path, remedy) from error
        except _TooLargeError:
            remedy = f"its header has more than events.max_block_bytes, {max_block_bytes}"
            raise EventFileError("events", path, f"{remedy}; write or copy it again") from None
        if codec not in _CODECS:
            known = ", ".join(_CODECS)
            remedy = f"its codec {codec[:40]!r} is not known; write it with one of {known}"
            raise EventFileError("events", path, remedy)
        self._decompress = _CODECS[codec]

    def __iter__(self) -> Iterator[Block]:
        records = 0
        while first := self._stream.read(1):
            try:
                block = self._block(first)
            except _TooLargeError:
                remedy = (
                    f"a block after {records} records has more than events.max_block_bytes, "
                    f"{self._most}; raise that if the file is what it should be"
                )
                raise EventFileError("events", self._path, remedy) from None
            # The last four are what the decompressors raise.
            except (_CorruptError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
                remedy = f"corrupt or cut short after {records} records ({error}); copy it again"
                raise EventFileError("events", self._path, remedy) from error
            yield block
            records += block.records

    def _header(self) -> tuple[dict[str, bytes], bytes]:
        if self._exactly(len(MAGIC)) != MAGIC:
            raise _CorruptError("it does not begin as one")
        metadata: dict[str, bytes] = {}
        read = entries = 0
        while count := self._long():
            if count < 0:
                # The block's size in bytes follows, for readers that skip it.
                count = -count
                self._long()
            entries += count
            if entries > _MOST_METADATA:
                raise _CorruptError(f"its header says that it has {entries} entries")
            for _ in range(count):
                key, value = self._bytes(), self._bytes()
                metadata[key.decode(errors="replace")] = value
                read += len(key) + len(value)
                if read > self._most:
                    raise _TooLargeError
        return metadata, self._exactly(_SYNC_BYTES)

    def _block(self, first: bytes) -> Block:
        count = self._long(first)
        if count < 0:
            raise _CorruptError("a negative number of records")
        content = self._decompress(self._bytes(), self._most)
        if self._exactly(_SYNC_BYTES) != self._sync:
            raise _CorruptError("no sync marker after a block")
        if min(count, len(content)) * RECORD_OVERHEAD_BYTES > self._most:
            raise _TooLargeError
        return Block(count, content)

    def _bytes(self) -> bytes:
        length = self._long()
        if length < 0:
            raise _CorruptError("a negative length")
        # Compressed or not, that is too much; and reading would ask for the memory at once.
        if length > self._most:
            raise _TooLargeError
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:
            raise _CorruptError("the file ends too early")
        return data

    def _long(self, first: bytes = b"") -> int:
        number = shift = 0
        byte = first or self._exactly(1)
        while True:
            number |= (byte[0] & 127) << shift
            if byte[0] < 128:
                return (number >> 1) ^ -(number & 1)
            shift += 7
            if shift > 63:
                raise _CorruptError("a number of more than 64 bits")
            byte = self._exactly(1)


def _null(data: bytes, most: int) -> bytes:
    return _within(data, most)


def _deflate(data: bytes, most: int) -> bytes:
    # -15: raw, without zlib's header. Some writers leave bytes of zlib's checksum behind it.
    decompressor = zlib.decompressobj(-15)
    return _ended(decompressor.decompress(data, most + 1), decompressor.eof, most)


def _bzip2(data: bytes, most: int) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    return _alone(decompressor.decompress(data, most + 1), decompressor, most)


def _xz(data: bytes, most: int) -> bytes:
    decompressor = lzma.LZMADecompressor(memlimit=max(most, _LEAST_XZ_MEMORY))
    return _alone(decompressor.decompress(data, most + 1), decompressor, most)


def _snappy(data: bytes, most: int) -> bytes:
    # Before the data stands what it decompresses to, as a varint; behind it a CRC-32, big-endian.
    body, checksum = data[:-4], data[-4:]
    length = shift = 0
    for byte in body[:5]:
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    _check(length, most)
    content = pa.Codec("snappy").decompress(body, length, asbytes=True)
    if zlib.crc32(content) != int.from_bytes(checksum, "big"):
        raise _CorruptError("a wrong checksum")
    return bytes(content)


def _zstandard(data: bytes, most: int) -> bytes:
    # A frame need not say how long its content is, so it is read piece by piece.
    stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
    pieces, length = [], 0
    while piece := stream.read(_CHUNK_BYTES):
        pieces.append(piece)
        length += len(piece)
        _check(length, most)
    return b"".join(pieces)


def _ended(content: bytes, whole: bool, most: int) -> bytes:
    _within(content, most)
    if not whole:
        raise _CorruptError("a block is cut short")
    return content


def _alone(
    content: bytes, decompressor: bz2.BZ2Decompressor | lzma.LZMADecompressor, most: int
) -> bytes:
    _ended(content, decompressor.eof, most)
    if decompressor.unused_data:  # records of a second stream would be lost
        raise _CorruptError("bytes left over after a block")
    return content


def _within(content: bytes, most: int) -> bytes:
    _check(len(content), most)
    return content


def _check(length: int, most: int) -> None:
    if length > most:
        raise _TooLargeError


_CODECS: dict[str, Callable[[bytes, int], bytes]] = {
    "null": _null,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": _bzip2,
    "xz": _xz,
}
