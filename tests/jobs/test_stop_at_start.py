"""`run` is told to stop before it has joined its group: one log line, soon, and exit status 0."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `run`, which says so and waits for ever where it comes to the function named first.
PROGRAM = """
import importlib, sys, time
module, _, name = sys.argv[1].rpartition(":")
owner, _, name = name.rpartition(".")
def wait(*arguments, **options):
    print("there", flush=True)
    while True:
        time.sleep(0.01)
place = importlib.import_module(module)
setattr(getattr(place, owner) if owner else place, name, wait)
from stream_scorer import cli
cli.app(["run", "-c", sys.argv[2]])
"""
STOP_SECONDS = 10


def ended(process: subprocess.Popen[bytes], number: signal.Signals) -> str:
    """What it wrote to stderr, having ended in time and well after this signal."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=STOP_SECONDS)
    assert process.returncode == 0, errors
    return errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "place",
    [
        "stream_scorer.cli.streaming:load_settings",
        "stream_scorer.model.artefact:load",
        "stream_scorer.live.served_model:open_engine",
        "stream_scorer.live.consumer:Consumer.warm_up",
    ],
    ids=["settings", "model", "engine", "kernels"],
)
def test_stop_while_the_consumer_is_built_and_warmed_up(
    config: Path, place: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", PROGRAM, place, str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        errors = ended(process, number)
    assert f"{number.name}: stopped before the start was complete; no event was read" in errors
    assert "Traceback" not in errors


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


@pytest.mark.parametrize("server", ["REDIS__URL", "KAFKA__BOOTSTRAP_SERVERS"])
def test_stop_while_a_server_is_first_asked_and_does_not_answer(
    config: Path, silent: socket.socket, server: str
) -> None:
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    changes = {
        f"STREAM_SCORER__{server}": f"redis://{address}/0" if "REDIS" in server else address,
        "STREAM_SCORER__REDIS__TIMEOUT_SECONDS": "60",
    }
    command = [sys.executable, "-m", "stream_scorer", "run", "-c", str(config)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **changes}
    ) as process:
        connection, _ = silent.accept()
        with connection:
            errors = ended(process, signal.SIGTERM)
    assert "SIGTERM: stopped before the start was complete" in errors
