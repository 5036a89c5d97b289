"""Ids on disk: each once, in one part, whatever a scan repeats and wherever it was cut off."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.io.files.customer_lists import CustomerLists

PAGES = st.lists(st.lists(st.text(max_size=5), max_size=8), max_size=12)


def everyone(lists: CustomerLists, most: int) -> list[str]:
    return [i for part in lists.parts(most) for i in lists.ids(part)]


@settings(deadline=None)
@given(PAGES, st.integers(1, 9), st.integers(1, 20), st.integers(0, 12), st.integers(1, 9))
def test_every_id_is_in_one_part_once(
    pages: list[list[str]], buckets: int, flush: int, cut: int, most: int
) -> None:
    """Cut off after `cut` pages and gone on with from the cursor that was saved last."""
    with tempfile.TemporaryDirectory() as folder:
        first = CustomerLists(Path(folder) / "l", buckets, flush)
        for number, ids in enumerate(pages[:cut], start=1):
            first.add(ids, number)
        second = CustomerLists(Path(folder) / "l", buckets, flush)
        for number in range(second.cursor or 0, len(pages)):
            second.add(pages[number], number + 1)
        second.add([], None)
        third = CustomerLists(Path(folder) / "l", 1)
        assert third.cursor is None
        found = everyone(third, most)
        assert sorted(found) == sorted({i for page in pages for i in page})
        assert len(third) == sum(map(len, pages))
        parts = third.parts(most)
        assert [a for a, _ in parts] == [0, *(b for _, b in parts[:-1])]
        assert parts[-1][1] == buckets


def test_ids_half_written_by_a_crash_are_cut_off(tmp_path: Path) -> None:
    lists = CustomerLists(tmp_path / "l", 1, 2)
    lists.add(["a", "b"], 7)
    with (tmp_path / "l" / "bucket-0000.jsonl").open("a") as file:
        file.write('["c","d')
    again = CustomerLists(tmp_path / "l", 1, 2)
    assert again.cursor == 7
    again.add(["b", "c"], None)
    assert everyone(again, 10) == ["a", "b", "c"]


def test_begin_again_forgets_all_ids(tmp_path: Path) -> None:
    lists = CustomerLists(tmp_path / "l", 3, 1)
    lists.add(["a", "b"], 7)
    lists.begin_again()
    assert CustomerLists(tmp_path / "l", 3).cursor == 0
    lists.add(["b"], None)
    assert everyone(lists, 10) == ["b"]
