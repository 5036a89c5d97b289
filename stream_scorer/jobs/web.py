"""`stream-scorer web`: the status page and the look-up of customers, beside no consumer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from stream_scorer.live.stop import Stop
from stream_scorer.live.warming import compile_where_missing
from stream_scorer.missing_kernels import when_missing
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings
from stream_scorer.web.server import listen
from stream_scorer.web.service import WebService

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class ServedPages(Result):
    """url: of the status page. seconds: how long it was served."""

    url: str
    seconds: float


def web(
    settings: Settings, host: str, port: int, build: str, stop: Stop | None = None,
    on_start: Callable[[str], None] = lambda _url: None,
) -> ServedPages:  # fmt: skip
    """Serve until SIGTERM, SIGINT or `stop`.

    It joins no group, and writes only what `web.forget` lets someone ask for. port: 0 for one that
    is free. build: this package's version. on_start: called with the address. Raises ConfigError.
    """
    stop = stop or Stop()
    with (
        stop.on_signals(),
        when_missing(lambda: compile_where_missing(log.info)),
        WebService(settings, listen(host, port, "--port"), build, open_early=True) as service,
    ):
        on_start(service.url)
        started = time.monotonic()
        while not stop.asked:
            time.sleep(LOOK_SECONDS)
        served = ServedPages(service.url, round(time.monotonic() - started, 3))
    log.info("stopped: %s", served.as_json())
    return served
