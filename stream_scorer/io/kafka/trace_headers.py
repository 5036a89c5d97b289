"""Trace contexts of records: the headers `traceparent` and `tracestate` of W3C Trace Context.

Headers are looked at only where traces are on, and no further than to the first few records of a
batch whose producers sample them: a trace shows how things went, and need not show all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Message

from stream_scorer.core.events.batch import Position, TraceHeaders

MOST_TRACESTATE = 512  # characters; the standard lets longer ones be dropped
# version, trace id, span id, flags; later versions may add to it. Version ff and ids of zeros alone
# are none: taken for a context, they would begin traces of their own.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.{0,200})?"
)
# A key, with a tenant or without, and a value, as of W3C Trace Context, section 3.3.1.3.
_MEMBER = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
MOST_MEMBERS = 32
_SAMPLED = 1


def trace_contexts(messages: Iterable[Message], most: int) -> dict[Position, TraceHeaders]:
    """By position, of the first `most` messages that have a sampled context."""
    found: dict[Position, TraceHeaders] = {}
    for message in messages:
        if len(found) >= most:
            break
        headers = message.headers()
        pairs = headers.items() if isinstance(headers, dict) else headers
        context = _sampled(pairs) if pairs else None
        if context is not None:
            position = message.topic() or "", message.partition() or 0, message.offset() or 0
            found[position] = context
    return found


def _sampled(headers: Iterable[tuple[str, Any]]) -> TraceHeaders | None:
    """None where there is no context, a malformed one, or one that is not sampled.

    A malformed state is dropped, as the standard has it: the SDK would warn of each of its members,
    in the words of whoever wrote the record.
    """
    texts = {
        name.lower(): value.decode("ascii", "replace")
        for name, value in headers
        if isinstance(value, bytes) and name.lower() in ("traceparent", "tracestate")
    }
    parent = _TRACEPARENT.fullmatch(texts.get("traceparent", ""))
    if parent is None or not int(parent["flags"], 16) & _SAMPLED:
        return None
    if parent["more"] and parent["version"] == "00":
        return None
    if not _is_state(texts.get("tracestate", "")):
        del texts["tracestate"]
    return texts


def _is_state(text: str) -> bool:
    """Whether there is none, or it is as the standard has it."""
    members = [member.strip(" \t") for member in text.split(",")]
    filled = [member for member in members if member]
    return (
        len(text) <= MOST_TRACESTATE
        and len(filled) <= MOST_MEMBERS
        and all(map(_MEMBER.fullmatch, filled))
    )
