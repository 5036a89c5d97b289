"""Avro containers as other tools, and as attackers, write them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from avro_bytes import container

from stream_scorer.core.events.batch import DeadLetter, EventBatch
from stream_scorer.errors import EventFileError
from stream_scorer.io.files.events import open_events

MS = 1_767_225_600_000
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "connect.version": 1, "connect.name": "io.debezium.time.MicroTimestamp"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}


def schema(**changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "event_id": "string", "customer_id": "string", "event_type": "string",
        "category_id": ["null", "string"], "value": ["null", "double"], "occurred_at": MILLIS,
        **changed,
    }  # fmt: skip
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": "CustomerEvent", "namespace": "com.shop", "fields": listed}


def row(**changed: Any) -> dict[str, Any]:
    return {
        "event_id": "1", "customer_id": "a", "event_type": "purchase", "category_id": "bread",
        "value": 2.5, "occurred_at": MS, **changed,
    }  # fmt: skip


def read(path: Path) -> tuple[list[EventBatch], list[DeadLetter]]:
    batches, dead_letters = [], []
    for batch in open_events([path], max_record_bytes=100_000):
        batches.append(batch.events)
        dead_letters += batch.refused
    return batches, dead_letters


@pytest.mark.parametrize(
    ("changed", "given", "value", "customer"),
    [
        ({"occurred_at": MICROS}, {"occurred_at": MS * 1000}, 2.5, "a"),
        ({"value": ["null", DECIMAL]}, {"value": Decimal("2.50")}, 2.5, "a"),
        ({"attributes": ["null", {"type": "map", "values": "string"}]}, {}, 2.5, "a"),
        ({"customer_id": "long"}, {"customer_id": 10**12}, 2.5, "1000000000000"),
    ],
    ids=["Debezium's microseconds", "a decimal", "null attributes", "ids as whole numbers"],
)
def test_containers_of_other_tools_are_read(
    tmp_path: Path, changed: Any, given: Any, value: float, customer: str
) -> None:
    path = tmp_path / "events.avro"
    with path.open("wb") as stream:
        fastavro.writer(stream, fastavro.parse_schema(schema(**changed)), [row(**given)] * 3)
    (events,), dead_letters = read(path)
    assert not dead_letters
    assert events.occurred_at_ms.tolist() == [MS] * 3
    assert events.value.tolist() == [value] * 3
    assert [events.customer_id[i] for i in range(3)] == [customer] * 3


@pytest.mark.parametrize("size", [-(2**31), -1, -5, 2**31])
def test_a_container_whose_schema_has_an_impossible_size_is_one_line(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "evil.avro"
    fields = [{"name": "x", "type": {"type": "fixed", "name": "F", "size": size}}]
    evil = schema()
    evil["fields"] = fields + evil["fields"]
    block = 1, b"\x02a\x02b\x10purchase\x02"
    path.write_bytes(container("null", block, schema=json.dumps(evil).encode()))
    with pytest.raises(EventFileError, match=rf"the size of com\.shop\.F is {size}, not a whole"):
        read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\xff", "not a readable Avro container"),
        (b"{", "not a valid Avro schema"),
        (b"[" * 100_000, "nested more than|RecursionError"),
        (b'{"type":"array","items":' * 900 + b'"int"' + b"}" * 900, "nested more than"),
        (b'"int"' + b" " * 2**20, "more than the 1048576 allowed"),
    ],
)
def test_a_container_with_a_schema_that_is_none_is_one_line(
    tmp_path: Path, text: bytes, says: str
) -> None:
    path = tmp_path / "evil.avro"
    path.write_bytes(container("null", (1, b""), schema=text))
    with pytest.raises(EventFileError, match=says) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_container_cut_off_in_its_header_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.avro"
    whole = container("null", (0, b""), schema=json.dumps(schema()).encode())
    for length in (4, 10, 60, len(whole) - 20):
        path.write_bytes(whole[:length])
        with pytest.raises(EventFileError, match="not a readable Avro container"):
            read(path)


def test_an_id_in_32_bits_is_read_only_where_it_can_be_no_other(tmp_path: Path) -> None:
    """16777217 becomes 16777216 in 32 bits, which would be another customer."""
    path = tmp_path / "e.avro"
    with path.open("wb") as stream:
        ids = [5.0, 16777215.0, 16777217.0]
        rows = [row(customer_id=one) for one in ids]
        fastavro.writer(stream, schema(customer_id="float"), rows)
    (events,), refused = read(path)
    assert [events.customer_id[i] for i in range(len(events))] == ["5", "16777215"]
    assert [(r.offset, r.detail.split(":")[0]) for r in refused] == [(2, "customer_id")]
