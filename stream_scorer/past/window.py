"""The window of time of event files: only events from one moment on, up to another.

It is by occurred_at, since records of files have no time of their own. Records of the topic do, so
there the reader starts and stops at the offsets of the two moments (io/kafka/topic_reader.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.validation import EventRules


def in_window(
    batches: Iterable[DecodedBatch], from_ms: int | None, to_ms: int | None,
    rules: EventRules, now_ms: int,
) -> Iterator[DecodedBatch]:  # fmt: skip
    """The batches with only the events from from_ms inclusive to to_ms exclusive, and how many
    others they had.

    None is no bound. Refused records are kept, since their time is not known, and so are events
    whose time is not plausible, or nobody would hear of them: `validate` refuses them later.
    """
    for batch in batches:
        if from_ms is None and to_ms is None:
            yield batch
            continue
        inside = np.ones(len(batch.events), np.bool_)
        if from_ms is not None:
            inside &= batch.events.occurred_at_ms >= from_ms
        if to_ms is not None:
            inside &= batch.events.occurred_at_ms < to_ms
        inside |= ~rules.plausible(batch.events, batch.origin, now_ms)
        yield replace(batch, events=batch.events.take(inside), outside_window=int((~inside).sum()))
