"""Writer schemas made to break the reader: what must not be believed, and what it may not cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzz_schemas
import pytest
from avro_cases import (
    EVENT,
    FIELDS,
    KEY,
    OURS,
    as_row,
    encoded,
    extra,
    records,
    refusal,
    writer,
)

from stream_scorer.core.avro import assembler, rewritten_maps, writer_programs, writer_schema
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.file_blocks import split_block
from stream_scorer.core.avro.resolution import event_program, skip_program
from stream_scorer.core.avro.schemas import confluent_prefix
from stream_scorer.core.avro.writer_schema import UnusableSchemaError
from stream_scorer.core.events.batch import Reason

BODY = encoded(OURS, EVENT)


@pytest.mark.parametrize("seed", range(4))
def test_records_of_spoilt_schemas_are_read_as_fastavro_reads_them_or_refused(seed: int) -> None:
    became = fuzz_schemas.check(seed, 200)
    assert min(became.values()) > 100  # refused, events, compared with fastavro


@pytest.mark.parametrize(
    "size", [-1, -5, -24, -(2**31), -(2**31) - 1, 2**31, 2**64, 1.0, True, "5"]
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_fixed_of_no_possible_size_is_refused_before_a_record_is_read(
    size: Any, whole: bool
) -> None:
    fixed = {"type": "fixed", "name": "F", "size": size}
    schema = json.dumps(writer(extra("x", fixed), *FIELDS))
    compile_ = event_program if whole else skip_program
    with pytest.raises(UnusableSchemaError, match=r"the size of F is .*, not a whole number"):
        compile_(schema)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"type": "fixed", "name": "F"}, "the size of F is None"),
        ({"type": "enum", "name": "E", "symbols": 5}, "E has no list of symbols"),
        ({"type": "enum", "name": "E", "symbols": ["a", 5]}, "E has no list of symbols"),
        ({"type": "enum", "name": "E", "symbols": ["a", "a"]}, "comes twice"),
        ({"type": "record", "name": "R", "fields": {}}, "R has no list of fields"),
        ({"type": "record", "name": "R", "fields": [5]}, "a field of R has no name"),
        ({"type": "record", "name": "R", "fields": [{"name": "a"}]}, "a of R has no type"),
        ({"type": "record", "name": "R", "fields": [extra("a", "int")] * 2}, "a of R comes twice"),
        ({"type": "record", "fields": []}, "a record has no name"),
        ({"type": "record", "name": "CustomerEvent", "fields": []}, "is defined twice"),
        ({"type": "fixed", "name": "string", "size": 1}, "may not be named string"),
        ({"type": "array"}, "array without items"),
        ({"type": "map"}, "map without values"),
        ([], "a union without branches"),
        ([["null"]], "a union directly in a union"),
        ("Unknown", "the type Unknown is not known"),
        ({"type": 5}, "5 is no type"),
        (None, "None is no type"),
        (
            {
                "type": "fixed",
                "name": "F",
                "size": -1,
                "__fastavro_parsed": True,
                "__named_schemas": {},
            },
            "the size of F is -1",
        ),
        ({"type": "enum", "name": "E", "symbols": ["\ud800"]}, "not a valid Avro schema"),
    ],
)
def test_what_is_wrong_with_a_schema_is_said_in_words(field: Any, says: str) -> None:
    detail = refusal(writer(extra("x", field), *FIELDS), BODY)
    assert detail.startswith("schema id 1: not a valid Avro schema: ")
    assert says in detail
    detail.encode()


def test_a_schema_that_says_that_it_was_checked_is_checked() -> None:
    trusted = {"__fastavro_parsed": True, "__named_schemas": {}}
    schema = writer(extra("x", {"type": "fixed", "name": "F", "size": -5}), *FIELDS) | trusted
    assert "the size of F is -5" in refusal(schema, BODY)


def _nested(depth: int) -> Any:
    deep: Any = "int"
    for _ in range(depth):
        deep = {"type": "array", "items": deep}
    return deep


def test_nesting_size_and_number_of_types_have_limits() -> None:
    assert event_program(json.dumps(writer(extra("x", _nested(90)), *FIELDS)))
    for depth in (writer_schema.MOST_NESTED_TYPES + 1, 900):
        assert "nested more than" in refusal(writer(extra("x", _nested(depth)), *FIELDS), BODY)
    with pytest.raises(UnusableSchemaError, match=r"RecursionError|nested more than"):
        skip_program("[" * 100_000)
    many = ["null"] * (writer_schema.MOST_TYPES + 1)
    assert "has more than 20000 types" in refusal(writer(extra("x", many), *FIELDS), BODY)
    with pytest.raises(UnusableSchemaError, match="more than the 1048576 allowed"):
        skip_program(" " * writer_schema.MOST_SCHEMA_CHARACTERS + '"int"')
    with pytest.raises(UnusableSchemaError, match="not a valid Avro schema"):
        skip_program('{"type": "fixed", "name": "F", "size": ' + "9" * 100_000 + "}")


def test_compiling_has_a_budget_that_repeated_types_use_up() -> None:
    nulls = [extra(f"f{i}", "null") for i in range(5000)]
    named = [writer(*nulls, *FIELDS), *["CustomerEvent"] * 9000]
    # Each branch is our record again, so it is compiled again.
    assert "repeats its types too often" in refusal(named, BODY)
    longs = {"type": "record", "name": "L", "fields": [extra(f"f{i}", "long") for i in range(900)]}
    read = [extra(f"f{i}", "long") for i in range(900)]
    assert "needs more than 50000 instructions" in refusal(
        [writer(*read, *FIELDS), *["CustomerEvent"] * 60, longs], BODY
    )
    symbols = {"type": "enum", "name": "E", "symbols": [f"s{i}" for i in range(10_000)]}
    again = writer(*FIELDS, event_type=[symbols, *["E"] * 5000])
    program = event_program(json.dumps(again))
    assert len(program.symbol_lengths) == 10_000
    # Every branch is refused by a union of many branches, all of which it would have to drop.
    refused = [{"type": "record", "name": f"R{i}", "fields": []} for i in range(5000)]
    detail = refusal(writer(*FIELDS, customer_id=refused), BODY)
    assert "customer_id is R0 where string is wanted" in detail
    assert len(event_program(json.dumps(OURS)).code) < assembler.MOST_INSTRUCTIONS


def test_an_event_of_few_bytes_takes_few_steps_whatever_its_schema() -> None:
    # 65,000 calls of a record with 9,000 fields that have no bytes took 20 s.
    nothing = {"type": "fixed", "name": "Nothing", "size": 0}
    wide = {
        "type": "record",
        "name": "Wide",
        "fields": [extra("f", nothing)] + [extra(f"f{i}", "Nothing") for i in range(9000)],
    }
    types: Any = wide
    for i in range(16):
        name = types["name"]
        types = {
            "type": "record",
            "name": f"Level{i}",
            "fields": [extra("a", types), extra("b", name)],
        }
    schema = writer(extra("wide", types), *FIELDS)
    assert "more items than bytes" in refusal(schema, b"\x02e\x02c\x08view\x02\x00\x00")
    # What has no bytes has no instructions, and a thousand items without bytes are legal.
    of_wide = writer(extra("a", {"type": "array", "items": wide}), *FIELDS)
    assert len(event_program(json.dumps(of_wide)).code) < 50
    empty = {"type": "record", "name": "Empty", "fields": []}
    calls = [extra("f", empty)] + [extra(f"f{i}", "Empty") for i in range(9000)]
    of_calls = writer(
        extra("a", {"type": "array", "items": wide | {"fields": calls}}), *FIELDS
    )  # fmt: skip
    assert "more items than bytes" in refusal(of_calls, b"\xd0\x0f\x00" + BODY)


def test_all_records_of_a_block_share_one_budget() -> None:
    wide = {
        "type": "record",
        "name": "Wide",
        "fields": [extra("a", {"type": "array", "items": "null"})],
    }
    program = skip_program(json.dumps(wide))
    block = b"\x80\x10\x00" * 400  # each a thousand items without bytes
    pieces = split_block(program, block, 400, b"")
    assert b"".join(pieces) == block
    assert len(pieces) < 10  # what is left is one piece, which will not decode


def test_an_array_of_records_with_many_wrappers_is_read_whole() -> None:
    """What a schema may do: ten records around each byte, in two thousand items."""
    inner: Any = "int"
    for i in range(10):
        inner = {"type": "record", "name": f"Wrapper{i}", "fields": [extra("inside", inner)]}
    schema = writer(extra("items", {"type": "array", "items": inner}), *FIELDS)
    datum: Any = 5
    for _ in range(10):
        datum = {"inside": datum}
    body = encoded(schema, {**EVENT, "items": [datum] * 2000})
    decoder = Decoder(lambda _key: json.dumps(schema), max_record_bytes=10**6)
    assert len(decoder.decode(records([KEY + body]))[0]) == 1


def test_the_fuzzers_kernels_run_with_bounds_checked() -> None:
    """In a process of its own, because numba compiles with or without the checks of bounds."""
    program = (
        "import numpy as np, fuzz_schemas\n"
        "from stream_scorer.core.avro.numbers import decimal_value\n"
        "from stream_scorer.jit import BOUNDS_ARE_CHECKED, bytes_of, kernel\n"
        "@kernel\n"
        "def beyond(data):\n"
        "    return decimal_value(bytes_of(data), 5, 4, 0)\n"
        "try:\n"
        "    beyond(np.zeros(6, np.uint8))\n"
        "except IndexError:\n"
        "    print(BOUNDS_ARE_CHECKED, len(fuzz_schemas.check(9, 100)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"NUMBA_BOUNDSCHECK": "1"},
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "3"], done.stderr


LONG = "N" * 900_000
LONG_RECORD = {
    "type": "record", "name": "n" * 500_000,
    "fields": [extra(f"f{i}", "int") for i in range(12_000)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({**OURS, "name": LONG}, "the full name stream_scorer.NNNNN"),
        ({**OURS, "namespace": LONG}, "the full name NNNNN"),
        # Its fields' names for messages took 6 GB, and ended the process.
        (writer(extra("x", LONG_RECORD), *FIELDS), "more than the 1000 allowed"),
        (
            writer(*FIELDS, event_type={"type": "enum", "name": "E", "symbols": [LONG]}),
            "a symbol N",
        ),
        (writer(*FIELDS, occurred_at={"type": "long", "logicalType": LONG}), "is NNNN"),
        (
            writer(*FIELDS, occurred_at={"type": "long", "logicalType": "local-timestamp" + LONG}),
            "has no time zone (local-timestampNNN",
        ),
        (
            writer(
                *FIELDS, occurred_at={"type": "long", "connect.name": "io.debezium.time." + LONG}
            ),
            "is io.debezium.time.NNN",
        ),
        (writer(extra(LONG, "long"), *FIELDS), "N...: the record ends inside it"),
        ({**OURS, "name": "a\nb\x1b[31m"}, r"the record is named a\nb\x1b[31m, not"),
        (writer(extra("a\nb\x1b[31m", "long"), *FIELDS), r"a\nb\x1b[31m: the record ends"),
    ],
)
def test_long_and_unprintable_words_of_a_schema_stay_out_of_messages_and_memory(
    schema: Any, says: str
) -> None:
    detail = refusal(schema, b"")
    assert says in detail
    assert len(detail) < 400
    assert detail.isprintable()


def _with_map(values: Any, entry: bytes, count: int) -> tuple[Any, bytes]:
    """A schema whose attributes are a map of `values`, and a record with `count` such entries."""
    body = bytearray(encoded(OURS, {**EVENT, "attributes": {}})[:-1])
    zigzag = 2 * count
    while zigzag >= 128:
        body.append(zigzag & 127 | 128)
        zigzag >>= 7
    body += bytes([zigzag]) + entry * count + b"\0"
    return writer(*FIELDS, attributes={"type": "map", "values": values}), bytes(body)


SYMBOL = {"type": "enum", "name": "E", "symbols": ["S" * writer_schema.MOST_NAME_CHARACTERS]}
ROUND_DECIMAL = {
    "type": "bytes", "connect.name": "org.apache.kafka.connect.data.Decimal",
    "connect.parameters": {"scale": "-128"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "entry"),
    [(SYMBOL, b"\0\0"), (ROUND_DECIMAL, b"\0\x02\x01"), (["null", SYMBOL], b"\0\2\0")],
)
def test_attributes_whose_text_is_far_longer_than_their_record_are_refused(
    values: Any, entry: bytes
) -> None:
    """Two bytes that name a symbol of 1 MB made a record of 4 kB take 11 s, one of 200 kB end the
    process for lack of memory."""
    schema, body = _with_map(values, entry, 20_000)
    few_schema, few = _with_map(values, entry, 15)
    assert few_schema == schema
    texts = {KEY: json.dumps(schema)}
    decoder = Decoder(texts.get, max_record_bytes=10**6)
    events, dead_letters = decoder.decode(records([KEY + few, KEY + body, KEY + few] * 3))
    assert [d.reason for d in dead_letters] == [Reason.OVERSIZED] * 3
    assert "bytes as text, which is too much for the bytes of the record" in dead_letters[0].detail
    assert len(events) == 6
    assert len(events.attributes.buffer) < 10 * len(KEY + body)
    expected = as_row(events, 0)
    assert len(expected["attributes"][""]) >= 129
    assert all(as_row(events, row) == expected for row in range(6))


def test_maps_are_rewritten_a_part_of_the_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the parts end shows nowhere: not in the maps, nor in which rows are refused."""
    values = ["null", SYMBOL, "string", "long"]
    schema, long_body = _with_map(values, b"\0\2\0", 2_000)
    bodies = [long_body]
    for i in range(40):
        attributes = {f"k{j}": None if j % 3 == 0 else f"v{i}" for j in range(i % 7)}
        bodies.append(encoded(schema, {**EVENT, "attributes": attributes | {"n": i}}))
        bodies.append(encoded(schema, {**EVENT, "attributes": {"none": None}}))
    batch = records([KEY + body for body in [*bodies, long_body, *bodies]])
    found = []
    for at_a_time in (2**18, 7, 1):
        monkeypatch.setattr(rewritten_maps, "ENTRIES_AT_A_TIME", at_a_time)
        decoder = Decoder(lambda _key: json.dumps(schema), max_record_bytes=10**6)
        events, dead_letters = decoder.decode(batch)
        assert [d.record for d in dead_letters] == [0, len(bodies), len(bodies) + 1]
        found.append([as_row(events, row) for row in range(len(events))])
    assert found[0] == found[1] == found[2]
    assert found[0][12]["attributes"] == {"k1": "v6", "k2": "v6", "k4": "v6", "k5": "v6", "n": "6"}
    assert found[0][1]["attributes"] == {}


def test_programs_that_are_kept_have_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = writer(extra("x", {"type": "enum", "name": "E", "symbols": ["s" * 900]}), *FIELDS)
    size = event_program(json.dumps(wide)).size_bytes
    assert 1_000 < size < 10_000
    monkeypatch.setattr(writer_programs, "MAX_PROGRAM_BYTES", 3 * size)
    asked = []

    def lookup(key: bytes) -> str:
        asked.append(key)
        return json.dumps(wide)

    decoder = Decoder(lookup, max_record_bytes=1000)
    keys = [confluent_prefix(i) for i in range(6)]
    assert len(decoder.decode(records(keys))[1]) == 6
    assert len(decoder._programs._programs) == 3
    assert decoder._programs._program_bytes == 3 * size
    decoder.decode(records(keys[-3:]))
    assert asked == keys


def test_a_refused_schema_is_not_kept_in_memory_by_its_error() -> None:
    decoder = Decoder(lambda _key: '{"type": "record"}', max_record_bytes=1000)
    decoder.decode(records([KEY]))
    (kept,) = decoder._programs._programs.values()
    assert isinstance(kept, UnusableSchemaError)
    assert (kept.__traceback__, kept.__context__) == (None, None)
