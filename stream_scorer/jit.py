"""`kernel`, the decorator of every compiled loop in the package, and where compiled code is kept.

How the cache works: numba can keep machine code on disk, but it decides whether that code is still
good by the source file of the function that Python calls. A kernel calls helpers of other files and
takes in their constants, so a change there would go unseen and the old code would go on running.
Here compiled code lies in a folder whose name is a hash of numba's version, of whether bounds are
checked, and of the source of every module that has kernels, with every module that those import.
Any edit gives another folder.
numba itself tells apart processors, Python versions and argument types within a folder.

The folders stand in the first of these that can be written to:

1. `STREAM_SCORER_KERNEL_CACHE`, then `NUMBA_CACHE_DIR`, from the environment;
2. the user's cache folder, such as `~/.cache/stream_scorer`;
3. a folder of this user alone among the temporary files.

Where none can be written to, kernels are compiled at each start; that is slow, never an error.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
from numba.core import cgutils, types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.extending import intrinsic
from numba.misc.appdirs import AppDirs

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable  # of Python 3.11 and later

CACHE_VARIABLE = "STREAM_SCORER_KERNEL_CACHE"
# Folders of earlier sources that stay, so that two checkouts don't push each other out.
KEPT_FOLDERS = 10
# Set by NUMBA_BOUNDSCHECK=1: an index outside of its array is then an IndexError and no wild read.
# Tests of kernels run so, too; it is too slow for anything else.
BOUNDS_ARE_CHECKED = bool(numba.config.BOUNDSCHECK)  # type: ignore[attr-defined]

_PACKAGE = __name__.partition(".")[0]
_IMPORTED = re.compile(rf"\b(?:from|import) +({_PACKAGE}(?:\.\w+)*)")
_FOLDER_NAME = re.compile(r"kernels-[0-9a-f]{32}")


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
    if compiled is not function and cache_folder() is not None:
        # In place of numba's `cache=True`, which sees changes of this function's own file alone.
        compiled._cache = _KernelCache(function)  # type: ignore[no-untyped-call]
    return compiled


@cache
def source_hash() -> str:
    """32 hexadecimal digits that change with any source that compiled code depends on, and with
    whether bounds are checked."""
    digest = hashlib.sha256(f"{numba.__version__} {BOUNDS_ARE_CHECKED}".encode())
    for name, source in sorted(_kernel_sources().items()):
        # With name and length, so that text that moves from one module to the next changes the
        # hash.
        digest.update(f"\n{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:32]


@cache
def cache_folder() -> Path | None:
    """Where this source's compiled code is kept, made if need be; None where nothing can be."""
    for root in _roots():
        folder = root / f"kernels-{source_hash()}"
        try:
            is_new = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # only a write shows that one can write
            os.utime(folder)  # marks it as in use, see _drop_old_folders
        except OSError:
            continue
        if is_new:
            _drop_old_folders(root, folder)
        return folder
    return None


def _kernel_sources() -> dict[str, bytes]:
    """Module -> source, of all modules with kernels and all that these import, however far."""
    modules = dict(_modules(files(_PACKAGE), _PACKAGE))
    uses = f"from {__name__} import".encode()
    waiting = [name for name, source in modules.items() if uses in source]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for imported in _IMPORTED.findall(modules[name].decode()):
            # `from package.folder import module` names a folder: all modules in it are taken.
            inside = [m for m in modules if m.rpartition(".")[0] == imported]
            waiting += [imported] if imported in modules else inside
    return {name: modules[name] for name in found}


def _modules(folder: Traversable, package: str) -> Iterator[tuple[str, bytes]]:
    """Full name and source of every module; also where the package is read from a zip archive."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _modules(entry, f"{package}.{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{package}.{entry.name.removesuffix('.py')}", entry.read_bytes()


def _roots() -> Iterator[Path]:
    """Folders to try, best first."""
    for given in (os.environ.get(CACHE_VARIABLE), os.environ.get("NUMBA_CACHE_DIR")):
        if given:
            yield Path(given)
    folders = AppDirs(_PACKAGE, appauthor=False)  # type: ignore[no-untyped-call]
    yield Path(folders.user_cache_dir)
    private = _private_temporary_folder()
    if private is not None:
        yield private


def _private_temporary_folder() -> Path | None:
    """A folder of this user alone, the same at every start.

    Cached code is run, so a folder that another user made under this name must not be used.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        folder = Path(tempfile.gettempdir()) / f"{_PACKAGE}-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        # Not `stat`, which would follow a link that another user made.
        status = folder.lstat()
    except OSError:
        return None
    is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    is_private = os.name == "nt" or not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if stat.S_ISDIR(status.st_mode) and is_ours and is_private else None


def _drop_old_folders(root: Path, current: Path) -> None:
    """Delete all but the KEPT_FOLDERS most recently used folders of other sources.

    A process that still runs on one of them only has to compile again what it did not load yet.
    """
    try:
        others = [
            (entry.stat().st_mtime, entry)
            for entry in root.iterdir()
            if _FOLDER_NAME.fullmatch(entry.name) and entry != current and entry.is_dir()
        ]
    except OSError:  # another process deletes at the same time
        return
    for _, folder in sorted(others, reverse=True)[KEPT_FOLDERS:]:
        shutil.rmtree(folder, ignore_errors=True)


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


class _KernelCache(FunctionCache):
    """numba's cache, but a file that can't be read or written only means that code is compiled."""

    _impl_class = _CacheImplementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, pickle.UnpicklingError):
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, pickle.UnpicklingError):  # saving reads the index first
            return


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
