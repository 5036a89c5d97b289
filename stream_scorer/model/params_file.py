"""MXNet's .params files, read and written without MXNet: dense float32 arrays only.

The format, little-endian (MXNet 1.9.1, src/ndarray/ndarray.cc): uint64 0x112, uint64 0; uint64
number of arrays; each array: uint32 0xF993FAC9, int32 storage type (0 dense), int32 dimensions,
int64 for each dimension, int32 device type (1 CPU), int32 device number, int32 data type
(0 float32), values in row order; then uint64 number of names, each uint64 length and UTF-8 bytes.
A name is "arg:" (or "aux:") and the parameter's name.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod

import numpy as np
import numpy.typing as npt

LIST_MAGIC = 0x112
ARRAY_MAGIC = 0xF993FAC9
MAX_DIMENSIONS = 8  # no parameter of ours has more than 3; a larger number is a damaged one
PREFIX = "arg:"
CPU = 1
SLACK_BYTES = 1 << 20  # so that what is wrong with a file of ours is named by its contents

Arrays = dict[str, npt.NDArray[np.float32]]


class ParamsFileError(ValueError):
    """The bytes are not a .params file that this module can read; the message says why."""


def write(arrays: Arrays) -> bytes:
    """The file's bytes; the same arrays in the same order give the same bytes."""
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays))]
    for array in arrays.values():
        shape = array.shape
        parts.append(struct.pack(f"<Iii{len(shape)}q", ARRAY_MAGIC, 0, len(shape), *shape))
        parts.append(struct.pack("<iii", 1, 0, 0))
        parts.append(np.ascontiguousarray(array, "<f4").tobytes())
    names = [f"{PREFIX}{name}".encode() for name in arrays]
    parts.append(struct.pack("<Q", len(names)))
    parts += [struct.pack("<Q", len(name)) + name for name in names]
    return b"".join(parts)


def most_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """More than a file of arrays of these shapes can have; what is longer need not be read."""
    arrays = sum(
        4 * prod(shape) + 8 * len(shape) + 64 + len(name) for name, shape in shapes.items()
    )
    return arrays + SLACK_BYTES


def read(data: bytes) -> Arrays:
    """Arrays by name, without the "arg:", read-only. Raises ParamsFileError."""
    cursor = _Cursor(data)
    magic, reserved, count = cursor.take("<QQQ")
    if magic != LIST_MAGIC or reserved:
        raise ParamsFileError(f"it does not start with {LIST_MAGIC:#x} and 0")
    arrays = [_array(cursor, number) for number in range(cursor.count(count))]
    (named,) = cursor.take("<Q")
    if named != count:
        raise ParamsFileError(f"it has {count} arrays but {named} names")
    names = []
    for _ in range(cursor.count(named)):
        (length,) = cursor.take("<Q")
        name = cursor.bytes(length).decode("utf-8", "replace")
        # MXNet takes a name without it for something else, and of two arrays of one name either.
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in names:
            raise ParamsFileError(f"it has an array {name[:60]!r}, without {PREFIX!r} or twice")
        names.append(name.removeprefix(PREFIX))
    if cursor.at != len(data):
        raise ParamsFileError(f"{len(data) - cursor.at} bytes follow its end")
    return dict(zip(names, arrays, strict=True))


def _array(cursor: _Cursor, number: int) -> npt.NDArray[np.float32]:
    magic, storage, dimensions = cursor.take("<Iii")
    if magic != ARRAY_MAGIC:
        raise ParamsFileError(f"array {number} starts with {magic:#x}, not {ARRAY_MAGIC:#x}")
    if storage != 0:
        raise ParamsFileError(f"array {number} is sparse (storage type {storage})")
    if not 0 < dimensions <= MAX_DIMENSIONS:
        raise ParamsFileError(f"array {number} has {dimensions} dimensions")
    shape = cursor.take(f"<{dimensions}q")
    device, number_of_device, kind = cursor.take("<iii")
    if (device, number_of_device) != (CPU, 0):
        raise ParamsFileError(f"array {number} is of device {device}, not of the CPU")
    if kind != 0:
        raise ParamsFileError(f"array {number} is of data type {kind}, not float32")
    if min(shape) < 1:
        raise ParamsFileError(f"array {number} has shape {shape}")
    # prod of Python's integers: numpy's would overflow for a damaged shape.
    # Copied by numpy, which lets other threads run meanwhile: a slice of bytes would not, and a
    # member that loads a model of 300 MB while it scores would pause for half a second.
    values = np.frombuffer(cursor.view(4 * prod(shape)), "<f4").copy().reshape(shape)
    values.flags.writeable = False
    return values


class _Cursor:
    """A position in bytes that never reads past their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = memoryview(data), 0

    def bytes(self, length: int) -> bytes:
        return bytes(self.view(length))

    def view(self, length: int) -> memoryview:
        if length > len(self._data) - self.at:
            raise ParamsFileError(f"it ends at byte {len(self._data)}, inside its contents")
        start, self.at = self.at, self.at + length
        return self._data[start : self.at]

    def take(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def count(self, things: int) -> int:
        """`things`, refused where they could not fit: each takes at least 8 bytes."""
        if things > len(self._data) // 8:
            raise ParamsFileError(f"it claims to hold {things} arrays, more than fit")
        return things
