"""Stop: which signals ask for it, and that it comes in time though a call never returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from stream_scorer.live.stop import Stop

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
