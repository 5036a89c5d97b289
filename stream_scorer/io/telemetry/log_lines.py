"""Log lines on stderr, one for each event, as text or as JSON.

A JSON line has `time`, `level`, `logger`, `message` and `event`, which is null where the line is
none of log_events.py; beside them the fields of the event, and `error` with the trace of an
exception. Where a supervisor keeps several processes, lines of each also have its number, as
`process`.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from datetime import datetime, timezone

from stream_scorer.confidential import without_credentials

# Of ASCII and of Latin 1, and the two separators of Unicode that end a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _JsonLines(logging.Formatter):
    def __init__(self, process: int | None) -> None:
        super().__init__()
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_credentials(record.getMessage()),
            "event": None,
            **self._process,
        }
        # Of `log_events.event`; another package may give a record one of these alone.
        name, fields = getattr(record, "event", None), getattr(record, "fields", None)
        if isinstance(name, str) and isinstance(fields, dict):
            line["event"] = name
            line |= {key: _shown(value) for key, value in fields.items()}
        if record.exc_info:
            line["error"] = without_credentials(self.formatException(record.exc_info))
        # Whatever a caller passes, a line is better than none.
        return json.dumps(line, default=str)


class _TextLines(logging.Formatter):
    def __init__(self, process: int | None) -> None:
        super().__init__()
        self._process = "" if process is None else f"process {process}: "

    def format(self, record: logging.LogRecord) -> str:
        message = _printable(record.getMessage().replace("\n", " | "))
        line = f"{_iso(record.created)} {record.levelname.lower():7} {self._process}{message}"
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return without_credentials(line + "\n".join(map(_printable, trace.split("\n"))))


def _printable(text: str) -> str:
    """Without what would begin a line, or move a terminal: ids are whatever producers write."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _shown(value: object) -> object:
    """As JSON can hold it, which has no NaN."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_to_stderr(level: str, log_format: str, process: int | None = None) -> None:
    """Set up logging: level "debug" to "error", log_format "text" or "json". process: the number of
    this one, where a supervisor keeps several."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(process) if log_format == "json" else _TextLines(process))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # The HTTP client of the schema registry logs every request, in one of two packages.
    for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    client = logging.getLogger("librdkafka")
    client.setLevel(max(root.level, logging.WARNING))
    client.addFilter(_is_worth_logging)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Of librdkafka's lines, arguments (facility, client, text)."""
    facility, *_, text = record.args if isinstance(record.args, tuple) else ("", "")
    # Lost connections also reach our error callbacks, which log each kind once in a while. Since
    # kafka.properties are given to consumer and producer alike, each warns about the other's.
    return facility not in ("FAIL", "ERROR") and "and will be ignored by this" not in str(text)
