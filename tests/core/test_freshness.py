"""Which scores are due, and what is known of what was published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features.state import NEVER, CustomerStates, StateArrays, topic_hash
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.core.freshness import (
    MOST_SERVED,
    UNKNOWN_MODEL,
    PartitionFreshness,
    Published,
    is_due,
    model_number,
    newest_rows,
    newest_source,
    packed_marks,
    published,
    round_start_ms,
)
from stream_scorer.core.propensities import PublishPolicy, largest_change

OURS, OTHERS = model_number("a"), model_number("b")


def states_of(*sources: list[tuple[str, int, int]], newest_ms: int = 100) -> CustomerStates:
    """Customers with these (topic, partition, offset) and nothing else."""
    empty = empty_states([f"c{i}" for i in range(len(sources))])
    flat = [source for of in sources for source in of]
    changes: dict[str, Any] = {
        "newest_ms": np.full(len(sources), newest_ms, np.int64),
        "source_at": np.cumsum([0, *map(len, sources)]).astype(np.int64),
        "source_topic": np.array([topic_hash(t) for t, _, _ in flat], np.uint32),
        "source_partition": np.array([p for _, p, _ in flat], np.int32),
        "source_offset": np.array([o for _, _, o in flat], np.int64),
    }
    return CustomerStates(empty.customer_ids, StateArrays(*empty.arrays)._replace(**changes))


def due(as_of_ms: int, model: int, before_ms: int, to_ms: int) -> bool:
    known = Published(np.array([as_of_ms]), np.array([model], np.uint64))
    return bool(is_due(known, OURS, before_ms, np.array([to_ms]))[0])


def test_a_score_is_due_where_it_is_as_of_before_the_round() -> None:
    assert due(99, OURS, before_ms=100, to_ms=200)
    assert not due(100, OURS, before_ms=100, to_ms=200)


def test_a_score_of_another_model_is_due_whenever_it_was_published() -> None:
    assert due(150, OTHERS, before_ms=100, to_ms=200)
    assert due(200, OTHERS, before_ms=100, to_ms=200)


def test_a_score_is_never_taken_back_to_an_earlier_moment() -> None:
    assert not due(99, OURS, before_ms=100, to_ms=99)
    assert not due(201, OTHERS, before_ms=100, to_ms=200)


def test_a_customer_without_any_record_is_due() -> None:
    assert due(int(NEVER), OURS, before_ms=100, to_ms=200)


def test_a_mark_counts_only_for_the_event_that_it_was_made_after() -> None:
    states = states_of([("t", 1, 7)], [("t", 1, 8)], [("t", 2, 7)], [("t", 1, 7)])
    source = newest_source(states, "t")
    (mark,) = packed_marks(np.array([500]), (np.array([1]), np.array([7])), OTHERS)
    known = published(states, source, [mark, mark, mark, None], ["a"] * 4)
    assert known.as_of_ms.tolist() == [500, 100, 100, 100]
    assert known.model.tolist() == [OTHERS, OURS, OURS, OURS]


def test_a_mark_has_28_bytes() -> None:
    (mark,) = packed_marks(np.array([2**60]), (np.array([2**31 - 1]), np.array([2**60])), 2**64 - 1)
    assert len(mark) == 28


def test_a_mark_of_another_length_says_nothing() -> None:
    states = states_of([("t", 1, 7)])
    known = published(states, newest_source(states, "t"), [b"12345"], ["a"])
    assert known.as_of_ms.tolist() == [100]


def test_the_newest_source_is_the_highest_offset_of_the_topic() -> None:
    states = states_of([("files", 0, 900), ("t", 1, 7), ("t", 4, 5)], [("files", 0, 1)], [])
    partition, offset = newest_source(states, "t")
    assert partition.tolist() == [1, -1, -1]
    assert offset.tolist() == [7, -1, -1]


def test_a_customer_whose_events_came_from_files_alone_has_no_record() -> None:
    states = states_of([("files", 0, 1)])
    known = published(states, newest_source(states, "t"), [None], [UNKNOWN_MODEL])
    assert known.as_of_ms.tolist() == [NEVER]


def test_rounds_begin_at_the_same_moments_for_all_members() -> None:
    day = 86_400_000
    assert round_start_ms(20 * day + 5, day) == 20 * day == round_start_ms(21 * day - 1, day)


def test_the_model_of_a_record_follows_from_its_offset() -> None:
    known = PartitionFreshness().serving("a", 10).serving("a", 15).serving("b", 20)
    assert [known.served_at(o) for o in (9, 10, 19, 20)] == [UNKNOWN_MODEL, "a", "a", "b"]
    assert known.serving("a", 30).served_at(25) == "b"


def test_a_partition_remembers_some_models_and_takes_earlier_ones_for_unknown() -> None:
    known = PartitionFreshness()
    for i in range(MOST_SERVED + 5):
        known = known.serving(f"m{i}", i)
    assert known.served_at(4) == UNKNOWN_MODEL
    assert known.served_at(5) == "m5"


def test_what_is_kept_of_a_partition_is_read_as_it_was_written() -> None:
    known = PartitionFreshness(until_ms=5, model="b", answered="x").serving("b", 20)
    assert PartitionFreshness.of(known.text().encode()) == known


@pytest.mark.parametrize("text", [None, b"", b"[]", b"{", b'{"served": 3}', b'{"served": [[1]]}'])
def test_what_is_damaged_is_as_if_it_were_not_there(text: bytes | None) -> None:
    assert PartitionFreshness.of(text) == PartitionFreshness()


def scores(*rows: tuple[float, ...]) -> Any:
    """(B, N, 2) of the probabilities of class 1."""
    acts = np.array(rows, np.float32)
    return np.stack([1 - acts, acts], 2)


def test_the_largest_change_looks_at_what_is_published() -> None:
    before, after = scores((0.5, 0.1, 0.2), (0.5, 0.1, 0.2)), scores((0.4, 0.1, 0.9), (0.5, 0.3, 0))
    assert largest_change(before, after, PublishPolicy("all")).tolist() == pytest.approx([0.7, 0.2])
    # Of the first two: in the second row the third category leaves and the second comes.
    policy = PublishPolicy("top_k", top_k=1)
    assert largest_change(before, after, policy).tolist() == pytest.approx([0.7, 0.0])


def test_a_category_that_passes_the_threshold_counts_by_how_much_it_moves() -> None:
    policy = PublishPolicy("threshold", threshold=0.1)
    change = largest_change(scores((0.099, 0.5)), scores((0.101, 0.5)), policy)
    assert change.tolist() == pytest.approx([0.002], abs=1e-6)


def newest(*records: tuple[int, int, int]) -> int:
    """The row of the newest of one customer's records: (partition, offset, as of)."""
    partition, offset, as_of_ms = (np.array(column) for column in zip(*records, strict=True))
    return newest_rows(["c"] * len(records), partition, offset, as_of_ms)["c"]


