"""The one import of mxnet, made to work beside today's numpy and to leave the process as it was.

MXNet 1.9.1 uses numpy's old aliases, which numpy 1.24 removed: they are put back before the import.
It also uses `scipy.sparse.csr`, about which newer SciPy warns. Importing it installs a C handler
for SIGSEGV; every signal's handler is read before the import and put back after it, so that the
program's own (and faulthandler's) stay in place.

Three things made the import slow, and nothing here needs them:

* for each of its 3,000 operators MXNet writes a function as text and compiles it, which took 0.64
  of 1.02 s of CPU time; here a function is made when it is first called;
* to compare version numbers it imports distutils, and setuptools puts itself in its place (0.15 s);
* its modules for quantisation and for its own tests import scipy.stats where there is one (0.5 s).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType, SimpleNamespace
from typing import Any, cast

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


@contextmanager
def _distutils_of_python() -> Iterator[None]:
    """Inside this context `distutils` is that of Python before 3.12, not setuptools'.

    It is forgotten afterwards, as setuptools warns where another was imported before it.
    """
    if sys.version_info >= (3, 12) or "distutils" in sys.modules:
        yield
        return
    finders = [f for f in sys.meta_path if type(f).__name__ == "DistutilsMetaFinder"]
    sys.meta_path[:] = [f for f in sys.meta_path if f not in finders]
    try:
        yield
    finally:
        sys.meta_path[:0] = finders
        for name in [n for n in sys.modules if n.partition(".")[0] == "distutils"]:
            del sys.modules[name]


def _made_when_called(make: Callable[[Any, str, str], Any]) -> Callable[[Any, str, str], Any]:
    """In place of MXNet's `make`, which writes and compiles the function of one operator."""

    def operator_of(handle: Any, name: str, function_name: str) -> Any:
        made = cache(lambda: make(handle, name, function_name))

        def operator(*arguments: Any, **options: Any) -> Any:
            return made()(*arguments, **options)

        operator.__name__ = function_name
        operator.__doc__ = ""  # MXNet edits some
        return operator

    return operator_of


def _imported() -> ModuleType:
    """The package, having replaced what registers its operators before its other modules use it."""
    spec = None if "mxnet" in sys.modules else find_spec("mxnet")
    if spec is not None and spec.submodule_search_locations:
        _import_by(spec)
    import mxnet  # noqa: PLC0415 - as made above, or this raises what is right

    return cast(ModuleType, mxnet)


def _import_by(spec: ModuleSpec) -> None:
    package = module_from_spec(spec)
    sys.modules["mxnet"] = package
    try:
        base: Any = import_module("mxnet.base")
        of_mxnet, of_numpy = base._init_op_module, base._init_np_op_module

        def register(root: str, module: str, make: Callable[..., Any]) -> None:
            of_mxnet(root, module, _made_when_called(make))

        def register_numpy(make_op_func: Callable[..., Any], **names: Any) -> None:
            of_numpy(make_op_func=_made_when_called(make_op_func), **names)

        base._init_op_module, base._init_np_op_module = register, register_numpy
        cast(Loader, spec.loader).exec_module(package)
    except BaseException:
        for name in [n for n in sys.modules if n.partition(".")[0] == "mxnet"]:
            del sys.modules[name]
        raise


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
    # Without this OpenMP's threads spin while they wait for work, and take the cores from the
    # compiled loops that run between MXNet's: at 5,000 categories training took 1.45 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Without this MXNet uses half of the cores: on two cores, one.
    # Spark sets OMP_NUM_THREADS to the cores of a task, and a user may; then that counts.
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("MXNET_OMP_MAX_THREADS", str(usable_cores()))
    handlers = _signal_handlers()
    try:
        with warnings.catch_warnings(), _without("scipy.stats"), _distutils_of_python():
            warnings.simplefilter("ignore")
            mxnet: Any = _imported()  # only after the aliases are back
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
