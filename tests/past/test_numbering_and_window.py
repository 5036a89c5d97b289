"""Positions across the files of a directory, and the window of time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.validation import EventRules
from stream_scorer.io.files.events import open_events
from stream_scorer.past.numbering import Numbering
from stream_scorer.past.window import in_window

START_MS = 1_700_000_000_000
RULES = EventRules(frozenset({"view"}), None, False, 0, 631_152_000_000)
Position = tuple[str, int]


def event(event_id: str, at_ms: int) -> dict[str, object]:
    kind = {"customer_id": "c", "event_type": "view"}
    return {"event_id": event_id, **kind, "occurred_at": START_MS + at_ms}


def write(path: Path, times_ms: list[int], broken_at: int | None = None) -> None:
    """One event for each time; the line number broken_at is no event."""
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps(event(f"{path.stem}-{n}", at)) for n, at in enumerate(times_ms)]
    if broken_at is not None:
        lines.insert(broken_at, "no event")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def positions(batches: list[DecodedBatch]) -> list[Position]:
    return [
        (batch.events.partitions[index][0], offset)
        for batch in batches
        for index, offset in zip(
            batch.events.partition_index.tolist(), batch.events.offsets.tolist(), strict=True
        )
    ]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write(tmp_path / "log" / "a.jsonl", [0, 1, 2], broken_at=1)
    write(tmp_path / "log" / "b.jsonl", [10, 11])
    return tmp_path / "log"


@pytest.mark.parametrize("batch_records", [1, 2, 3, 100])
def test_a_directory_is_one_source_whose_positions_go_on_from_file_to_file(
    directory: Path, batch_records: int
) -> None:
    files = open_events([directory], max_record_bytes=1000, batch_records=batch_records)
    numbering = Numbering.of(files.given_as)
    batches = list(numbering.numbered(files))
    # Position 1 is the line that is no event: it counts, because a reader would count it too.
    assert positions(batches) == [(str(directory), n) for n in (0, 2, 3, 4, 5)]
    assert numbering.begins == {str(directory / "a.jsonl"): 0, str(directory / "b.jsonl"): 4}
    assert [(d.topic, d.offset) for b in batches for d in b.refused] == [
        (str(directory / "a.jsonl"), 1)
    ]


def test_a_file_that_is_named_is_a_source_of_its_own(directory: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.jsonl"
    write(alone, [20, 21])
    files = open_events([alone, directory], max_record_bytes=1000, batch_records=100)
    numbering = Numbering.of(files.given_as)
    found = positions(list(numbering.numbered(files)))
    assert found[:3] == [(str(alone), 0), (str(alone), 1), (str(directory), 0)]
    assert numbering.source_of[str(alone)] == str(alone)


def test_numbering_again_gives_the_same_positions(directory: Path) -> None:
    files = open_events([directory], max_record_bytes=1000, batch_records=2)
    numbering = Numbering.of(files.given_as)
    assert positions(list(numbering.numbered(files))) == positions(list(numbering.numbered(files)))


@pytest.mark.parametrize(
    ("window", "times"),
    [
        ((None, None), [0, 1, 2, 10, 11]),
        ((1, None), [1, 2, 10, 11]),
        ((None, 10), [0, 1, 2]),
        ((2, 11), [2, 10]),
        ((11, 2), []),
    ],
)
def test_a_window_begins_inclusive_and_ends_exclusive(
    directory: Path, window: tuple[int | None, int | None], times: list[int]
) -> None:
    files = open_events([directory], max_record_bytes=1000, batch_records=2)
    bounds = [None if bound is None else START_MS + bound for bound in window]
    batches = list(in_window(files, bounds[0], bounds[1], RULES, START_MS + 1000))
    found = [at - START_MS for b in batches for at in b.events.occurred_at_ms.tolist()]
    assert found == times
    assert sum(b.outside_window for b in batches) == 5 - len(times)
    assert sum(len(b.refused) for b in batches) == 1, "its time is not known"
    assert sum(map(len, batches)) == 6, "all records count, whatever the window leaves out"


@pytest.mark.parametrize("at_ms", [-1, START_MS // 1000, START_MS * 1000, 253_402_214_400_000])
def test_an_event_of_an_implausible_time_is_left_to_be_refused_by_every_window(
    tmp_path: Path, at_ms: int
) -> None:
    write(tmp_path / "e.jsonl", [0, at_ms - START_MS, 20])
    files = open_events([tmp_path / "e.jsonl"], max_record_bytes=1000)
    (batch,) = in_window(files, START_MS + 1, START_MS + 10, RULES, START_MS + 1000)
    assert batch.events.occurred_at_ms.tolist() == [at_ms]
