"""Stop: which signals ask for it, and that it comes in time though a call never returns."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import signal
import subprocess
import sys

import pytest

from stream_scorer.live.stop import Stop, StoppedBeforeStart

STUCK = """
import socket
from stream_scorer.live import stop
stop.STOP_SECONDS = 0.3
near, far = socket.socketpair()
with stop.Stop().on_signals(lambda: print("given up", flush=True)):
    print("ready", flush=True)
    while True:
        near.recv(1)  # goes on after a signal's handler, as clients do
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_asks_to_stop_and_handlers_are_put_back(number: signal.Signals) -> None:
    before, stop = signal.getsignal(number), Stop()
    with stop.on_signals():
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before


def test_hangup_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with (stop := Stop()).on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_before_the_start_is_complete_abandons_it(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    before, stop, done = signal.getsignal(number), Stop(), False
    with caplog.at_level(logging.WARNING), stop.on_signals(starting=True):
        with stop.on_signals(starting=True):  # the job's own context, within that of the verb
            os.kill(os.getpid(), number)
        done = True
    assert not done
    assert stop.asked
    assert f"{number.name}: stopped before the start was complete" in caplog.text
    assert signal.getsignal(number) is before


def test_signal_after_the_start_lets_the_micro_batch_be_finished() -> None:
    stop, done = Stop(), False
    with stop.on_signals(starting=True):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as MXNet might
        stop.started()
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
    assert done
    assert stop.asked


def test_stop_whose_exception_was_swallowed_is_seen_when_the_start_is_complete() -> None:
    stop, done = Stop(), False
    with stop.on_signals(starting=True):
        with contextlib.suppress(StoppedBeforeStart):  # as where it is raised in a finalizer
            os.kill(os.getpid(), signal.SIGTERM)
        stop.started()
        done = True
    assert not done


def test_hangup_that_asks_for_the_config_is_noted_also_before_the_start_is_complete() -> None:
    stop, done = Stop(hangup_rereads=True), False
    with stop.on_signals(starting=True):
        os.kill(os.getpid(), signal.SIGHUP)
        assert (stop.reread_asked, stop.asked) == (True, False)
        stop.reread_asked = False
        stop.started()
        for _ in range(3):  # a second one does not end the process, as one that asks to stop does
            os.kill(os.getpid(), signal.SIGHUP)
        assert (stop.reread_asked, stop.asked) == (True, False)
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
    assert done
    assert stop.asked


IN_A_TERMINAL = """
import os, sys, time
from stream_scorer.live import stop
asked = stop.Stop(hangup_rereads=True)
with asked.on_signals():
    print("ready", file=sys.stderr, flush=True)
    while not asked.asked:
        if asked.reread_asked:
            print("noted", file=sys.stderr, flush=True)
            asked.reread_asked = False
        time.sleep(0.01)
os._exit(7)  # Python's own end would write to the terminal
"""


def read_line(terminal: int) -> bytes:
    """A line to its end. A terminal passes a line on before its newline is written: where it is
    closed in between, the write of the newline fails in the process that wrote the line."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(terminal, 1000)
    return line


def test_terminal_that_hangs_up_asks_to_stop_though_hangup_rereads() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", IN_A_TERMINAL])
    assert b"ready" in read_line(terminal)
    os.kill(pid, signal.SIGHUP)  # as a person would: the terminal is there still
    assert b"noted" in read_line(terminal)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_process_ends_though_a_call_does_not_return() -> None:
    command = [sys.executable, "-c", STUCK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout.read() == b"given up\n"
        assert b"the last micro-batch is left to the next owner" in process.stderr.read()


def test_second_signal_ends_the_process_at_once() -> None:
    command = [sys.executable, "-c", STUCK.replace("0.3", "600")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
