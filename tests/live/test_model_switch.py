"""ModelSwitch: when a member asks, loads, switches, refuses, and writes an announcement again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from stream_scorer.errors import ArtefactError, StoreUnavailable
from stream_scorer.io.stores.announcements import Announcement, ModelIdentity
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.model_switch import ASK_SECONDS, ModelSwitch, Status
from stream_scorer.live.served_model import ServedModel

A, B, C = (ModelIdentity(f"/models/{name}", f"v-{name}", f"sha-{name}") for name in "abc")


def announcement(number: int, model: ModelIdentity, before: ModelIdentity = A) -> Announcement:
    return Announcement(number, model, before, 1000 * number)


def served(said: Announcement) -> ServedModel:
    nothing: Any = SimpleNamespace()
    return ServedModel(said.model, nothing, nothing, said)


class Rig:
    """A switch with a clock, an announcement and a loader that the test moves."""

    def __init__(self) -> None:
        self.now, self.calls = 100.0, 0
        self.announced: Announcement | None = None
        self.error: Exception | None = None
        self.loads: list[str] = []
        self.load_error: Exception | None = None
        self.may_load = threading.Event()
        self.may_load.set()
        self.served: list[ModelIdentity] = []
        self.said: list[Status] = []
        self.switched = 0
        self.metrics = Metrics()
        nothing: Any = SimpleNamespace()
        self.switch = ModelSwitch(
            ServedModel(A, nothing, nothing), self, load=self._load, serve=self._serve,
            heartbeat=self._heartbeat, metrics=self.metrics, on_switch=self._on_switch,
            clock=lambda: self.now,
        )  # fmt: skip

    def current(self) -> Announcement | None:
        self.calls += 1
        if self.error:
            raise self.error
        return self.announced

    def write_again(self, known: Announcement) -> Announcement:
        self.announced = known
        return known

    def _heartbeat(self, status: Status) -> None:
        self.calls += 1
        if self.error:
            raise self.error
        self.said.append(status)

    def _load(self, said: Announcement) -> ServedModel:
        self.loads.append(said.model.model_version)
        assert self.may_load.wait(60)
        if self.load_error:
            raise self.load_error
        return served(said)

    def _serve(self, found: ServedModel) -> None:
        self.served.append(found.identity)

    def _on_switch(self) -> None:
        self.switched += 1

    def seconds(self, count: int) -> None:
        """A check each tenth of a second, and what was loaded is there at the next."""
        for _ in range(10 * count):
            self.switch.check()
            self.now += 0.1
            loader = self.switch._loader
            if loader and self.may_load.is_set():
                loader._thread.join(20)

    def value(self, name: str) -> float:
        found = self.metrics.registry.get_sample_value(f"stream_scorer_{name}")
        assert found is not None
        return found


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_redis_is_asked_at_most_once_a_second_and_told_every_five(rig: Rig) -> None:
    rig.seconds(20)
    assert rig.calls == pytest.approx(20 / ASK_SECONDS, abs=1)
    assert len(rig.said) == pytest.approx(4, abs=1)
    assert rig.said[0] == Status(A, 0, "serving")


def test_an_announced_model_is_served_within_three_seconds_and_said_at_once(rig: Rig) -> None:
    rig.seconds(3)
    rig.announced = announcement(1, B)
    rig.seconds(3)
    assert (rig.served, rig.loads, rig.switched) == ([B], ["v-b"], 1)
    assert rig.said[-1] == Status(B, 1, "serving") == rig.switch.status
    rig.seconds(20)
    assert rig.loads == ["v-b"]
    assert rig.value("model_switches_total") == 1
    assert 0 < rig.value("last_model_switch_seconds") < 3


def test_while_a_model_is_loaded_the_loop_goes_on_with_the_one_before(rig: Rig) -> None:
    rig.may_load.clear()
    rig.announced = announcement(1, B)
    rig.seconds(4)
    assert rig.switch.status == Status(A, 0, "loading") == rig.said[-1]
    assert rig.served == []
    rig.may_load.set()
    rig.seconds(1)
    rig.seconds(1)
    assert rig.served == [B]


def test_a_model_that_is_announced_while_another_is_loaded_is_the_one_served(rig: Rig) -> None:
    rig.may_load.clear()
    rig.announced = announcement(1, B)
    rig.seconds(3)
    rig.announced = announcement(2, C)
    rig.seconds(2)
    rig.may_load.set()
    rig.seconds(3)
    assert (rig.loads, rig.served) == (["v-b", "v-c"], [C])


def test_roll_back_to_what_is_served_still_loads_nothing(rig: Rig) -> None:
    rig.may_load.clear()
    rig.announced = announcement(1, B)
    rig.seconds(3)
    rig.announced = announcement(2, A, B)
    rig.seconds(2)
    rig.may_load.set()
    rig.seconds(3)
    assert (rig.served, rig.switched) == ([], 0)
    assert rig.switch.status == Status(A, 2, "serving")


def test_a_model_that_can_not_be_served_changes_nothing_says_why_and_is_tried_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.load_error = ArtefactError("model", "/models/b", "is missing; copy it")
    rig.announced = announcement(1, B)
    with caplog.at_level(logging.ERROR):
        rig.seconds(3)
    assert rig.served == []
    (status,) = {said for said in rig.said if said.state == "refused"}
    assert status == Status(A, 0, "refused", "model: '/models/b': is missing; copy it")
    assert "going on with v-a: model: '/models/b': is missing; copy it" in caplog.text
    rig.seconds(300)
    tries = len(rig.loads)
    assert 5 < tries < 40  # with growing waits
    assert rig.value("refused_models_total") == tries
    rig.load_error = None
    rig.seconds(61)
    assert rig.served == [B]
    assert rig.said[-1] == Status(B, 1, "serving")


def test_an_error_that_nobody_expected_while_loading_does_not_stop_the_member(rig: Rig) -> None:
    rig.load_error = MemoryError("no room for two")
    rig.announced = announcement(1, B)
    rig.seconds(3)
    assert rig.switch.status == Status(A, 0, "refused", "MemoryError: no room for two")


def test_a_lost_announcement_is_written_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.announced = announcement(3, B)
    rig.seconds(4)
    for lost in (None, announcement(2, C)):  # emptied; set back to a backup
        rig.announced = lost
        rig.seconds(3)
        assert rig.announced == announcement(3, B)
    assert rig.served == [B]
    assert caplog.text.count("Redis lost the announcement of model v-b (number 3)") == 2


def test_an_announcement_after_redis_was_emptied_counts_though_its_number_is_lower(
    rig: Rig,
) -> None:
    rig.announced = announcement(3, B)
    rig.seconds(4)
    rig.announced = Announcement(3, C, B, 99_000)
    rig.seconds(4)
    rig.announced = Announcement(1, A, C, 100_000)
    rig.seconds(4)
    assert rig.served == [B, C, A]


def test_a_redis_that_does_not_answer_is_asked_less_often_and_stops_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.seconds(2)
    rig.error, before = StoreUnavailable("redis.url: Redis does not answer", "check it"), rig.calls
    rig.seconds(20)
    assert rig.calls - before <= 6
    assert len(caplog.records) == 1
    rig.error, rig.announced = None, announcement(1, B)
    rig.seconds(9)
    assert rig.served == [B]


def test_a_member_that_started_with_the_announced_model_does_not_load_it_again(rig: Rig) -> None:
    begun: Callable[..., ModelSwitch] = ModelSwitch
    rig.announced = announcement(4, B)
    rig.switch = begun(
        served(announcement(4, B)), rig, load=rig._load, serve=rig._serve,
        heartbeat=rig._heartbeat, metrics=rig.metrics, clock=lambda: rig.now,
    )  # fmt: skip
    rig.seconds(10)
    assert rig.loads == []
    assert rig.said[-1] == Status(B, 4, "serving")
