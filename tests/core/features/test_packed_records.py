"""Packed records: nothing is lost, whatever the values; a damaged record is refused by its
customer's id; and docs/reference/formats.md shows a reader of them and an example."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.features.record_head import HEADER_WORDS, PACKED, check_word
from stream_scorer.core.features.state import (
    ERASED_PARTITION,
    ERASED_TOPIC,
    NEVER,
    CustomerStates,
    StateArrays,
    take,
    topic_hash,
)
from stream_scorer.core.features.state_codec import in_words, pack, put_words, unpack
from stream_scorer.errors import FingerprintMismatch

PRINT = 0x1122334455667788
DAY = 86_400_000
NOW = 1_795_478_400_000
PAGE = (Path(__file__).parents[3] / "docs/reference/formats.md").read_text("utf-8")
ODD = np.array(
    [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, 2.0, 3.0, 1.5, 255.0, 256.0, 655.35, 655.36, 0.01,
     1e-40, 3e38, -1.0, 2.0**-9, 128.0, 127.99, 12.34, 0.7071, 16_777_217.0],
    np.float32,
)  # fmt: skip


def states_of(*customers: dict[str, Any]) -> CustomerStates:
    """Of each: newest, sources, and lists of sums, stamps, ids and low parts."""

    def at(name: str) -> Any:
        return np.array([0, *accumulate(len(c.get(name, ())) for c in customers)])

    def column(name: str, part: int, dtype: Any) -> Any:
        return np.array([e[part] for c in customers for e in c.get(name, ())]).astype(dtype)

    return CustomerStates(
        [f"c{i}" for i in range(len(customers))],
        StateArrays(
            np.array([c["newest"] for c in customers], np.int64),
            at("sources"), column("sources", 0, np.uint32), column("sources", 1, np.int32),
            column("sources", 2, np.int64),
            at("sums"), column("sums", 0, np.uint32), column("sums", 1, np.float32),
            at("stamps"), column("stamps", 0, np.uint32), column("stamps", 1, np.float32),
            np.array([e[2] for c in customers for e in c.get("stamps", ())], np.int64),
            at("ids"), np.array([e for c in customers for e in c.get("ids", ())], np.uint64),
            at("low"), column("low", 0, np.uint32), column("low", 1, np.float32),
        ),
    )  # fmt: skip


def random_customer(draw: Any) -> dict[str, Any]:
    """With keys that recur in several ranges, two stamps of some, and values of every kind."""
    keys = np.sort(draw.choice(200, draw.integers(0, 40), replace=False))
    some = keys[draw.random(len(keys)) < draw.choice([0.5, 1.0])]
    ranges = [some + start for start in np.cumsum(draw.integers(200, 100_000, 4))]
    columns = np.concatenate([keys, *ranges]).astype(np.int64)
    kinds = [
        draw.choice(ODD, len(columns)),
        draw.exponential(1.0, len(columns)),
        draw.integers(1, 5, len(columns)),
        draw.integers(1, 90_000, len(columns)) / 100,
        np.resize(draw.exponential(1.0, 3), len(columns)),
    ]
    values = np.choose(draw.integers(0, len(kinds), len(columns)), kinds)
    if draw.random() < 0.3:
        values = np.ones(len(columns))
    unit = int(draw.choice([1, 1000, DAY]))
    ago = draw.integers(0, 400 * DAY // unit, 5) * unit
    newest = int(draw.choice([NOW, -5, NEVER]))
    moments = (NOW if newest == NEVER else newest) - draw.choice(ago, 2 * len(keys))
    twice = np.repeat(keys, 2 if draw.random() < 0.7 else 1)
    stamped = [(4_000_000_000 + k, 1.0, ms) for k, ms in zip(twice, moments, strict=False)]
    low = columns[: draw.integers(0, 3)] if draw.random() < 0.3 else ()
    sources = [(topic_hash("t"), int(p), int(draw.integers(2**40))) for p in range(3)]
    boundary = [(ERASED_TOPIC, ERASED_PARTITION, NOW)] if draw.random() < 0.3 else []
    return {
        "newest": newest, "sources": boundary + sources[: draw.integers(0, 4)],
        "sums": list(zip(columns, values, strict=True)), "stamps": stamped,
        "ids": draw.integers(0, 2**63, draw.integers(0, 4)).tolist(),
        "low": [(c, 1e-9 * c) for c in low],
    }  # fmt: skip


def many(count: int = 300) -> CustomerStates:
    draw = np.random.default_rng(11)
    return states_of(*(random_customer(draw) for _ in range(count)))


def as_words(states: CustomerStates) -> list[bytes]:
    """As releases wrote them before records were packed."""
    words = np.empty(in_words(states), np.uint32)
    cuts = put_words(words, states, PRINT).tolist()
    return [words[a:b].tobytes() for a, b in pairwise(cuts)]


def assert_same(found: CustomerStates, expected: CustomerStates) -> None:
    assert found.customer_ids == expected.customer_ids
    for name in StateArrays._fields:
        a, b = getattr(found.arrays, name), getattr(expected.arrays, name)
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes()), name


def with_check(record: bytes) -> bytes:
    """The record with the check word that its bytes should have."""
    words = np.frombuffer(record, np.uint32).copy()
    words[-1] = check_word(words, 0, len(words) - 1)
    return words.tobytes()


def test_no_bit_is_lost() -> None:
    states = many()
    assert_same(unpack(states.customer_ids, pack(states, PRINT), PRINT), states)


def test_records_of_before_are_read_beside_packed_ones() -> None:
    states = many()
    old, new = as_words(states), pack(states, PRINT)
    assert {record[0] for record in old} == {record[0] for record in new} == {1, 2, 3, 4}
    mixed = [(old, new)[i % 2][i] for i in range(len(states))]
    assert_same(unpack(states.customer_ids, mixed, PRINT), states)


def test_head_and_sources_stand_where_scripts_read_them() -> None:
    states = many()
    for old, new in zip(as_words(states), pack(states, PRINT), strict=True):
        sources = int(np.frombuffer(old, np.uint32)[1])
        assert new[0] == old[0]
        assert new[1] == PACKED >> 8
        assert (
            new[4 : 4 * (HEADER_WORDS + 4 * sources)] == old[4 : 4 * (HEADER_WORDS + 4 * sources)]
        )


def test_a_record_does_not_depend_on_those_that_are_packed_with_it() -> None:
    states = many()
    alone = [pack(take(states, np.array([i])), PRINT)[0] for i in range(len(states))]
    assert pack(states, PRINT) == alone


def test_a_changed_bit_is_noticed_by_its_customers_id() -> None:
    states, draw = many(40), np.random.default_rng(5)
    for row, record in enumerate(pack(states, PRINT)):
        for _ in range(20):
            bit = int(draw.integers(8 * len(record)))
            damaged = bytearray(record)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(FingerprintMismatch, match=f"'c{row}'"):
                unpack([f"c{row}"], [bytes(damaged)], PRINT)


def test_a_record_that_was_cut_off_is_refused() -> None:
    states = many(20)
    for row, record in enumerate(pack(states, PRINT)):
        for length in range(1, len(record), 7):
            cut = record[:length]
            tries = [cut] if length % 4 or length < 40 else [cut, with_check(cut)]
            for one in tries:
                with pytest.raises(FingerprintMismatch, match=f"'c{row}'"):
                    unpack([f"c{row}"], [one], PRINT)


def test_random_bytes_with_a_right_check_word_are_refused_or_read_within_bounds() -> None:
    # CI runs this with every index checked (NUMBA_BOUNDSCHECK).
    states, draw = many(60), np.random.default_rng(6)
    refused = read = 0
    for record in pack(states, PRINT):
        body = 4 * (HEADER_WORDS + 4 * int(np.frombuffer(record, np.uint32)[1]))
        for attempt in range(30):
            damaged = bytearray(record)
            if attempt % 3 == 0:
                damaged[body:-4] = draw.bytes(len(record) - body - 4)
            elif attempt % 3 == 1:
                damaged[int(draw.integers(body, len(record)))] = int(draw.integers(256))
            else:
                counts = draw.integers(0, 2 ** draw.choice([3, 8, 32], 4), 4).astype(np.uint32)
                damaged[4:20] = counts.tobytes()
            try:
                found = unpack(["c"], [with_check(bytes(damaged))], PRINT)
            except FingerprintMismatch:
                refused += 1
            else:
                read += 1
                pack(found, PRINT)
    assert refused > 600
    assert read > 50


def test_a_form_that_a_later_release_writes_is_named() -> None:
    (record,) = pack(many(1), PRINT)
    later = with_check(record[:1] + b"\x02" + record[2:])
    with pytest.raises(FingerprintMismatch, match=r"another version \(51[345]\).+run that release"):
        unpack(["ann"], [later], PRINT)


def example() -> CustomerStates:
    columns = [10, 13, 17, 18, 30, 110, 113, 117, 118, 130]
    half = 2**-0.5
    values = [half, half, 1.5, half, 12.34, 1, 1, 2, 1, 5]
    week = NOW - 7 * DAY
    moments = [week, week, week, week, NOW - 30 * DAY, NOW]
    stamped = [210, 210, 213, 213, 217, 217]
    return states_of(
        {
            "newest": NOW, "sources": [(topic_hash("events"), 2, 41)],
            "sums": list(zip(columns, values, strict=True)),
            "stamps": [(c, 1.0, ms) for c, ms in zip(stamped, moments, strict=True)],
            "ids": [0x0123456789ABCDEF],
        }
    )  # fmt: skip


def test_the_example_of_the_page_is_what_is_packed() -> None:
    text = PAGE.split("An example, of ")[1].split("\n## ")[0]
    said = bytes.fromhex(" ".join(re.findall(r"^\| `([0-9a-f ]+)` \|", text, re.M)))
    (record,), (words,) = pack(example(), PRINT), as_words(example())
    assert record == said
    assert text.startswith(f"{len(record)} bytes; as words it would have {len(words)}.")


def test_the_reader_of_the_page_reads_all_of_it() -> None:
    (reader,) = re.findall(r"```python\n(import struct.*?)```", PAGE, re.S)
    lines = [line for line in reader.partition("def ")[2].splitlines() if line]
    assert len(lines) <= 40
    names: dict[str, Any] = {}
    exec(reader, names)
    states = many(100)
    a = states.arrays
    for row, record in enumerate(pack(states, PRINT)):
        found = names["read_record"](record)
        u, t, low = slice(*a.sum_at[row : row + 2]), slice(*a.stamp_at[row : row + 2]), a.low_at
        at = slice(*low[row : row + 2])
        assert list(found["sums"]) == a.sum_column[u].tolist()
        bits = np.array(list(found["sums"].values()), np.float32)
        assert bits.tobytes() == a.sum_value[u].tobytes()
        stamps = zip(
            *(x[t].tolist() for x in (a.stamp_column, a.stamp_value, a.stamp_ms)), strict=True
        )
        assert found["stamps"] == list(stamps)
        ids = a.recent_id[a.recent_at[row] : a.recent_at[row + 1]].tolist()
        assert (found["event_ids"], found["fingerprint"]) == (ids, PRINT)
        assert found["newest_ms"] == a.newest_ms[row]
        low_parts = dict(zip(a.low_column[at].tolist(), a.low_value[at].tolist(), strict=True))
        assert found["low_parts"] == low_parts
        from_to = slice(*a.source_at[row : row + 2])
        parts = (a.source_topic, a.source_partition, a.source_offset)
        assert found["sources"] == list(zip(*(x[from_to].tolist() for x in parts), strict=True))