def test_the_newer_record_has_the_higher_offset_then_the_later_as_of_time() -> None:
    assert newest((0, 7, 50), (0, 6, 90)) == 0  # an older event's, late, as of a later moment
    assert newest((0, 7, 80), (0, 8, 50)) == 1  # a refresh, then an event that came late
    assert newest((0, 7, 50), (0, 7, 80), (0, 7, 70)) == 1  # refreshes that came out of order
    assert newest((0, 7, 50), (0, 7, 50)) == 1


def test_of_two_partitions_the_later_record_is_newer() -> None:
    assert newest((0, 9, 50), (5, 0, 10)) == 1


def test_a_record_without_a_source_is_older_than_any_event() -> None:
    assert newest((-1, -1, 70), (3, 0, 60), (-1, -1, 80)) == 1
    assert newest((-1, -1, 70), (-1, -1, 60)) == 0


def test_customers_come_in_the_order_of_their_newest_records() -> None:
    rows = [("a", 0, 5, 1), ("b", 0, 6, 1), ("a", 0, 7, 1), ("c", 0, 8, 1), ("c", 0, 1, 9)]
    ids, *columns = zip(*rows, strict=True)
    found = newest_rows(list(ids), *(np.array(column) for column in columns))
    assert list(found.items()) == [("b", 1), ("a", 2), ("c", 3)]
