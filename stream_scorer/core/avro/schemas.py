"""The record schemas and the frames that name a record's schema on the wire.

Reading and writing of records is the other modules' work.

A frame is a short prefix that says which schema the rest was written with: Confluent's (0x00 and a
4-byte big-endian schema id) or Avro's single-object encoding (0xC3 0x01 and the 8-byte
little-endian CRC-64-AVRO fingerprint of the schema's parsing canonical form). The prefix, as bytes,
is the schema key by which everyone here asks for a writer schema.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from stream_scorer.schemas import TEXTS

SchemaName = Literal[
    "customer_event", "category_propensities", "category_propensities_float16", "dead_letter"
]

CONFLUENT_MAGIC = b"\x00"
CONFLUENT_PREFIX_BYTES = 5
SINGLE_OBJECT_MAGIC = b"\xc3\x01"
SINGLE_OBJECT_PREFIX_BYTES = 10


def schema_json(name: SchemaName) -> str:
    """The text of schemas/<name>.avsc."""
    text: str = TEXTS[name]
    return text


@cache
def parsed(name: SchemaName) -> Any:
    """The schema as fastavro wants it, without logical types: times stay integers."""
    return parse_schema(_without_logical_types(json.loads(schema_json(name))))


def fingerprint_prefix(schema: str) -> bytes:
    """The single-object prefix of records written with this schema (JSON text).

    The canonical form leaves out logical types and defaults, so two schemas that differ only in
    those share a prefix. Raises what json and fastavro raise for an invalid schema.
    """
    canonical = to_parsing_canonical_form(json.loads(schema))
    return SINGLE_OBJECT_MAGIC + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


@cache
def single_object_prefix(name: SchemaName) -> bytes:
    """The 10 bytes before each record of our schema `name` where there is no schema registry."""
    return fingerprint_prefix(schema_json(name))


def confluent_prefix(schema_id: int) -> bytes:
    """The 5 bytes before each record written under a schema registry's id."""
    return CONFLUENT_MAGIC + schema_id.to_bytes(4, "big")


def frame_bytes(value: bytes) -> int:
    """How long the frame prefix of `value` is; 0 where it has none that we know."""
    if value.startswith(CONFLUENT_MAGIC) and len(value) >= CONFLUENT_PREFIX_BYTES:
        return CONFLUENT_PREFIX_BYTES
    if value.startswith(SINGLE_OBJECT_MAGIC) and len(value) >= SINGLE_OBJECT_PREFIX_BYTES:
        return SINGLE_OBJECT_PREFIX_BYTES
    return 0


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        kept = {k: v for k, v in schema.items() if k != "logicalType"}
        return {k: _without_logical_types(v) for k, v in kept.items()}
    if isinstance(schema, list):
        return [_without_logical_types(s) for s in schema]
    return schema
