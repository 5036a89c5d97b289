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
# version, trace id, span id, flags; later versions may add to it.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})(-.{0,200})?")
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
    """None where there is no context, a malformed one, or one that is not sampled."""
    texts = {
        name.lower(): value.decode("ascii", "replace")
        for name, value in headers
        if isinstance(value, bytes) and name.lower() in ("traceparent", "tracestate")
    }
    parent = _TRACEPARENT.fullmatch(texts.get("traceparent", ""))
    if parent is None or not int(parent[1], 16) & _SAMPLED:
        return None
    if len(texts.get("tracestate", "")) > MOST_TRACESTATE:
        del texts["tracestate"]
    return texts
