"""Every kernel compiled ahead, in several processes at the same time, with progress on stderr.

The first use of a version took more than 20 s of silence, as numba compiles one function at a time
in a process. Here each part of the rehearsal (rehearsal.py) is done by a process of its own, as
many at a time as there are cores; all write into the folder of compiled kernels (kernel_folder.py),
where whoever asked for it then reads them. A mark in the folder says that all is there, so that the
next start does nothing. Of several that want to compile into one folder, as members that are
started together, one does and the others wait for it.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from stream_scorer import jit, kernel_folder
from stream_scorer.errors import Halt
from stream_scorer.progress import is_drawn, progress
from stream_scorer.runtime import usable_cores

SAY_SECONDS = 5.0  # between two lines, where stderr is no terminal
# Three times what a process took alone on two cores. One that was suspended must not stop others.
WAIT_SECONDS = 90.0
REHEARSAL = "stream_scorer.live.rehearsal"


@dataclass
class Ready:
    """The kernels that were compiled or read, of how many; and how often one was compiled, a kernel
    once for each signature. One that only others call is part of these where they are read."""

    names: set[str] = field(default_factory=set)
    kernels: int = 0
    compiled: int = 0


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def compile_where_missing(say: Callable[[str], None] = _to_stderr) -> None:
    """Compile every kernel, unless this version's are there already; nothing is printed then.

    say: takes the lines of progress where stderr is no terminal, and warnings. What fails here is
    compiled when it is first called.
    """
    if not jit.kernels():
        return  # with NUMBA_DISABLE_JIT=1 they run as Python
    if kernel_folder.cache_folder() is None:
        say(
            "compiled kernels can't be kept, so every start takes half a minute longer: name a "
            f"folder that can be written to in {kernel_folder.CACHE_VARIABLE}"
        )
    elif not kernel_folder.is_complete():
        try:
            with _alone(say):
                if not kernel_folder.is_complete():  # another process may just have compiled them
                    _compile_all(say)
        except (Halt, OSError) as error:
            say(f"{error}; what is missing is compiled when it is first used")


def compile_all(say: Callable[[str], None] = _to_stderr) -> Ready:
    """Do all parts of the rehearsal, each in a process of its own, and mark the folder as complete.

    Raises Halt where a part fails, and OSError where the folder can't be written to.
    """
    with _alone(say):
        return _compile_all(say)


@contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    """Inside this context no other process compiles ahead into the folder, unless it takes longer
    than `WAIT_SECONDS`."""
    with ExitStack() as closing:
        try:
            # Its lock ends with the process that holds it, however that ends.
            file = closing.enter_context((kernel_folder.required() / "compiling").open("a"))
        except OSError:  # a folder that can only be read: nobody compiles into it
            yield
            return
        started, said = time.monotonic(), False
        while not _locked(file) and time.monotonic() - started < WAIT_SECONDS:
            if not said:
                say("another process compiles the kernels: waiting for it")
                said = True
            time.sleep(0.05)
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: all compile, which costs time only
        return True
    return True


def _compile_all(say: Callable[[str], None]) -> Ready:
    from stream_scorer.live import rehearsal  # noqa: PLC0415 - imports all that has kernels

    ready = Ready()
    with _shown(ready, say) as show, ThreadPoolExecutor(usable_cores()) as pool:
        processes = _Processes(ready, show)
        try:
            for job in [pool.submit(processes.run, part) for part in rehearsal.PARTS]:
                job.result()
        except BaseException:  # also that of a signal that asks to stop
            # Or the pool would wait until all parts are done.
            processes.stop()
            raise
    if not kernel_folder.is_complete():  # where it is, the folder may be one that is only read
        kernel_folder.mark_complete()
    return ready


class _Processes:
    """Processes that do a part each; after `stop` none is running and no other is started."""

    def __init__(self, ready: Ready, show: Callable[[], None]) -> None:
        self._ready, self._show = ready, show
        self._running: list[subprocess.Popen[str]] = []
        self._lock, self._stopped = threading.Lock(), False

    def run(self, part: str) -> None:
        """Do one part and count what it says is ready. Raises Halt where it fails."""
        # With this process's own path: -m and -c put the current folder first, where another copy
        # of the package may lie, as in the build of the image.
        program = f"import sys; sys.path[:] = {sys.path!r}; import {REHEARSAL} as r; "
        command = [sys.executable, "-c", f"{program}r.main([{part!r}])"]
        with tempfile.TemporaryFile("w+") as errors:
            with self._lock:
                if self._stopped:
                    return
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=errors, text=True
                )
                self._running.append(process)
            with process:
                for line in process.stdout or ():
                    self._count(line)
            if process.returncode and not self._stopped:
                errors.seek(0)
                last = (errors.read().splitlines() or [f"status {process.returncode}"])[-1]
                raise Halt(f"kernels of {part} could not be compiled ahead: {last}")

    def stop(self) -> None:
        """Kill what runs: each kernel is written whole, so nothing is spoiled by that."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _count(self, line: str) -> None:
        kernels, compiled, name = line.split()
        with self._lock:
            self._ready.kernels = max(self._ready.kernels, int(kernels))
            self._ready.compiled += int(compiled)
            self._ready.names.add(name)
            self._show()


@contextmanager
def _shown(ready: Ready, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """What to call when `ready` has changed: a bar where stderr is a terminal, else lines."""
    title = "compiling kernels, once for this version"
    if is_drawn():
        with progress(title) as meter:
            yield lambda: meter.at(len(ready.names), ready.kernels)
            meter.at(ready.kernels, ready.kernels)
        return
    said = float("-inf")

    def show() -> None:
        nonlocal said
        # Nothing is said where all is there and only read.
        if ready.compiled and time.monotonic() - said >= SAY_SECONDS:
            say(f"{title}: {len(ready.names)} of {ready.kernels}")
            said = time.monotonic()

    yield show
    if ready.compiled:
        say(f"{title}: {ready.kernels} of {ready.kernels}")
