"""Which scores are of before an erasure, and how long members are waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.core.features.state import topic_hash
from stream_scorer.customers.tombstones import Tombstones, is_stale, needed_offsets
from stream_scorer.io.kafka.admin import Topic
from stream_scorer.io.stores.erasures import ErasedRecord
from stream_scorer.settings.tree import Settings

INPUT = topic_hash("events")
ERASED = ErasedRecord(5000, 100, 3, 4000, {(INPUT, 2): 70, (topic_hash("file"), 2): 900}, None)


def published(as_of_ms: int, offset: int, partition: int = 2) -> bytes:
    encoder = PropensityEncoder(("soup",), 2, "model", "0" * 16)
    (value,) = encoder.encode_all(
        [b"ann"], np.array([as_of_ms]), 6000, [("events", partition)],
        np.array([0 if offset >= 0 else -1], np.int32), np.array([offset]),
        np.zeros((1, 1), np.float32),
    )  # fmt: skip
    return value


@pytest.mark.parametrize(
    ("as_of_ms", "offset", "partition", "stale"),
    [
        (4000, 70, 2, True),
        (5000, 71, 2, True),  # a late event does not make the score one of after
        (9000, 70, 2, True),  # a refresh of the record of before
        (9000, -1, 2, True),  # of event files alone
        (5001, 71, 2, False),
        (9000, 3, 1, False),  # the topic was given partitions since
    ],
)
def test_scores_of_erased_events_are_known_by_position_and_moment(
    as_of_ms: int, offset: int, partition: int, stale: bool
) -> None:
    assert is_stale(ERASED, published(as_of_ms, offset, partition), INPUT) is stale


def test_members_have_to_commit_what_the_records_were_made_of() -> None:
    other = {(INPUT, 2): 90, (INPUT, 0): 5}
    assert needed_offsets("events", [ERASED.sources, other, {}]) == {2: 91, 0: 6}


def test_a_tombstone_is_the_last_word_once_members_have_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def positions(group: str, _topic: Topic) -> dict[tuple[str, int], SimpleNamespace]:
        asked.append(group)
        return {("events", 2): SimpleNamespace(committed=70 if len(asked) < 3 else 71)}

    overrides = {"kafka": {"input_topic": "events"}}
    waits: Any = object.__new__(Tombstones)
    waits._kafka = Settings.load(None, overrides=overrides, environment={}).kafka
    waits._admin = SimpleNamespace(positions=positions, members=lambda _group: 1)
    waits._input, waits.members = Topic("events", 3, None), 1
    monkeypatch.setattr("stream_scorer.customers.tombstones.time.sleep", lambda _seconds: None)
    assert waits._committed({"ann": ERASED}, 60.0) == ""
    assert len(asked) == 3
