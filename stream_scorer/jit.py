"""`kernel`, the decorator of every compiled loop in the package, and where compiled code is kept.

How the cache works: numba can keep machine code on disk, but it decides whether that code is still
good by the source file of the function that Python calls. A kernel calls helpers of other files and
takes in their constants, so a change there would go unseen and the old code would go on running.
Here compiled code lies in a folder whose name is a hash of numba's version, of whether bounds are
checked, and of the source of every module that has kernels, with every module that those import.
Any edit gives another folder.
numba itself tells apart processors, Python versions and argument types within a folder.

Places for these folders, in order:

1. `STREAM_SCORER_KERNEL_CACHE`, which may name several with a colon between, as PATH does, then
   `NUMBA_CACHE_DIR`, from the environment;
2. the user's cache folder, such as `~/.cache/stream_scorer`;
3. a folder of this user alone among the temporary files.

Of those that `STREAM_SCORER_KERNEL_CACHE` names the first that holds every kernel for this
processor is used, also where it can only be read, as in an image that was built with
`stream-scorer warm`; else the first of all that can be written to. Where there is none, kernels
are compiled at each start; that is slow, never an error.

Several processes may compile into one folder at the same time: each signature of a kernel has a
file of its own, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numba
from numba.core import cgutils, types
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    _CacheLocator,
)
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
    if cache_folder() is not None:
        # In place of numba's `cache=True`, which sees changes of this function's own file alone.
        compiled._cache = _KernelCache(function)
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
    name = f"kernels-{source_hash()}"
    folders = [root / name for root in _roots()]
    # Only of those that were named: one that was named and is empty comes before the user's own.
    for folder in (root / name for root in _named_roots()):
        if _is_complete(folder):
            with suppress(OSError):  # one that can only be read is not deleted as an old one
                os.utime(folder)
            return folder
    for folder in folders:
        root = folder.parent
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


def is_complete() -> bool:
    """Whether the folder holds every kernel for this processor and this Python."""
    folder = cache_folder()
    return folder is not None and _is_complete(folder)


def mark_complete() -> None:
    """Note that every kernel is there. Raises OSError where the folder can't be written to."""
    folder = cache_folder()
    if folder is not None:
        (folder / _mark()).touch()


def _is_complete(folder: Path) -> bool:
    try:
        return (folder / _mark()).exists()
    except OSError:
        return False


@cache
def _mark() -> str:
    """The name of the file that says that a folder is complete for this processor and Python.

    numba compiles anew where one of these differs.
    """
    config: Any = numba.config
    features = config.CPU_FEATURES
    if features is None:
        features = llvm.get_host_cpu_features().flatten()
    told_apart = (sys.version_info[:2], llvm.get_process_triple(), processor(), features)
    return f"complete-{hashlib.sha256(repr(told_apart).encode()).hexdigest()[:16]}"


def processor() -> str:
    """The kind of processor that code is compiled for: this machine's, or NUMBA_CPU_NAME."""
    config: Any = numba.config
    return str(llvm.get_host_cpu_name() if config.CPU_NAME is None else config.CPU_NAME)


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


def _named_roots() -> list[Path]:
    return [Path(given) for given in os.environ.get(CACHE_VARIABLE, "").split(os.pathsep) if given]


def _roots() -> Iterator[Path]:
    """Folders to try, best first."""
    yield from _named_roots()
    if folder := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(folder)
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
        try:
            found = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            return None
        if found is not None:
            self._report(compiled=False)
        return found

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
