"""`kernel`, the decorator of every compiled loop in the package.

Machine code is kept in a folder (kernel_folder.py). Several processes may compile into it at the
same time: each signature of a kernel has a file of its own, written whole or not at all. What is
not there is compiled when it is first called; missing_kernels.py says what is done before that.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numba
from numba.core import cgutils, types
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    NullCache,
    _CacheLocator,
)
from numba.extending import intrinsic

from stream_scorer.kernel_folder import BOUNDS_ARE_CHECKED, cache_folder, source_hash
from stream_scorer.missing_kernels import compiled_ahead

_declared: list[str] = []
_watchers: list[Callable[[str, bool], None]] = []


def kernel(
    function: Callable[..., Any] | None = None,
    *,
    inline: bool = False,
    fastmath: set[str] | None = None,
    error_model: str = "python",
) -> Any:
    """Compile `function` with numba when it is first called; it runs without the GIL.

    inline: put its code into its callers before types are known, which also lets one source work
    on arrays and on bare pointers. fastmath and error_model are numba's own.
    """
    if function is None:
        return lambda given: kernel(
            given, inline=inline, fastmath=fastmath, error_model=error_model
        )
    options: dict[str, Any] = {
        "nogil": True, "inline": "always" if inline else "never",
        "fastmath": fastmath or False, "error_model": error_model,
    }  # fmt: skip
    compiled: Any = numba.njit(**options)(function)
    # With NUMBA_DISABLE_JIT=1 numba gives the Python function back.
    if compiled is function:
        return compiled
    if not inline:
        _declared.append(_name_of(function))
    # In place of numba's `cache=True`, which sees changes of this function's own file alone.
    compiled._cache = _NoCache() if cache_folder() is None else _KernelCache(function)
    return compiled


def _name_of(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def kernels() -> tuple[str, ...]:
    """The kernels of all modules that were imported until now, without those that are inlined."""
    return tuple(_declared)


@contextmanager
def watching(seen: Callable[[str, bool], None]) -> Iterator[None]:
    """Call `seen` with the name of each kernel that is compiled or read from the folder, and with
    whether it was compiled. A kernel comes once for each signature."""
    _watchers.append(seen)
    try:
        yield
    finally:
        _watchers.remove(seen)


class _Locator(_CacheLocator):
    """Tells numba where the compiled code of one function is kept."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        self._name = f"{function.__module__}-{function.__code__.co_firstlineno}"
        self._py_file = path  # read by numba where it warns that a function can't be cached

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_hash()

    def get_disambiguator(self) -> str:
        return self._name


class _CacheImplementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - as numba declares it


class _FilePerSignature(IndexDataCacheFile):
    """numba's files of one function, without the index that all its signatures share.

    numba reads the index, gives the new code the next free number, and writes the index: of two
    processes that do so at the same time for two signatures, both write their code under the same
    number, and one signature is then called with the code of the other.
    """

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._file_of(key), (repr(key), data))  # type: ignore[no-untyped-call]

    def load(self, key: Any) -> Any:
        try:
            found, data = self._load_data(self._file_of(key))  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            return None
        return data if found == repr(key) else None

    def _file_of(self, key: Any) -> str:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        return f"{self._index_name.removesuffix('.nbi')}.{digest[:32]}.nbc"


class _NoCache(NullCache):
    """Of a kernel whose code can't be kept."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        compiled_ahead()


class _KernelCache(FunctionCache):
    """numba's cache, but a file that can't be read or written only means that code is compiled."""

    _impl_class = _CacheImplementation

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._kernel = _name_of(function)
        self._cache_file = _FilePerSignature(  # type: ignore[no-untyped-call]
            self._cache_path, self._impl.filename_base, source_hash()
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._read(sig, target_context)
        if found is None and compiled_ahead():
            found = self._read(sig, target_context)
        if found is not None:
            self._report(compiled=False)
        return found

    def _read(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # it is compiled again at the next start
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        self._report(compiled=True)

    def _report(self, *, compiled: bool) -> None:
        for seen in _watchers:
            seen(self._kernel, compiled)


def _bytes_of(typingctx: Any, array: Any) -> Any:
    """Within a kernel: the bare pointer to the bytes of an array.

    numba counts references when an array goes into a function; with an array as the argument of
    `get_long` these atomic counters took four fifths of the decoder's time. But it also frees an
    array after the last use that it sees, and the use of a pointer is none. So take pointers only
    of arguments, or of arrays that are named again after the pointer's last use.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        proxy: Any = cgutils.create_struct_proxy
        return proxy(signature.args[0])(context, builder, args[0]).data

    pointer: Any = types.CPointer
    return pointer(array.dtype)(array), codegen


def _elements_of(array: Any) -> Any:
    """In place of `_bytes_of` where bounds are checked: a bare pointer has none."""
    return array.reshape(array.size)


bytes_of: Any = numba.njit(_elements_of) if BOUNDS_ARE_CHECKED else intrinsic(_bytes_of)


def _bits_as_float(typingctx: Any, bits: Any) -> Any:
    """Within a kernel: the float32 whose bits an int32 has."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


float_of_bits: Any = intrinsic(_bits_as_float)
