"""MXNet's own memory as NumPy arrays: nothing is copied.

MXNet computes on threads of its own; each function waits until that is safe.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from stream_scorer.core.features.state import Float32
from stream_scorer.model.mxnet_loader import mx


def memory_to_read(array: Any) -> Float32:
    """What a float32 array (R, H) holds, once it is computed."""
    array.wait_to_read()
    return _memory(array)


def memory_to_write(array: Any) -> Float32:
    """An array (R, H) that nothing computed earlier will still read or write."""
    mx.base.check_call(mx.base._LIB.MXNDArrayWaitToWrite(array.handle))
    return _memory(array)


def _memory(array: Any) -> Float32:
    at = ctypes.POINTER(ctypes.c_float)()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(at)))
    # MXNet gives a null pointer for an array without rows, and numpy refuses one.
    if not array.size:
        return np.zeros(array.shape, np.float32)
    return np.ctypeslib.as_array(at, array.shape)
