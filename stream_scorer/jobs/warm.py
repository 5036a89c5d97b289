"""`stream-scorer warm`: every kernel compiled ahead, for images and before a first start.

Which kernels there are and for which types is the same for all settings, so it takes none. What it
compiles is for this processor, this Python and this version of the package (kernel_folder.py).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from stream_scorer import kernel_folder
from stream_scorer.errors import InputError
from stream_scorer.live.warming import compile_all
from stream_scorer.result import Result


@dataclass(frozen=True)
class Warmed(Result):
    """kernels: how many are in `folder` now. compiled: how many compilations that took, one for
    each kernel and types of arguments; 0 where all were there. processor: what they are for."""

    kernels: int
    compiled: int
    folder: str
    processor: str
    seconds: float


def warm() -> Warmed:
    """Compile what is missing.

    Raises InputError where compiled code can't be kept in the folder that the environment names, or
    in any, and Halt where it can't be compiled.
    """
    started = time.monotonic()
    folder = kernel_folder.cache_folder()
    given = os.environ.get(kernel_folder.CACHE_VARIABLE, "")
    named = [Path(name) for name in given.split(os.pathsep) if name]
    remedy = "can't be written to; name a folder that can, or correct its permissions"
    if folder is None or (named and folder.parent not in named):
        raise InputError(kernel_folder.CACHE_VARIABLE, given, remedy)
    try:
        ready = compile_all()
    except OSError as error:
        raise InputError(
            kernel_folder.CACHE_VARIABLE, folder.parent, f"{remedy} ({error})"
        ) from None
    seconds = round(time.monotonic() - started, 3)
    return Warmed(ready.kernels, ready.compiled, str(folder), kernel_folder.processor(), seconds)


def in_words(warmed: Warmed) -> list[str]:
    """The result for people."""
    there = f"{warmed.kernels} kernels for {warmed.processor} are in {warmed.folder}"
    if not warmed.compiled:
        return [f"nothing to compile: {there}"]
    return [f"{there}, after {warmed.compiled} compilations in {warmed.seconds:.1f} s"]
