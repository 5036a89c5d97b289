"""The config file is read again while the consumer runs (SIGHUP), and what may change is applied.

Each changed field is logged. What needs a restart is named and left as it is; a file that is wrong
changes nothing. `check` is called between two micro-batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stream_scorer.errors import ConfigError
from stream_scorer.live.stop import Stop
from stream_scorer.log_events import event
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

Apply = Callable[[Settings], None]


class Reread:
    """stop: where a request is noted. load: reads the config file, as at the start. apply: by field
    what to do with settings in which it has changed; other fields need a restart.
    """

    def __init__(
        self,
        settings: Settings,
        stop: Stop,
        load: Callable[[], Settings],
        apply: Mapping[str, Apply],
    ) -> None:
        self._settings, self._stop, self._load, self._apply = settings, stop, load, apply

    def check(self) -> None:
        """Read the file again where that was asked for; never raises."""
        if not self._stop.reread_asked:
            return
        self._stop.reread_asked = False
        try:
            found = self._load()
        except ConfigError as error:
            for line in str(error).splitlines():
                log.error(
                    "the config was read again and is wrong, so nothing changes: %s", line,
                    extra=event("config_wrong"),
                )  # fmt: skip
            return
        changes = list(_changes(self._settings.model_dump(), found.model_dump()))
        for field, before, now in changes:
            # As warnings, so that a log level of "warning" shows them.
            if field in self._apply:
                log.warning(
                    "%s: %r -> %r, from now on", field, before, now,
                    extra=event("config_changed", setting=field),
                )  # fmt: skip
            else:
                # Without its value, which may be a secret.
                log.warning(
                    "%s has changed, which needs a restart; left as it is%s", field, _also(field),
                    extra=event("config_needs_restart", setting=field),
                )  # fmt: skip
        applied = [field for field, _, _ in changes if field in self._apply]
        for field in applied:
            self._take(field, found)
        for apply in dict.fromkeys(self._apply[field] for field in applied):
            apply(self._settings)
        if not changes:
            log.info(
                "the config was read again: nothing has changed", extra=event("config_unchanged")
            )

    def _take(self, field: str, found: Settings) -> None:
        section, _, name = field.partition(".")
        new = {name: getattr(getattr(found, section), name)}
        changed = getattr(self._settings, section).model_copy(update=new)
        self._settings = self._settings.model_copy(update={section: changed})


def _also(field: str) -> str:
    if field == "model.path":
        return "; or have all members take it: `models activate DIR -c FILE`"
    return ""


def _changes(
    before: Mapping[str, Any], now: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Each field that differs, by its whole name, with both values."""
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{above}{name}.")
        elif old != new:
            yield f"{above}{name}", old, new
