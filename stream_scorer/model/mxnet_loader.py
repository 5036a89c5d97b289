"""The one import of mxnet, made to work beside today's numpy and to leave the process as it was.

MXNet 1.9.1 uses numpy's old aliases, which numpy 1.24 removed: they are put back before the import.
It also uses `scipy.sparse.csr`, about which newer SciPy warns. Importing it installs a C handler
for SIGSEGV; every signal's handler is read before the import and put back after it, so that the
program's own (and faulthandler's) stay in place.

Its modules for quantisation and for its own tests import scipy.stats where there is one, which was
a third of the time of the import (0.5 of 1.7 s); nothing here uses it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.errors import ConfigError
from stream_scorer.runtime import usable_cores

_SIGACTION_BYTES = 512  # more than struct sigaction takes on any Linux


def _restore_numpy_aliases() -> None:
    for kind in (bool, int, float, object, complex, str):
        if kind.__name__ not in vars(np):
            setattr(np, kind.__name__, kind)


def _signal_handlers() -> dict[int, Any]:
    """Each signal's handler as the C library keeps it."""
    # By the C library, because Python's `signal` does not see what C code has installed.
    libc = ctypes.CDLL(None)
    handlers = {}
    for number in signal.valid_signals():
        kept = ctypes.create_string_buffer(_SIGACTION_BYTES)
        if libc.sigaction(int(number), None, kept) == 0:
            handlers[int(number)] = kept
    return handlers


def _restore(handlers: dict[int, Any]) -> None:
    libc = ctypes.CDLL(None)
    for number, kept in handlers.items():
        libc.sigaction(number, kept, None)


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Inside this context the import of `module` fails, if it was not imported before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment] # Python's own sign for that
    try:
        yield
    finally:
        del sys.modules[module]


def _remedy(error: ImportError | OSError) -> str:
    if isinstance(error, OSError):
        wanted = "MXNet lacks a system library; install libgomp1 and libquadmath0 (Debian's names)"
    else:
        wanted = "MXNet needs Python 3.10 to 3.12 on Linux x86-64, and numpy 1"
    return f'{wanted}. To score without MXNet set model.engine = "native"'


def _load() -> Any:
    """MXNet. Raises ConfigError where it can't be imported."""
    _restore_numpy_aliases()
    # Without this MXNet writes a line to stderr for every network that is bound.
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    # Without this MXNet uses half of the cores: on two cores, one.
    # Spark sets OMP_NUM_THREADS to the cores of a task, and a user may; then that counts.
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("MXNET_OMP_MAX_THREADS", str(usable_cores()))
    handlers = _signal_handlers()
    try:
        with warnings.catch_warnings(), _without("scipy.stats"):
            warnings.simplefilter("ignore")
            import mxnet  # noqa: PLC0415 - only after the aliases are back
    except (ImportError, OSError) as error:
        raise ConfigError("mxnet", error, _remedy(error)) from error
    finally:
        _restore(handlers)
    classes = {"csr_matrix": sparse.csr_matrix, "coo_matrix": sparse.coo_matrix}
    # MXNet looks up `spsp.csr.csr_matrix` at every use, and SciPy would warn at every use.
    for module in (mxnet.ndarray.sparse, mxnet.ndarray.utils):
        module.spsp = SimpleNamespace(csr=SimpleNamespace(**classes), **classes)
    return mxnet


mx = _load()
