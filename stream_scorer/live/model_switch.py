"""A member's part in a model switch: it sees the announcement, loads, and changes engines.

`check` is called between two micro-batches. It asks Redis at most once a second: what is announced,
or instead, every few seconds, to write this member's heartbeat. A model that is announced is read,
checked and warmed up on a thread of its own, so that the loop does not pause; for that time two
engines are in memory. Where it can't be served here, the member goes on with the one before, says
why in its heartbeat, a metric and a log line, and tries again.

Nothing that is wrong here stops scoring. A Redis that does not answer is asked again later, on a
connection that is not the store's: the store must see every error of its own one, and the loop
waits for Redis where it has to.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from stream_scorer.backoff import delays
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.announcements import Announcement, ModelIdentity
from stream_scorer.io.stores.members import MOST_REASON, State
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.served_model import ServedModel
from stream_scorer.log_events import event

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS = 4.0, 60.0


class Announced(Protocol):
    """Where announcements are read, and written again where Redis lost them."""

    def current(self) -> Announcement | None: ...
    def write_again(self, known: Announcement) -> Announcement: ...


@dataclass(frozen=True)
class Status:
    """What this member serves. announcement: the number of the one that it serves, or 0."""

    model: ModelIdentity
    announcement: int
    state: State
    reason: str = ""


class ModelSwitch:
    """Changes engines as announced. Not thread-safe but for the thread that it starts itself.

    load: reads and checks an announced model, on another thread. serve: called between two
    micro-batches. heartbeat: writes what the member says to Redis. on_switch: called after a
    switch. clock: seconds that only grow.
    """

    def __init__(
        self,
        served: ServedModel,
        announced: Announced,
        *,
        load: Callable[[Announcement], ServedModel],
        serve: Callable[[ServedModel], None],
        heartbeat: Callable[[Status], None],
        metrics: Metrics,
        on_switch: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._announced, self._load, self._serve = announced, load, serve
        self._heartbeat, self._metrics = heartbeat, metrics
        self._on_switch, self._clock = on_switch, clock
        self._model = served.identity
        # The newest announcement that was seen, and the one that is served.
        self._wanted = self._current = served.announcement
        self._state: State = "serving"
        self._reason = ""
        self._next_ask = self._next_heartbeat = self._next_try = 0.0
        self._since = 0.0
        self._delays = _retry_delays()
        self._loader: _Loader | None = None
        self._complaint = ""

    @property
    def status(self) -> Status:
        """As of the last check."""
        number = self._current.number if self._current else 0
        return Status(self._model, number, self._state, self._reason)

    def check(self) -> None:
        """Go on with a switch where one is due; returns within milliseconds, and never raises."""
        now, before = self._clock(), self.status
        self._take_loaded(now)
        if now >= self._next_ask or self.status != before:
            self._next_ask = now + ASK_SECONDS
            # A change is written at once: `models activate` waits for it.
            if now >= self._next_heartbeat or self.status != before:
                self._next_heartbeat = now + HEARTBEAT_SECONDS
                self._quietly(lambda: self._heartbeat(self.status))
            else:
                self._quietly(lambda: self._look(now))
        self._begin_loading(now)
        if self.status != before:
            self._next_heartbeat = now

    def _look(self, now: float) -> None:
        found = self._announced.current()
        known = self._wanted
        if known and (found is None or found.announced_ms < known.announced_ms):
            log.warning(
                "Redis lost the announcement of model %s (number %d); writing it again",
                known.model.model_version, known.number,
                extra=event(
                    "announcement_lost", model_version=known.model.model_version,
                    announcement=known.number,
                ),
            )  # fmt: skip
            found = self._announced.write_again(known)
        if found is None or found == known:
            return
        self._wanted, self._since = found, now
        self._delays, self._next_try = _retry_delays(), now
        if found.model.manifest_sha256 == self._model.manifest_sha256:
            self._served(found)  # as after a roll-back that came before the switch
            return
        log.info(
            "model %s is announced (number %d, %s): loading it",
            found.model.model_version, found.number, found.model.path,
            extra=event(
                "model_announced", model_version=found.model.model_version,
                announcement=found.number, path=found.model.path,
            ),
        )  # fmt: skip
        self._state, self._reason = "loading", ""

    def _begin_loading(self, now: float) -> None:
        wanted = self._wanted
        if wanted is None or wanted == self._current or self._loader or now < self._next_try:
            return
        self._loader = _Loader(wanted, self._load)

    def _take_loaded(self, now: float) -> None:
        loader = self._loader
        if loader is None or not loader.done:
            return
        self._loader = None
        wanted = self._wanted
        if wanted is None or loader.announcement != wanted:
            return  # another was announced meanwhile
        if loader.served is None:
            self._refused(wanted, loader.problem, now)
            return
        self._serve(loader.served)
        self._served(wanted)
        self._metrics.model_switches.inc()
        self._metrics.last_model_switch_seconds.set(now - self._since)
        log.info(
            "serving model %s (announcement %d) from now on, %.1f s after it was seen",
            wanted.model.model_version, wanted.number, now - self._since,
            extra=event(
                "model_served", model_version=wanted.model.model_version,
                announcement=wanted.number, seconds=now - self._since,
            ),
        )  # fmt: skip
        self._on_switch()

    def _served(self, announcement: Announcement) -> None:
        self._model, self._current = announcement.model, announcement
        self._state, self._reason = "serving", ""

    def _refused(self, wanted: Announcement, problem: str, now: float) -> None:
        delay = next(self._delays)
        self._next_try = now + delay
        self._state, self._reason = "refused", problem[:MOST_REASON]
        self._metrics.refused_models.inc()
        log.error(
            "the announced model %s can't be served here, going on with %s: %s; trying again in "
            "%.0f s", wanted.model.model_version, self._model.model_version, problem, delay,
            extra=event(
                "model_refused", model_version=wanted.model.model_version,
                announcement=wanted.number, delay_seconds=delay,
            ),
        )  # fmt: skip

    def _quietly(self, ask: Callable[[], None]) -> None:
        """Ask Redis; where that fails, later again. The same complaint is logged once."""
        try:
            ask()
        except StreamScorerError as error:
            self._next_ask = self._clock() + HEARTBEAT_SECONDS
            if f"{error}" != self._complaint:
                log.warning("announcements and members in Redis: %s", error)
            self._complaint = f"{error}"
        else:
            self._complaint = ""


class _Loader:
    """Loads one model on a thread of its own."""

    def __init__(
        self, announcement: Announcement, load: Callable[[Announcement], ServedModel]
    ) -> None:
        self.announcement = announcement
        self.served: ServedModel | None = None
        self.problem = ""
        self._load = load
        # A daemon, so that a stop does not wait for it.
        self._thread = threading.Thread(target=self._run, name="model switch", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.served = self._load(self.announcement)
        except StreamScorerError as error:
            self.problem = f"{error}"
        except Exception as error:
            # Such as MemoryError: the model before is still served.
            log.exception("an error that nobody expected, while loading a model")
            self.problem = f"{type(error).__name__}: {error}"


def _retry_delays() -> Iterator[float]:
    return delays(FIRST_DELAY_SECONDS, MOST_DELAY_SECONDS, random.random)
