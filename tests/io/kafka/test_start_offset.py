"""Where a consumer starts: the table of io/kafka/start_offset.py, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_scorer.errors import Halt, HistoryGone
from stream_scorer.io.kafka.start_offset import check_in_log, start_offset

TP = ("events", 3)


@pytest.mark.parametrize(
    ("committed", "watermark", "log", "start"),
    [
        (None, None, (0, 9), 0),
        (None, None, (5, 9), 5),
        (7, 7, (0, 9), 7),
        (7, 4, (0, 9), 4),
        (4, 7, (0, 9), 4),
        (None, 6, (0, 9), 6),
        (7, None, (0, 9), 0),
        (9, 9, (9, 9), 9),
    ],
)
def test_start_is_the_lower_of_committed_offset_and_watermark(
    committed: int | None, watermark: int | None, log: tuple[int, int], start: int
) -> None:
    assert start_offset(TP, committed, watermark, log) == start


@pytest.mark.parametrize(("committed", "watermark"), [(7, 4), (4, 7), (None, 4), (9, None)])
def test_history_that_kafka_deleted_is_not_skipped(
    committed: int | None, watermark: int | None
) -> None:
    with pytest.raises(HistoryGone, match=r"events\[3\].*begins at 5.*store\.namespace"):
        start_offset(TP, committed, watermark, (5, 9))


def test_log_that_ends_before_the_committed_offset_halts() -> None:
    with pytest.raises(Halt, match=r"ends at 9.*created again"):
        start_offset(TP, 50, 50, (0, 9))


@pytest.mark.parametrize(("committed", "watermark"), [(7, 12), (12, 7), (None, 12)])
def test_log_that_lost_records_which_the_store_or_the_group_has_halts(
    committed: int | None, watermark: int | None
) -> None:
    with pytest.raises(Halt, match=r"at offset 12, but Kafka's log ends at 9.*lost its newest"):
        start_offset(TP, committed, watermark, (0, 9))


@given(
    st.none() | st.integers(0, 20), st.none() | st.integers(0, 20),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda p: (min(p), max(p))),
)  # fmt: skip
def test_start_is_in_the_log_and_never_past_what_the_store_needs(
    committed: int | None, watermark: int | None, log: tuple[int, int]
) -> None:
    try:
        start = start_offset(TP, committed, watermark, log)
    except Halt:
        return
    check_in_log(TP, start, log)
    for limit in (committed, watermark):
        assert limit is None or start <= limit
