"""Avro bytes made by hand, for what no library would write."""

from __future__ import annotations

from stream_scorer.core.avro.schemas import schema_json

SYNC = b"s" * 16


def long(number: int) -> bytes:
    """Avro's variable-length zig-zag long."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def text(content: bytes) -> bytes:
    """Bytes, or text as UTF-8, behind their length."""
    return long(len(content)) + content


def container(codec: str, *blocks: tuple[int, bytes], schema: bytes | None = None) -> bytes:
    """A container file of (records, compressed content); nothing checks the schema's text."""
    given = schema_json("customer_event").encode() if schema is None else schema
    header = b"Obj\x01" + long(2) + text(b"avro.schema") + text(given) + text(b"avro.codec")
    header += text(codec.encode()) + long(0) + SYNC
    return header + b"".join(long(n) + text(content) + SYNC for n, content in blocks)
