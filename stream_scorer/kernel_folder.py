"""Where compiled code is kept: a folder for each state of the sources.

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
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numba
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


def required() -> Path:
    """The folder. Raises OSError where there is none."""
    folder = cache_folder()
    if folder is None:
        raise OSError("there is no folder for compiled kernels")
    return folder


def is_complete() -> bool:
    """Whether the folder holds every kernel for this processor and this Python."""
    folder = cache_folder()
    return folder is not None and _is_complete(folder)


def mark_complete() -> None:
    """Note that every kernel is there. Raises OSError where the folder can't be written to."""
    (required() / _mark()).touch()


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
    uses = f"from {_PACKAGE}.jit import".encode()
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
