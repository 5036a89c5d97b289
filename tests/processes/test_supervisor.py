"""The supervisor and processes that end, are stuck, or are stopped with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_scorer.errors import ConfigError, InputError
from stream_scorer.io.exposition import exposition
from stream_scorer.io.merged_exposition import merged_exposition
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.io.telemetry.supervisor_metrics import SupervisorMetrics
from stream_scorer.live.stop import Stop
from stream_scorer.processes import supervisor as module
from stream_scorer.processes.channel import supervised
from stream_scorer.processes.member import check_names, member_settings
from stream_scorer.processes.member_process import MemberProcess
from stream_scorer.processes.supervisor import Supervisor
from stream_scorer.settings.tree import Settings

FAKE = str(Path(__file__).with_name("fake_member.py"))
WAIT_SECONDS = 60.0


class Running:
    """A supervisor on a thread of its own, whose members do what `plans` say, one word a start."""

    def __init__(self, directory: Path, *plans: str) -> None:
        for number, plan in enumerate(plans, 1):
            (directory / f"{number}").write_text(plan)
        self.stop, self.metrics = Stop(hangup_rereads=True), SupervisorMetrics()
        self.status: int | None = None
        self.started: list[MemberProcess] = []
        command = [sys.executable, FAKE, str(directory)]

        def start(number: int, now: float) -> MemberProcess:
            self.started.append(MemberProcess(command, number, len(plans), now))
            return self.started[-1]

        self.supervisor = Supervisor(
            start, len(plans), self.stop, self.metrics, time.monotonic, lambda: 0.0
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.status = self.supervisor.run(time.sleep)

    def until(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while not what():
            assert time.monotonic() < until, self.supervisor.ready(0.0)
            time.sleep(0.02)

    def ended(self) -> int:
        self._thread.join(WAIT_SECONDS)
        assert self.status is not None
        return self.status

    def is_ready(self) -> bool:
        return self.supervisor.ready(0.0)[0]

    def close(self) -> None:
        self.stop.asked = True
        self.supervisor.kill()
        self._thread.join(WAIT_SECONDS)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    monkeypatch.setattr(module, "ASK_SECONDS", 0.05)
    running: list[Running] = []

    def start(*plans: str) -> Running:
        running.append(Running(tmp_path, *plans))
        return running[-1]

    yield start
    for each in running:
        each.close()


def shown(running: Running) -> str:
    metrics = running.metrics.registry
    return merged_exposition(metrics, running.supervisor.texts(), "")[1].decode()


def test_a_member_that_fails_is_started_again_and_counted(run: Callable[..., Running]) -> None:
    running = run("1 1 serve", "serve")
    running.until(running.is_ready)
    assert running.supervisor.alive(0.0) == (True, "2 of 2 processes run")
    text = shown(running)
    assert 'stream_scorer_process_restarts_total{process="1"} 2.0' in text
    assert 'stream_scorer_process_restarts_total{process="2"} 0.0' in text
    for process in running.started[-2:]:
        assert f'pid{{process="{process.number}"}} {float(process.pid)}' in text
    running.stop.asked = True
    assert running.ended() == 0


def test_bad_input_at_the_start_is_said_once_and_ends_the_supervisor(
    run: Callable[..., Running],
) -> None:
    running = run("2", "serve", "serve")
    assert running.ended() == 2
    assert [process.number for process in running.started] == [1]


def test_bad_input_later_does_not_end_the_members_that_run(run: Callable[..., Running]) -> None:
    running = run("serve", "2 serve")
    running.until(running.is_ready)
    assert [process.number for process in running.started] == [1, 2, 2]


def test_a_stuck_member_is_killed_and_started_again(run: Callable[..., Running]) -> None:
    running = run("stuck serve")
    running.until(running.is_ready)
    first, second = running.started
    assert first.status() == -9
    assert second.status() is None


def test_a_member_that_does_not_answer_is_killed(
    run: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNANSWERED_SECONDS", 3.0)
    running = run("serve")
    running.until(running.is_ready)
    os.kill(running.started[0].pid, signal.SIGSTOP)
    running.until(lambda: len(running.started) == 2)
    assert running.started[0].status() == -9


def test_a_request_to_read_the_config_reaches_every_member(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    running = run("serve", "serve")
    running.until(running.is_ready)
    running.stop.reread_asked = True
    running.until(lambda: {p.name for p in tmp_path.glob("reread-*")} == {"reread-1", "reread-2"})
    assert not running.stop.reread_asked


def test_a_process_that_is_not_ready_is_named(run: Callable[..., Running]) -> None:
    running = run("serve", "1")
    running.until(lambda: "process 2" in running.supervisor.ready(0.0)[1])
    running.stop.asked = True
    assert running.ended() in (0, 1)  # as process 2 just was


def test_merged_metrics_are_those_of_each_process_by_name() -> None:
    own, each = SupervisorMetrics(), Metrics()
    own.up(1, is_up=True)
    each.store_rewinds.inc()
    _, text = exposition(each.registry, "application/openmetrics-text; version=1.0.0")
    name = "stream_scorer_store_rewinds_total"
    kind, found = merged_exposition(own.registry, {"3": text.decode()}, "", [name])
    assert kind.startswith("text/plain")
    assert f'{name}{{process="3"}} 1.0' in found.decode()
    assert "process_up" not in found.decode()


def test_members_have_names_of_their_own_and_no_address() -> None:
    settings = Settings.load(
        None, environment={},
        overrides={"kafka": {"client_id": "shop"}, "telemetry": {"port": 9100}},
    )  # fmt: skip
    own = member_settings(settings, 2)
    assert (own.kafka.client_id, own.telemetry.port) == ("shop-2", 0)
    static = {"kafka": {"group_instance_id": "shop"}}
    with pytest.raises(ConfigError, match="group_instance_id"):
        check_names(Settings.load(None, environment={}, overrides=static), 2)
    check_names(Settings.load(None, environment={}, overrides=static), 1)


@pytest.mark.parametrize("member", ["1/2", "1/2/x", "1/2/987654", ""])
def test_the_option_of_members_is_not_for_people(member: str) -> None:
    with pytest.raises(InputError, match="leave it out"):
        supervised(member, Stop())
