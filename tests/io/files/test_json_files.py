"""JSON as other tools write it: ids as numbers, arrays, compressed, marked, cut short."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stream_scorer.core.avro.attributes import attribute
from stream_scorer.core.events.batch import DeadLetter, EventBatch
from stream_scorer.core.events.decoded import join_batches
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.events import open_events

START_MS = 1_767_225_600_000
LINE_END = "\n"


def row(i: int, **changed: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{i}", "customer_id": f"c{i}", "event_type": "purchase",
        "occurred_at": START_MS + i, "value": i / 2, **changed,
    }  # fmt: skip


def read(path: Path, **limits: int) -> tuple[EventBatch, list[DeadLetter]]:
    batches = list(open_events([path], **{"max_record_bytes": 100_000, **limits}))
    whole = join_batches(batches)
    return whole.events, whole.refused


def ids(events: EventBatch) -> list[str | None]:
    return [events.event_id[i] for i in range(len(events))]


def lines(rows: list[dict[str, Any]], end: str = LINE_END) -> bytes:
    return "".join(json.dumps(r) + end for r in rows).encode()


@pytest.mark.parametrize("name", ["event_id", "customer_id", "category_id", "product_id"])
@pytest.mark.parametrize(
    ("given", "text"),
    [(1, "1"), (-5, "-5"), (10**30, str(10**30)), (5.0, "5"), (12345678901.0, "12345678901"),
     (0, "0"), ("007", "007")],
)  # fmt: skip
def test_ids_that_are_whole_numbers_are_their_decimal_text(
    tmp_path: Path, name: str, given: object, text: str
) -> None:
    (tmp_path / "e.jsonl").write_bytes(lines([row(0, **{name: given})]))
    events, refused = read(tmp_path / "e.jsonl")
    assert not refused
    assert getattr(events, name)[0] == text


@pytest.mark.parametrize("given", [1.5, True, 2.0**53, [1], {"a": 1}, float("inf")])
def test_what_is_no_id_is_refused_with_column_value_and_remedy(
    tmp_path: Path, given: object
) -> None:
    (tmp_path / "e.jsonl").write_bytes(lines([row(0, customer_id=given), row(1)]))
    events, refused = read(tmp_path / "e.jsonl")
    assert ids(events) == ["e1"]
    shown = "true" if given is True else str(given)
    said = f"line 1: customer_id: {shown!r}: give text or whole numbers"
    assert [(d.offset, d.detail) for d in refused] == [(0, said)]


def test_not_a_number_is_a_missing_id(tmp_path: Path) -> None:
    rows = [row(0, customer_id=float("nan")), row(1, category_id=float("nan"))]
    (tmp_path / "e.jsonl").write_bytes(lines(rows))
    events, refused = read(tmp_path / "e.jsonl")
    assert ids(events) == ["e1"]
    assert events.category_id[0] is None
    assert [d.detail for d in refused] == [
        "line 1: customer_id: (not given): give every event this field"
    ]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({"q": 1}, {"q": "1"}),
        ({"q": 1.0, "r": 0.25, "s": True}, {"q": "1", "r": "0.25", "s": "true"}),
        ({"q": None, "r": ""}, {"r": ""}),
        (None, {}),
        ({}, {}),
        ([{"key": "q", "value": 1}, {"key": "r", "value": None}], {"q": "1"}),
    ],
)  # fmt: skip
def test_attributes_of_any_value_are_text(
    tmp_path: Path, given: object, texts: dict[str, str]
) -> None:
    (tmp_path / "e.jsonl").write_bytes(lines([row(0, attributes=given)]))
    events, refused = read(tmp_path / "e.jsonl")
    assert not refused
    found = {name: attribute(events, name)[0] for name in "qrst"}
    assert {name: text for name, text in found.items() if text is not None} == texts


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"q": [1]}, "attributes.q: '[1]': give text, numbers or booleans"),
        ({"q": {"r": 1}}, "attributes.q: "),
        ([1], "attributes: '[1]': give a map"),
        ("{}", "attributes: '{}': give a map"),
    ],
)
def test_attributes_that_are_no_map_of_values_are_refused(
    tmp_path: Path, given: object, said: str
) -> None:
    (tmp_path / "e.jsonl").write_bytes(lines([row(0, attributes=given), row(1)]))
    events, refused = read(tmp_path / "e.jsonl")
    assert ids(events) == ["e1"]
    assert refused[0].detail.startswith(f"line 1: {said}")


ROWS = [row(i) for i in range(1000)]
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "content",
    [
        lines(ROWS),
        lines(ROWS, "\r\n"),
        lines(ROWS, "\n\n"),
        lines(ROWS)[:-1],
        lines(ROWS) + b"\n \r\n\n",
        MARK + lines(ROWS),
        MARK + lines(ROWS[:500]) + MARK + lines(ROWS[500:]),
        json.dumps(ROWS).encode(),
        json.dumps(ROWS, indent=2).encode() + b"\r\n",
        MARK + b" \n" + json.dumps(ROWS, ensure_ascii=False).encode(),
    ],
    ids=["lines", "crlf", "blank lines", "no end", "blanks at the end", "marked", "marked twice",
         "array", "pretty array", "marked array"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".gz", lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:])),
        (".zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
        (".bz2", bz2.compress),
    ],
    ids=["plain", "gzip", "gzip of two members", "zstandard", "bzip2"],
)
def test_lines_and_arrays_are_read_however_they_are_wrapped(
    tmp_path: Path, content: bytes, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"events.jsonl{suffix}"
    path.write_bytes(compress(content))
    events, refused = read(path, batch_records=300)
    assert not refused
    assert ids(events) == [r["event_id"] for r in ROWS]
    # Most names are for people: what a file holds is seen by its first bytes.
    path.rename(tmp_path / "events")
    assert len(read(tmp_path / "events")[0]) == 1000


def test_an_object_of_an_array_that_is_no_event_is_one_refused_record(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(
        json.dumps([row(0), row(1, customer_id=None), 5, None, row(2, customer_id="Zoë")])
    )
    events, refused = read(tmp_path / "e.json")
    assert ids(events) == ["e0", "e2"]
    assert events.offsets.tolist() == [0, 4]
    assert [(d.offset, d.detail) for d in refused] == [
        (1, "object 2: null in customer_id"),
        (2, "object 3: not a JSON object"),
        (3, "object 4: not a JSON object"),
    ]
    assert json.loads(refused[0].value or b"") == row(1, customer_id=None)
    (tmp_path / "e.json").write_text("[ ]\n")
    assert not list(open_events([tmp_path / "e.json"], max_record_bytes=1000))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"a": 1}, {"a"', "object 2 is not JSON, or cut short"),
        (b'[{"a": 1} {"a": 1}]', "no comma after object 1"),
        (b'[{"a": 1}', "no comma after object 1"),
        (b'[{"a": 1},]', "object 2 is not JSON"),
        (b'[{"a": 1}] {"a": 1}', "something follows the array of 1 objects"),
        (b'[{"a": 1},' + b"[" * 100_000, "object 2 is nested too deep"),
        (b'[{"a": 1},{"b": "' + b"x" * 300_000, "object 2 is not JSON, or"),
        (b"[", "object 1 is not JSON, or cut short"),
    ],
)
def test_a_broken_array_is_one_line_after_its_good_part(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "e.json").write_bytes(content)
    batches = iter(open_events([tmp_path / "e.json"], max_record_bytes=100_000, batch_records=1))
    if content != b"[":
        assert len(next(batches).refused) == 1
    with pytest.raises(EventFileError) as caught:
        list(batches)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "e.json") in str(caught.value)


def test_an_object_of_an_array_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_bytes(b'[{"a": "' + b"x" * 5_000_000 + b'"}]')
    with pytest.raises(EventFileError, match="has more than 1000 bytes"):
        read(tmp_path / "e.json", max_block_bytes=1000)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        (".gz", gzip.compress),
        (".zst", lambda data: pa.compress(data, "zstd", asbytes=True)),
        (".bz2", bz2.compress),
    ],
)
@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_a_compressed_file_that_is_cut_short_is_one_line(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes], keep: float
) -> None:
    content = compress(lines(ROWS))
    path = tmp_path / f"events.jsonl{suffix}"
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(EventFileError, match=r"corrupt or cut short|can't be opened") as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lines(ROWS).decode().encode("utf-16"), "is UTF-16 or UTF-32 text; save it as UTF-8"),
        (lines(ROWS).decode().encode("utf-16-le"), "is UTF-16"),
        (lines(ROWS).decode().encode("utf-16-be"), "is UTF-16"),
        (lines(ROWS).decode().encode("utf-32"), "is UTF-16 or UTF-32"),
        (gzip.compress(b"Obj\x01"), "is compressed as a whole; decompress it"),
        (gzip.compress(b"PAR1"), "is compressed as a whole; decompress it"),
    ],
)
def test_what_can_not_be_read_so_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "e.jsonl").write_bytes(content)
    with pytest.raises(EventFileError, match=said):
        read(tmp_path / "e.jsonl")


def test_a_batch_is_complete_when_it_holds_enough_bytes(tmp_path: Path) -> None:
    """Otherwise ten thousand long lines, a few kilobytes when compressed, would be in memory."""
    rows = [row(i, product_id="x" * 5000) for i in range(100)]
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(lines(rows)))
    batches = list(
        open_events([tmp_path / "e.jsonl.gz"], max_record_bytes=100_000, max_block_bytes=20_000)
    )
    assert sum(len(b.events) for b in batches) == 100
    assert max(map(len, batches)) <= 10


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_an_object_that_has_a_field_twice_is_refused(tmp_path: Path, name: str) -> None:
    """Which of the two is meant can't be known, and readers differ in which they take."""
    good = (
        '{"event_id":"1","customer_id":"a","event_type":"purchase",'
        '"occurred_at":"2026-01-01T00:00:00Z","attributes":{"customer_id":"x","value":"y"}}'
    )
    twice = good.replace('"customer_id":"a",', '"customer_id":"a","customer_id":"b",')
    path = tmp_path / name
    path.write_text(f"[{good},{twice}]" if name == "a.json" else f"{good}\n{twice}\n")
    batch = join_batches(list(open_events([path], max_record_bytes=10_000)))
    assert len(batch.events) == 1
    (refused,) = batch.refused
    assert refused.offset == 1
    assert refused.detail.endswith("2: has the field customer_id more than once")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[" * 9_000, "nested too deep"),
        (b'{"value":1' + b"0" * 5000 + b"}", "a number has more digits than can be read"),
        (b'{"event_id":"caf\xe9"}', "not UTF-8 text at byte 17"),
        (b'{"event_id":"1"},', "not JSON (something follows the object, at character 17)"),
        (b'{"event_id"', "not JSON (Expecting ':' delimiter, at character 12)"),
        (b'{"event_id":"1"}', "lacks the field customer_id"),
        (b'{"event_id":null}', "null in event_id"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_in_plain_words(
    tmp_path: Path, line: bytes, said: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{}\n" + line + b"\n")
    batch = join_batches(list(open_events([tmp_path / "a.jsonl"], max_record_bytes=10_000)))
    assert [r.detail for r in batch.refused] == [
        "line 1: lacks the field event_id",
        f"line 2: {said}",
    ]


def test_objects_over_several_lines_are_one_line_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"event_id": "1"}, indent=2))
    with pytest.raises(EventFileError, match="its objects go over several lines; write one a"):
        list(open_events([tmp_path / "a.json"], max_record_bytes=10_000))
