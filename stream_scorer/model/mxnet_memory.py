"""MXNet's own memory as NumPy arrays: nothing is copied.

MXNet computes on threads of its own; each function waits until that is safe.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from stream_scorer.core.features.state import Float32
from stream_scorer.model.mxnet_loader import mx


def memory_to_read(array: Any, rows: int | None = None) -> Float32:
    """What a float32 array (R, H) holds, once it is computed; `rows` rows of a row_sparse one."""
    array.wait_to_read()
    return _memory(array, array.shape[0] if rows is None else rows)


def memory_to_write(array: Any) -> Float32:
    """An array (R, H) that nothing computed earlier will still read or write."""
    mx.base.check_call(mx.base._LIB.MXNDArrayWaitToWrite(array.handle))
    return _memory(array, array.shape[0])


def _memory(array: Any, rows: int) -> Float32:
    at = ctypes.POINTER(ctypes.c_float)()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(at)))
    shape = (rows, *array.shape[1:])
    # MXNet gives a null pointer for an array without rows, and numpy refuses one.
    return np.ctypeslib.as_array(at, shape) if rows else np.zeros(shape, np.float32)
