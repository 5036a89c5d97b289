"""The compiled decoder against fastavro: same answer for every record, whole or damaged.

Deliberate differences, all refusals where fastavro lets a damaged record pass: bytes left over;
varints of more than 64 bits and ints of more than 32; negative positions in a union or enum, which
Python takes from the end; in fields that are skipped also what fastavro does not look at (lengths
past the record's end or negative, booleans other than 0 and 1, unknown symbols, block sizes).
"""

from __future__ import annotations

import json
import random
from typing import Any

import fastavro
import pytest
from avro_cases import (
    ENUM_WRITERS,
    WRITERS,
    as_row,
    by_fastavro,
    data,
    encoded,
    plain,
    records,
    same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.schemas import confluent_prefix

PREFIX = confluent_prefix(9)
STRICTER = (
    "left over", "64 bits", "32 bits", "no such branch", "no such symbol", "block that is not",
)  # fmt: skip
STRICTER_WHEN_SKIPPING = (
    "ends inside", "negative length", "neither 0 nor 1", "more items", "nested too deep",
)  # fmt: skip


def decoder(schema: Any) -> Decoder:
    text = json.dumps(schema)
    return Decoder(lambda key: text if key == PREFIX else None, max_record_bytes=10**6)


def judged(
    schema: Any, bodies: list[bytes], *, resolve: bool = True, only_accepted: bool = False
) -> list[tuple[Any, Any, str, bool]]:
    """For each body: our row, fastavro's (None: refused), our refusal, if fastavro took all."""
    events, dead_letters = decoder(schema).decode(records([PREFIX + body for body in bodies]))
    ours = {int(i): as_row(events, row) for row, i in enumerate(events.record_index)}
    details = {dead_letter.offset - 100: dead_letter.detail for dead_letter in dead_letters}
    assert len(ours) + len(details) == len(bodies)
    parsed = fastavro.parse_schema(plain(schema))
    answers = []
    for i, body in enumerate(bodies):
        if only_accepted and i not in ours:
            continue
        try:
            theirs, taken = by_fastavro(parsed, body, resolve)
        except Exception:  # it raises almost anything
            theirs, taken = None, 0
        answers.append((ours.get(i), theirs, details.get(i, ""), taken == len(body)))
    return answers


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.data())
def test_any_writer_schema_reads_as_fastavro_resolves_it(name: str, draw: Any) -> None:
    schema = WRITERS[name]
    data_list = draw.draw(st.lists(data(schema), min_size=1, max_size=4))
    for ours, theirs, _, _ in judged(schema, [encoded(schema, d) for d in data_list]):
        assert (ours is None) == (theirs is None)
        assert ours is None or same(ours, theirs)


@pytest.mark.parametrize("name", ENUM_WRITERS)
@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.data())
def test_an_enum_is_taken_for_text(name: str, draw: Any) -> None:
    schema = ENUM_WRITERS[name]
    data_list = draw.draw(st.lists(data(schema), min_size=1, max_size=4))
    for ours, theirs, refusal, _ in judged(
        schema, [encoded(schema, d) for d in data_list], resolve=False
    ):
        assert ours is not None, refusal
        defaults = {"category_id": None, "product_id": None, "value": None}
        assert same(ours, {**defaults, **theirs})


def damaged(rng: random.Random, body: bytes) -> bytes:
    """`body` with one to three bytes flipped, lost, added, repeated or cut off."""
    out = bytearray(body)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, 0xC0, 0xED))
        elif kind == 2:
            out[at:at] = bytes([rng.choice((0xFF, 0x80))]) * rng.randint(1, 12)
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            del out[at : at + rng.randint(1, 4)]
        else:
            out[at:at] = out[at : at + rng.randint(1, 9)]
    return bytes(out)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_damaged_records_are_read_as_fastavro_reads_them_or_refused(
    name: str, draw: Any, seed: int
) -> None:
    schema = WRITERS[name]
    rng = random.Random(seed)
    whole = draw.draw(st.lists(data(schema), min_size=1, max_size=4))
    bodies = [damaged(rng, encoded(schema, datum)) for datum in whole for _ in range(60)]
    allowed = STRICTER + STRICTER_WHEN_SKIPPING if "skip" in name else STRICTER
    # fastavro skips past a record's end: an array of 2^40 fixed items would keep it for hours.
    unsafe = name == "containers to skip"
    for ours, theirs, refusal, took_all in judged(schema, bodies, only_accepted=unsafe):
        if ours is not None:
            assert took_all
            assert same(ours, theirs)
        elif theirs is not None and took_all:
            assert any(text in refusal for text in allowed), refusal
