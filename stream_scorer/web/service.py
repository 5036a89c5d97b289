"""The server and all that it reads from, built from settings."""

from __future__ import annotations

import gc
import ipaddress
import logging
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack

from stream_scorer.customers.erasing import erase
from stream_scorer.customers.erasure_receipt import ErasureReceipt
from stream_scorer.customers.reader import CustomerReader
from stream_scorer.live.consumer import clock_ms
from stream_scorer.settings.tree import Settings
from stream_scorer.web.access import Access
from stream_scorer.web.application import Exposition, Health, Parts, application
from stream_scorer.web.forgetting import Forgetting
from stream_scorer.web.group_reader import GroupReader
from stream_scorer.web.look_ups import LookUps
from stream_scorer.web.server import WebServer, listen
from stream_scorer.web.workers import Workers

log = logging.getLogger(__name__)

MOST_STATUS_WAITING = 64  # they wait for one and the same read
# One computes while another one waits for Redis. A look-up takes a few milliseconds, so that nobody
# waits for longer than about a tenth of a second.
LOOK_UP_THREADS, MOST_LOOK_UPS_WAITING = 2, 32
# Each takes some seconds. What is open after the wait, the receipt says.
MOST_FORGET_WAITING, FORGET_SECONDS = 4, 15.0


class RedisAnswers:
    """The health of a process that consumes nothing: it is ready where Redis answers."""

    def __init__(self, reader: GroupReader) -> None:
        self._reader = reader

    def alive(self, now: float) -> tuple[bool, str]:
        """It is, as this is asked on the thread that answers all requests."""
        return True, "answers requests"

    def ready(self, now: float) -> tuple[bool, str]:
        """Whether Redis answered when it was asked last, at most a second ago."""
        return self._reader.answers()


class WebService:
    """A context manager, and open from the start.

    listening: as server.listen returns it. build: this package's version. health: of the consumer
    in this process, None where it has none. exposition: its metrics. customers_as_of: now for
    customers, in ms since 1970 UTC. open_early: open the model now and not for the first look-up,
    for a process that does nothing else. Raises ConfigError for a token that can't be read or used.
    """

    def __init__(
        self, settings: Settings, listening: socket.socket, build: str,
        health: Health | None = None, exposition: Exposition | None = None,
        customers_as_of: Callable[[], int] = clock_ms, *, open_early: bool = False,
    ) -> None:  # fmt: skip
        self._closing = ExitStack()
        self._closing.callback(listening.close)
        with ExitStack() as undo:
            undo.callback(self._closing.close)
            host, port = listening.getsockname()[:2]
            local = is_loopback(host)
            access = Access(
                settings.web.shared_token(), local=local, host_names=settings.web.host_names
            )
            if not access.gives_customers:
                log.warning(
                    "other machines can reach the status page at %s:%d; customers' data is not "
                    "given there unless web.token_file is set", host, port,
                )  # fmt: skip
            reader = GroupReader(settings)
            self._closing.callback(reader.close)
            workers = Workers("web status", 1, MOST_STATUS_WAITING)
            self._closing.callback(workers.close)
            # Of one row MXNet's engine takes 4 ms and the native one 0.6 ms, with the same scores;
            # which is checked, as for any engine, by the golden batch when a model is opened.
            model = settings.model.model_copy(update={"engine": "native"})
            quick = settings.model_copy(update={"model": model})
            look_ups = LookUps(lambda: CustomerReader.open(quick, customers_as_of, follow=True))
            self._closing.callback(look_ups.close)
            look_up_workers = Workers("web look-ups", LOOK_UP_THREADS, MOST_LOOK_UPS_WAITING)
            self._closing.callback(look_up_workers.close)
            forgetting = None
            if settings.web.forget:
                forgetting = _forgetting(settings, build)
                self._closing.callback(forgetting.workers.close)
            parts = Parts(
                reader.group, build, access, health or RedisAnswers(reader), reader.status, workers,
                exposition, look_ups if settings.web.customers else None, look_up_workers,
                forgetting,
            )  # fmt: skip
            server = WebServer(listening, application(parts))
            self._closing.callback(server.close)
            if open_early and settings.web.customers and access.gives_customers:
                look_ups.begin().add_done_callback(_opened)
            undo.pop_all()
        shown = f"[{host}]" if ":" in host else host
        self.port, self.url = server.port, f"http://{shown}:{server.port}/"

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._closing.close()

    def __enter__(self) -> WebService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listening_service(
    settings: Settings, build: str, health: Health, exposition: Exposition
) -> WebService | None:
    """The service at telemetry.port, None where the settings ask for none. Raises ConfigError where
    it can't listen, and for a token that can't be used."""
    telemetry = settings.telemetry
    if not telemetry.port:
        return None
    listening = listen(telemetry.host, telemetry.port, "telemetry.port")
    web = WebService(settings, listening, build, health, exposition)
    log.info("metrics, probes and the status page: %s", web.url)
    return web


def _opened(opening: Future[CustomerReader]) -> None:
    """Of what was opened early, and stays: the collector need not go through it again. An error
    comes again when someone asks."""
    if opening.exception() is None:
        gc.collect()
        gc.freeze()
    else:
        log.warning("no customer can be looked up yet: %s", opening.exception())


def _forgetting(settings: Settings, build: str) -> Forgetting:
    def forget(customer_id: str) -> ErasureReceipt:
        receipt = erase(settings, {customer_id: None}, version=build, wait_seconds=FORGET_SECONDS)
        # Without the id: a log is no place for who asked to be forgotten.
        log.info("a customer was forgotten on request: %s", receipt.problem or "all is done")
        return receipt

    return Forgetting(forget, Workers("web forget", 1, MOST_FORGET_WAITING))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address of a socket."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
