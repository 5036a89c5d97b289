"""Encoders against fastavro, and the errors of wrong rows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from avro_cases import OURS, as_row, by_fastavro, data, records, same
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.avro.dead_letter_encoder import decode_dead_letters, encode_dead_letters
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_event_batch, encode_events
from stream_scorer.core.avro.propensity_encoder import PropensityEncoder, decode_propensities
from stream_scorer.core.avro.schemas import (
    SchemaName,
    confluent_prefix,
    parsed,
    single_object_prefix,
)
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, Reason
from stream_scorer.errors import InputError

ROW = {"event_id": "e", "customer_id": "c", "event_type": "view", "occurred_at": 5}
CATEGORIES = [f"category {i}" for i in range(40)]
TOPICS = [("events", 0), ("events", 11), ("other", 2)]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(data(OURS), max_size=5))
def test_events_come_back_as_they_were_encoded(rows: list[dict[str, Any]]) -> None:
    values = encode_events(rows)
    for value, row in zip(values, rows, strict=True):
        body = value[len(single_object_prefix("customer_event")) :]
        assert same(by_fastavro(parsed("customer_event"), body)[0], row)
    events, dead_letters = Decoder(lambda _key: None, max_record_bytes=10**6).decode(
        records(list(values))
    )
    assert not dead_letters
    assert all(same(as_row(events, i), row) for i, row in enumerate(rows))
    assert encode_event_batch(events) == values
    some = np.arange(len(rows))[::-2]
    prefix = confluent_prefix(77)
    assert encode_event_batch(events.take(some), prefix) == encode_events(
        [rows[i] for i in some], prefix
    )


def test_optional_fields_may_be_left_out_and_moments_may_have_a_zone() -> None:
    moment = datetime(2017, 10, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    row = {**ROW, "occurred_at": moment, "value": np.float32(1.5), "unknown": "dropped"}
    events, _ = Decoder(lambda _key: None, max_record_bytes=999).decode(
        records(list(encode_events([row])))
    )
    assert as_row(events, 0) == {
        **ROW, "occurred_at": 1_506_816_000_000, "value": 1.5, "category_id": None,
        "product_id": None, "attributes": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"customer_id": 5}, "customer_id"),
        ({"event_type": b"view"}, "event_type"),
        ({"category_id": 1}, "category_id"),
        ({"product_id": "\ud800"}, "product_id"),
        ({"value": "1.5"}, "value"),
        ({"value": True}, "value"),
        ({"value": 10**400}, "value"),
        ({"occurred_at": None}, "occurred_at"),
        ({"occurred_at": 1.5}, "occurred_at"),
        ({"occurred_at": 2**63}, "occurred_at"),
        ({"occurred_at": datetime(2017, 1, 1)}, "occurred_at"),
        ({"attributes": ["a"]}, "attributes"),
        ({"attributes": {"a": 1}}, "attributes.a"),
        ({"attributes": {1: "a"}}, "attributes"),
    ],
)
def test_a_wrong_row_is_named_by_its_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        encode_events([{**ROW, **changed}])
    assert caught.value.field == field


def by_schema(record: dict[str, Any], prefix: bytes, name: SchemaName) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, parsed(name), record)
    return prefix + stream.getvalue()


def expected(
    encoder_prefix: bytes, row: int, columns: tuple[Any, ...],
    name: SchemaName = "category_propensities", **published: Any,
) -> bytes:  # fmt: skip
    ids, as_of, scored_at, partitions, index, offsets = columns
    topic, partition = partitions[index[row]] if index[row] >= 0 else ("", -1)
    record = {
        "customer_id": ids[row].decode(), "as_of": int(as_of[row]), "scored_at": scored_at,
        "model_version": "2017-10-01.1", "fingerprint": "0123456789abcdef",
        "source": {"topic": topic, "partition": partition, "offset": int(offsets[row])},
        "propensities": [], "probabilities": None, **published,
    }  # fmt: skip
    return by_schema(record, encoder_prefix, name)


def random_columns(rng: np.random.Generator, rows: int) -> tuple[Any, ...]:
    ids = ["k" * int(rng.integers(0, 200)) + f"Zoë-{i}" for i in range(rows)]
    return (
        [name.encode() for name in ids],
        rng.integers(-(2**62), 2**62, rows) >> rng.integers(0, 62, rows),
        1_500_000_000_000,
        TOPICS,
        rng.integers(-1, len(TOPICS), rows).astype(np.int32),
        rng.integers(-1, 2**40, rows),
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("prefix", [None, confluent_prefix(3)])
def test_full_propensities_are_fastavros_bytes(classes: int, prefix: bytes | None) -> None:
    rng = np.random.default_rng(5)
    encoder = PropensityEncoder(CATEGORIES, classes, "2017-10-01.1", "0123456789abcdef", prefix)
    columns = random_columns(rng, 50)
    width = 40 if classes == 2 else 120
    assert encoder.values_per_record == width
    probabilities = rng.random((50, width)).astype(np.float32)
    values = encoder.encode_all(*columns, probabilities)  # type: ignore[call-arg]
    framed = single_object_prefix("category_propensities") if prefix is None else prefix
    assert values == [
        expected(framed, i, columns, probabilities=probabilities[i].tobytes()) for i in range(50)
    ]
    back = decode_propensities(values)
    assert back.customer_ids == [name.decode() for name in columns[0]]
    assert back.as_of_ms.tolist() == columns[1].tolist()
    assert set(back.scored_at_ms.tolist()) == {columns[2]}
    assert back.offset.tolist() == columns[5].tolist()
    assert back.probabilities is not None
    assert np.array_equal(back.probabilities, probabilities)
    assert back.entries == [[]] * 50


def test_float16_propensities_are_fastavros_bytes_of_the_schema_with_them() -> None:
    rng = np.random.default_rng(7)
    encoder = PropensityEncoder(CATEGORIES, 2, "2017-10-01.1", "0123456789abcdef")
    columns = random_columns(rng, 20)
    probabilities = rng.random((20, 40)).astype(np.float32) ** 9
    values = encoder.encode_all(*columns, probabilities, "float16")  # type: ignore[call-arg]
    prefix = single_object_prefix("category_propensities_float16")
    halved = probabilities.astype("<f2")
    assert values == [
        expected(
            prefix, i, columns, name="category_propensities_float16",
            probabilities_float16=halved[i].tobytes(),
        )
        for i in range(20)
    ]  # fmt: skip
    before = encoder.encode_all(*columns, probabilities)  # type: ignore[call-arg]
    back = decode_propensities([*values, *before])
    assert back.probabilities is not None
    assert np.array_equal(back.probabilities[:20], halved.astype(np.float32))
    assert np.array_equal(back.probabilities[20:], probabilities)
    saved = 2 * 40 - 1  # the other field, which is null, takes a byte
    assert [len(b) - len(v) for b, v in zip(before, values, strict=True)] == [saved] * 20


def test_a_reader_of_the_schema_with_float16_reads_records_of_the_one_without() -> None:
    ours, with_more = parsed("category_propensities"), parsed("category_propensities_float16")
    encoder = PropensityEncoder(["tea"], 2, "v", "0" * 16)
    columns = random_columns(np.random.default_rng(8), 1)
    (value,) = encoder.encode_all(*columns, np.ones((1, 1), np.float32))  # type: ignore[call-arg]
    stream = BytesIO(value[10:])
    found: Any = fastavro.schemaless_reader(stream, ours, with_more)
    assert found["probabilities_float16"] is None
    assert found["probabilities"] == np.ones(1, "<f4").tobytes()


def test_chosen_propensities_are_fastavros_bytes() -> None:
    rng = np.random.default_rng(6)
    encoder = PropensityEncoder(CATEGORIES, 3, "2017-10-01.1", "0123456789abcdef")
    columns = random_columns(rng, 50)
    indptr = np.concatenate(([0], np.cumsum(rng.integers(0, 5, 50))))
    category = rng.integers(0, 40, indptr[-1]).astype(np.int32)
    class_index = rng.integers(1, 3, indptr[-1]).astype(np.int32)
    probability = rng.random(indptr[-1]).astype(np.float32)
    values = encoder.encode_entries(*columns, indptr, category, class_index, probability)  # type: ignore[call-arg]
    entries = [
        [
            (CATEGORIES[category[e]], int(class_index[e]), float(probability[e]))
            for e in range(indptr[i], indptr[i + 1])
        ]
        for i in range(50)
    ]
    names = ("category_id", "class", "probability")
    prefix = single_object_prefix("category_propensities")
    assert values == [
        expected(
            prefix, i, columns, propensities=[dict(zip(names, e, strict=True)) for e in entries[i]]
        )
        for i in range(50)
    ]
    back = decode_propensities(values)
    assert back.probabilities is None
    assert back.entries == entries
    assert back.topics == [TOPICS[i][0] if i >= 0 else "" for i in columns[4]]
    assert back.partition.tolist() == [TOPICS[i][1] if i >= 0 else -1 for i in columns[4]]


def test_no_propensities_encode_to_no_records() -> None:
    encoder = PropensityEncoder(CATEGORIES, 2, "v", "0" * 16)
    nobody: tuple[Any, ...] = ([], np.empty(0, np.int64), 5, [], np.empty(0, np.int32))
    none = np.empty(0, np.int64)
    assert encoder.encode_all(*nobody, none, np.empty((0, 40), np.float32)) == []  # type: ignore[call-arg]
    no_entries = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    assert encoder.encode_entries(*nobody, none, np.zeros(1, np.int64), *no_entries) == []  # type: ignore[call-arg]
    assert len(decode_propensities([])) == 0


def test_what_is_not_a_propensity_record_is_an_input_error() -> None:
    with pytest.raises(InputError, match="as stream-scorer writes them"):
        decode_propensities([b"\x00\x00\x00\x00\x01\x40abc"])


def test_dead_letters_come_back_with_their_bytes() -> None:
    dead_letters = [
        DeadLetter(
            "events", 3, 2**40, 1_500_000_000_000, Reason.UNDECODABLE, "größer", b"k", b"\xff"
        ),
        DeadLetter("events", 0, 7, NO_TIMESTAMP, Reason.EMPTY_VALUE, "", None, None),
    ]
    assert decode_dead_letters(encode_dead_letters(dead_letters, 9, 100)) == dead_letters
    prefix = confluent_prefix(4)
    assert decode_dead_letters(encode_dead_letters(dead_letters, 9, 100, prefix)) == dead_letters


def test_a_dead_letters_value_is_cut_and_its_length_kept() -> None:
    dead_letter = DeadLetter("events", 0, 7, 5, Reason.OVERSIZED, "", None, b"x" * 1000)
    (value,) = encode_dead_letters([dead_letter], 9, 10)
    body = BytesIO(value[len(single_object_prefix("dead_letter")) :])
    row: Any = fastavro.schemaless_reader(body, parsed("dead_letter"), None)
    assert (row["value"], row["value_bytes"], row["failed_at"]) == (b"x" * 10, 1000, 9)
