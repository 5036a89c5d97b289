"""What every compiled kernel is built with."""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic


def _bytes_of(typingctx: Any, array: Any) -> Any:
    """Within a kernel: the bare pointer to the bytes of an array that outlives its use.

    numba counts references when an array goes into a function; with an array as the argument of
    `get_long` these atomic counters took four fifths of the decoder's time.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        proxy: Any = cgutils.create_struct_proxy
        return proxy(signature.args[0])(context, builder, args[0]).data

    pointer: Any = types.CPointer
    return pointer(array.dtype)(array), codegen


bytes_of: Any = intrinsic(_bytes_of)
