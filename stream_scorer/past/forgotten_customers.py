"""Who was forgotten on request, for work on past events and snapshots.

The record in the namespace keeps such a customer out of everything that folds into it. What does
not have these records, such as a replay of files or a training, is given the list: from a file
(--forgotten), or from the namespace in Redis where the config names a Redis.
"""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

from stream_scorer.core.events.erased_customers import parse_erased
from stream_scorer.errors import InputError, StreamScorerError, cannot_read
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.consumer import redis_client
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

MOST_FILE_BYTES = 256 << 20
OPTION = "--forgotten"


def forgotten_customers(settings: Settings | None, file: Path | None) -> dict[str, int]:
    """By id the moment in ms since 1970 UTC up to which nothing of the customer counts.

    file: of `customer forget --list`, or a receipt. Without one the list of the settings' namespace
    is read, where the settings name a Redis; where that does not answer, a warning says so. Raises
    InputError for a file that is neither.
    """
    if file is not None:
        return read_erased(OPTION, file)
    if settings is None or "url" not in settings.redis.model_fields_set:
        return {}
    try:
        with closing(RedisServer(redis_client(settings))) as server:
            return Erasures(server, settings.store.namespace, 0).listed()
    except StreamScorerError as error:
        log.warning(
            "Customers who were ever forgotten on request are not left out here, since their list "
            "can't be read (%s). Start Redis, or give the list of `customer forget --list` with "
            "%s FILE; if nobody was ever forgotten, there is nothing to do.", error.found, OPTION,
        )  # fmt: skip
        return {}


def leaving_out(settings: Settings, file: Path | None) -> Settings:
    """The settings, with `forgotten_customers` left out. Raises InputError."""
    return settings.leaving_out(forgotten_customers(settings, file))


def read_erased(option: str, path: Path) -> dict[str, int]:
    """A file of `customer forget --list`, or a receipt; option: named in the InputError that is
    raised where it is neither."""
    try:
        with path.open("rb") as file:  # a pipe does not say how much comes
            content = file.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            remedy = f"has more than the {MOST_FILE_BYTES:,} bytes that a list may have"
            raise InputError(option, path, f"{remedy}; divide it, as a list has a line for each")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(option, path, cannot_read(error)) from None
    except UnicodeDecodeError:
        raise InputError(option, path, "is not UTF-8 text") from None
    return parse_erased(option, path, text)
