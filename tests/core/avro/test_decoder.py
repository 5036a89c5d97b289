"""Frames, schema resolution, hostile bytes and what their dead letters say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from avro_cases import (
    EVENT,
    FIELDS,
    KEY,
    MONEY,
    OURS,
    TREE,
    as_row,
    decode,
    encoded,
    extra,
    records,
    refusal,
    same,
    writer,
)

from stream_scorer.core.avro import writer_programs
from stream_scorer.core.avro.attributes import attribute
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.schemas import (
    confluent_prefix,
    fingerprint_prefix,
    schema_json,
    single_object_prefix,
)
from stream_scorer.core.events.batch import Reason
from stream_scorer.errors import BusUnavailable


def test_a_batch_of_several_schemas_keeps_its_order() -> None:
    other, third = confluent_prefix(2), b"\xc3\x01" + bytes(8)
    reordered = writer(*reversed(list(FIELDS)))
    values: list[bytes | None] = []
    for i in range(60):
        row = {**EVENT, "event_id": str(i)}
        key, schema = [(KEY, OURS), (other, reordered), (third, reordered)][i % 3]
        values.append(key + encoded(schema, row) if i % 7 else encode_events([row])[0])
    events, dead_letters = decode(values, {KEY: OURS, other: reordered, third: reordered})
    assert not dead_letters
    assert [events.event_id[i] for i in range(60)] == [str(i) for i in range(60)]
    assert events.offsets.tolist() == list(range(100, 160))
    assert same(as_row(events, 31), {**EVENT, "event_id": "31"})


def test_each_bad_record_becomes_a_dead_letter_with_its_reason_and_bytes() -> None:
    good = KEY + encoded(OURS, EVENT)
    values = [
        None, good, b"", b"x" * 1001, confluent_prefix(5) + b"abc", b"\x00\x01", b"\xc3\x01abc",
        b'{"event_id": 1}', b"\xc3\x02" + bytes(20), b"\xc3\x01" + bytes(20), good + b"!",
    ]  # fmt: skip
    events, dead_letters = decode(values, {KEY: OURS})
    assert events.record_index.tolist() == [1]
    bad = [dead_letter.offset - 100 for dead_letter in dead_letters]
    assert bad == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [dead_letter.value for dead_letter in dead_letters] == values[:1] + values[2:]
    assert {
        (dead_letter.topic, dead_letter.partition, dead_letter.key) for dead_letter in dead_letters
    } == {("events", 3, b"key")}
    assert [(dead_letter.reason.value, dead_letter.detail) for dead_letter in dead_letters] == [
        ("empty_value", "the record has no value"),
        ("empty_value", "the record has no value"),
        ("oversized", "1001 bytes, more than the 1000 allowed"),
        ("unknown_schema", "no schema is known for schema id 5"),
        ("undecodable", "the record ends inside its frame, at byte 2"),
        ("undecodable", "the record ends inside its frame, at byte 5"),
        ("undecodable", "no Avro frame: it starts with b'{\"event_'"),
        (
            "undecodable",
            "no Avro frame: it starts with b'\\xc3\\x02\\x00\\x00\\x00\\x00\\x00\\x00'",
        ),
        ("unknown_schema", "no schema is known for schema fingerprint 0000000000000000"),
        ("undecodable", f"bytes left over after the last field, at byte {len(good)}"),
    ]


def test_an_empty_batch_and_a_batch_without_good_records_decode() -> None:
    assert len(decode([], {})[0]) == 0
    events, dead_letters = decode([None, b"?"], {})
    assert len(events) == 0
    assert len(dead_letters) == 2


def test_our_own_fingerprint_is_known_without_any_schema_source() -> None:
    events, dead_letters = decode(list(encode_events([EVENT])), {})
    assert not dead_letters
    assert same(as_row(events, 0), EVENT)


def test_the_detail_names_field_and_byte() -> None:
    body = encoded(OURS, EVENT)
    at = body.index(b"purchase")
    assert refusal(OURS, body[: at + 3]) == (
        f"event_type: the record ends inside it, at byte {len(KEY) + at - 1}"
    )
    broken = body.replace("Zoë".encode(), "Zoë".encode()[:-1] + b"\xff")
    assert refusal(OURS, broken).startswith("customer_id: not valid UTF-8 at byte")
    assert refusal(writer(extra("flag", "boolean"), *FIELDS), b"\x02" + body) == (
        "flag: a boolean that is neither 0 nor 1 at byte 5"
    )


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"\x01", "negative length"),
        (b"\xff" * 10 + b"\x01", "64 bits"),
        (b"\xff" * 9 + b"\x02", "64 bits"),
        (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends inside"),
        (b"\x80", "ends inside"),
        (b"", "ends inside"),
    ],
)
def test_hostile_lengths_are_refused(start: bytes, says: str) -> None:
    assert says in refusal(OURS, start)


@pytest.mark.parametrize(
    "text",
    [
        b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80",
        b"\x80", b"\xe2\x82", b"\xf8\x88\x80\x80\x80", b"a\xff",
    ],
)  # fmt: skip
def test_text_that_is_not_utf8_is_refused_everywhere_we_keep_it(text: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        text.decode()
    bytes_for_text = writer(*FIELDS, event_id="bytes")
    assert "event_id: not valid UTF-8" in refusal(
        bytes_for_text, encoded(bytes_for_text, {**EVENT, "event_id": text})
    )
    head = encoded(OURS, {**EVENT, "attributes": {}})[:-1]
    span = bytes([2 * len(text)]) + text
    assert "attributes: not valid UTF-8" in refusal(OURS, head + b"\x02" + span + b"\x02a\x00")
    assert "attributes: not valid UTF-8" in refusal(OURS, head + b"\x02\x02a" + span + b"\x00")


def test_utf8_of_every_length_is_kept() -> None:
    row = {**EVENT, "customer_id": "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"}
    events, _ = decode([KEY + encoded(OURS, row)], {KEY: OURS})
    assert events.customer_id[0] == row["customer_id"]


def test_maps_in_blocks_are_rewritten_and_the_last_entry_of_a_key_counts() -> None:
    head = encoded(OURS, {**EVENT, "attributes": {}})[:-1]
    bodies = [
        b"\x01\x08\x02a\x021"
        + b"\x02\x02b\x022"
        + b"\x00",  # a block with its size, and a plain one
        b"\x04\x02a\x021\x02a\x023\x00",
        b"\x02\x02b\x00\x00",
        b"\x00",
    ]
    events, dead_letters = decode([KEY + head + body for body in bodies], {KEY: OURS})
    assert not dead_letters
    assert [as_row(events, i)["attributes"] for i in range(4)] == [
        {"a": "1", "b": "2"}, {"a": "3"}, {"b": ""}, {},
    ]  # fmt: skip
    a, b, c = (attribute(events, name) for name in ("a", "b", "c"))
    assert [a[i] for i in range(4)] == ["1", "3", None, None]
    assert [b[i] for i in range(4)] == ["2", None, "", None]
    assert [c[i] for i in range(4)] == [None] * 4


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more items than bytes"),
        (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends inside"),
        (b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "ends inside"),
        (
            b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",
            "not valid UTF-8|not as long|ends inside",
        ),
        (b"\x01\x02\x02a\x021\x00", "a block that is not as long as it says"),
        (b"\x02\x02a\x021", "ends inside"),
    ],
)
def test_hostile_blocks_of_attributes_neither_hang_nor_pass(block: bytes, says: str) -> None:
    head = encoded(OURS, {**EVENT, "attributes": {}})[:-1]
    detail = refusal(OURS, head + block)
    assert any(text in detail for text in says.split("|")), detail


def test_hostile_containers_to_skip_neither_hang_nor_pass() -> None:
    nulls = writer(extra("nulls", {"type": "array", "items": "null"}), *FIELDS)
    body = encoded(OURS, EVENT)
    events, _ = decode([KEY + b"\xd0\x0f\x00" + body], {KEY: nulls})  # a thousand: odd, but legal
    assert len(events) == 1
    assert "more items than bytes" in refusal(
        nulls, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + body
    )
    tree = writer(extra("tree", TREE), *FIELDS)
    assert refusal(tree, b"\x00\x02" * 1_000_000) == "Tree.children: nested too deep at byte 261"


def test_a_schema_that_calls_itself_without_end_is_refused() -> None:
    loop = {"type": "record", "name": "Loop", "fields": [extra("again", "Loop")]}
    assert "nested too deep" in refusal(writer(extra("loop", loop), *FIELDS), b"")
    types: Any = "null"
    for i in range(60):
        inner = [extra("a", types), extra("b", types if types == "null" else types["name"])]
        types = {"type": "record", "name": f"Level{i}", "fields": inner}
    assert "more items than bytes" in refusal(writer(extra("wide", types), *FIELDS), b"")


@pytest.mark.parametrize(
    ("divided", "logical"),
    [(1_234, "timestamp-micros"), (1_234_567, None), (-1, "timestamp-micros")],
)
def test_times_come_in_milliseconds(divided: int, logical: str | None) -> None:
    kind = {"type": "long", "logicalType": logical} if logical else "long"
    schema = writer(*FIELDS, occurred_at=["null", kind])
    body = encoded(schema, {**EVENT, "occurred_at": divided})
    events, _ = decode([KEY + body], {KEY: schema})
    assert events.occurred_at_ms.tolist() == [divided // 1000 if logical else divided]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (writer("event_id", "customer_id", "event_type"), "lacks the field occurred_at"),
        ({**OURS, "name": "Click"}, "the record is named Click, not CustomerEvent"),
        (writer(*FIELDS, event_id="boolean"), "event_id is boolean where string is wanted"),
        (writer(*FIELDS, value="string"), "value is string where double or null is wanted"),
        (writer(*FIELDS, value=["string", "boolean"]), "value is string where double or null"),
        (writer(*FIELDS, customer_id=MONEY), "customer_id is shop.types.Money where string"),
        (
            writer(*FIELDS, attributes={"type": "map", "values": MONEY}),
            "attributes is shop.types.Money where string or null is wanted",
        ),
        (
            writer(*FIELDS, occurred_at={"type": "int", "logicalType": "time-millis"}),
            "occurred_at is time-millis, not a timestamp",
        ),
        ("string", "the schema is string, not a record"),
        ({"type": "record"}, "not a valid Avro schema"),
        ({"type": "nonsense"}, "not a valid Avro schema"),
    ],
)
def test_a_schema_that_does_not_resolve_says_why(schema: Any, says: str) -> None:
    detail = refusal(schema, encoded(OURS, EVENT))
    assert detail.startswith("schema id 1: ")
    assert says in detail


def test_a_union_branch_that_does_not_resolve_refuses_only_its_records() -> None:
    schema = writer(*FIELDS, customer_id=["null", "string", "boolean"])
    rows = [{**EVENT, "customer_id": value} for value in (None, "c", True)]
    events, dead_letters = decode([KEY + encoded(schema, row) for row in rows], {KEY: schema})
    assert [events.customer_id[i] for i in range(len(events))] == ["c"]
    assert [dead_letter.detail for dead_letter in dead_letters] == [
        "customer_id is null where string is wanted, at byte 9",
        "customer_id is boolean where string is wanted, at byte 9",
    ]


def test_schemas_are_asked_for_once_and_unknown_ones_again_later() -> None:
    asked: list[bytes] = []
    known: dict[bytes, str] = {KEY: schema_json("customer_event")}

    def lookup(key: bytes) -> str | None:
        asked.append(key)
        return known.get(key)

    decoder = Decoder(lookup, max_record_bytes=1000)
    late = confluent_prefix(2)
    batch = records([KEY + encoded(OURS, EVENT), late + encoded(OURS, EVENT)])
    for _ in range(writer_programs.ASK_AGAIN_AFTER_BATCHES):
        assert len(decoder.decode(batch)[0]) == 1
    assert asked == [KEY, late]
    known[late] = known[KEY]
    assert len(decoder.decode(batch)[0]) == 2
    assert asked == [KEY, late, late]


def test_an_unreachable_registry_passes_through_and_the_batch_can_be_decoded_again() -> None:
    answers: list[str | None] = [None, schema_json("customer_event")]

    def lookup(key: bytes) -> str | None:
        answer = answers.pop(0)
        if answer is None:
            raise BusUnavailable("registry")
        return answer

    decoder = Decoder(lookup, max_record_bytes=1000)
    batch = records([KEY + encoded(OURS, EVENT)])
    with pytest.raises(BusUnavailable):
        decoder.decode(batch)
    assert len(decoder.decode(batch)[0]) == 1


def test_schema_keys_made_of_corrupt_bytes_do_not_pile_up() -> None:
    decoder = Decoder(lambda _key: None, max_record_bytes=1000)
    n = writer_programs.MAX_UNKNOWN + 50
    for first in range(0, 2 * n, n):
        _, dead_letters = decoder.decode(records([confluent_prefix(first + i) for i in range(n)]))
        assert len(dead_letters) == n
    assert len(decoder._programs._unknown) == writer_programs.MAX_UNKNOWN


def test_an_unfit_record_has_its_reason_and_original_bytes_and_is_not_looked_into() -> None:
    good = KEY + encoded(OURS, EVENT)
    decoder = Decoder(lambda _key: json.dumps(OURS), max_record_bytes=1000)
    batch = records([good, b"\x00\xff{", good, b"x" * 1001])
    events, dead_letters = decoder.decode(batch, {1: "line 3: größer", 2: "line 4", 3: "line 5"})
    assert len(events) == 1
    assert [(d.reason, d.detail, d.value) for d in dead_letters] == [
        (Reason.UNDECODABLE, "line 3: größer", b"\x00\xff{"),
        (Reason.UNDECODABLE, "line 4", good),
        (Reason.OVERSIZED, "1001 bytes, more than the 1000 allowed", b"x" * 1001),
    ]


def test_frames_are_those_of_the_avro_specification() -> None:
    # CRC-64-AVRO of "int" is 7275d51a3f395c8f (Avro's own test cases), little-endian on the wire.
    assert fingerprint_prefix('"int"').hex() == "c3018f5c393f1ad57572"
    assert len(single_object_prefix("customer_event")) == 10
    assert confluent_prefix(258) == b"\x00\x00\x00\x01\x02"
