"""Hostile writer schemas from a seed, with records: good ones of the schema before it was spoilt,
damaged ones, and noise.

`check` decodes them and holds every answer to fastavro's. Run as a program for longer:
`python tests/core/avro/fuzz_schemas.py SEED COUNT`.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from io import BytesIO
from random import Random
from typing import Any

import fastavro
import numpy as np
from avro_cases import ENUM_WRITERS, TEXTS, WRITERS, as_row, encoded, plain, records

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.file_blocks import split_block
from stream_scorer.core.avro.resolution import skip_program
from stream_scorer.core.avro.schemas import confluent_prefix
from stream_scorer.core.avro.writer_schema import UnusableSchemaError
from stream_scorer.core.events.batch import Reason
from stream_scorer.core.events.numbers_as_text import number_as_text

KEY = confluent_prefix(1)
NUMBERS = (
    -1, -2, -5, -24, 0, 1, 3, 16, 64, 65, 255, 256, 1024, 2**31 - 1, 2**31, 2**32, 2**63, 2**64,
    -(2**31), -(2**31) - 1, -(2**63), 10**400, 1.5, -0.0, 1e308, True, False, None,
)  # fmt: skip
TYPES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
LOGICAL = (
    "decimal", "uuid", "date", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
    "local-timestamp-millis", "duration", "time-micros", 7, None,
)  # fmt: skip
CONNECT: tuple[Any, ...] = (
    "io.debezium.time.MicroTimestamp", "io.debezium.time.ZonedTimestamp", "io.debezium.time.Date",
    "io.debezium.time.Year", "org.apache.kafka.connect.data.Decimal",
    "io.debezium.data.VariableScaleDecimal", "org.apache.kafka.connect.data.Time", "x", 5, {},
)  # fmt: skip
WORDS = ("", "x", "CustomerEvent", "Tree", "string", "shop.types.Money", "\ud800", "a.b", "é", "F")


def spoilt_schemas(seed: int, count: int) -> Iterator[tuple[Any, Any]]:
    """Pairs of a schema as it was and as it was spoilt; one in eight is not spoilt."""
    draw = Random(seed)
    originals = list((WRITERS | ENUM_WRITERS).values())
    for number in range(count):
        original = deepcopy(draw.choice(originals))
        spoilt = deepcopy(original)
        if number % 5 == 0:
            _change_attributes(draw, original)
            spoilt = deepcopy(original)
        for _ in range(draw.choice((1, 1, 2, 4)) if number % 8 else 0):
            spoilt = _spoil(draw, spoilt)
        yield original, spoilt


def _change_attributes(draw: Random, schema: Any) -> None:
    """Another type of the attributes' values, which resolves."""
    decimal = {
        "type": "bytes",
        "logicalType": "decimal",
        "precision": 9,
        "scale": draw.randrange(4),
    }
    values = draw.choice(("long", "double", "boolean", "bytes", "string", decimal))
    for field in schema["fields"] if isinstance(schema, dict) else ():
        if field["name"] == "attributes":
            optional = draw.random() < 0.5
            field["type"] = {"type": "map", "values": ["null", values] if optional else values}


def check(seed: int, count: int) -> Counter[str]:
    """Decode `count` schemas' records; how many became events, which dead letters, and how many
    events fastavro reads in the same way."""
    draw = Random(seed + 1)
    became: Counter[str] = Counter()
    for original, spoilt in spoilt_schemas(seed, count):
        text = json.dumps(spoilt)
        bodies = [_body(draw, original, spoilt) for _ in range(12)]
        decoder = Decoder({KEY: text}.get, max_record_bytes=100_000)
        events, dead_letters = decoder.decode(records([KEY + body for body in bodies]))
        assert len(events) + len(dead_letters) == len(bodies), text
        for dead_letter in dead_letters:
            assert dead_letter.reason is Reason.UNDECODABLE, text
            dead_letter.detail.encode()
            became["refused"] += 1
        for row, number in enumerate(events.record_index.tolist()):
            became["events"] += 1
            became["compared"] += _agrees(as_row(events, row), spoilt, bodies[number], text)
        _split(draw, text, bodies)
    return became


def _split(draw: Random, text: str, bodies: list[bytes]) -> None:
    """As a file's block: the pieces are the block, however wrong its count is."""
    try:
        program = skip_program(text)
    except UnusableSchemaError:
        return
    block = b"".join(bodies)
    given = draw.choice((len(bodies), 0, -1, 1, 2**40, len(block)))
    assert b"".join(split_block(program, block, given, b"")) == block, text


def _agrees(ours: dict[str, Any], schema: Any, body: bytes, text: str) -> bool:
    """Whether fastavro can judge, and then that it read the same."""
    try:
        parsed = fastavro.parse_schema(plain(schema))
        stream = BytesIO(body)
        theirs: Any = fastavro.schemaless_reader(stream, parsed, None)
    except Exception:  # it raises almost anything for a schema that it does not take
        return False
    assert stream.tell() == len(body), text
    for name in TEXTS:
        if isinstance(theirs.get(name), (str, int)):
            assert ours[name] == str(theirs[name]), (text, name)
    attributes = theirs.get("attributes")
    for key, value in attributes.items() if isinstance(attributes, dict) else ():
        found = ours["attributes"].get(key)
        if isinstance(value, float) and found is not None:
            # Text of 32 bits has fewer digits than fastavro's double of them.
            assert float(found) == value or np.float32(found) == np.float32(value), (text, key)
        elif isinstance(value, (str, int, float)):
            expected = value if isinstance(value, str) else number_as_text(value)
            assert found == expected, (text, key)
        elif value is None:
            assert found is None, (text, key)
        elif (
            isinstance(value, bytes)
            and '"values": {"type": "bytes", "logicalType": "decimal"' in text
        ):
            assert re.fullmatch(r"-?\d+(\.\d+)?(E-\d+)?", found), (text, key)
    if isinstance(theirs.get("value"), (int, float)):
        assert ours["value"] == float(theirs["value"]) or theirs["value"] != theirs["value"], text
    return True


def _body(draw: Random, original: Any, spoilt: Any) -> bytes:
    kind = draw.randrange(6)
    if kind == 0:
        return draw.randbytes(draw.choice((0, 1, 11, 60)))
    if kind == 1:
        return bytes(draw.choice((0, 2, 2, 4, 255)) for _ in range(draw.randrange(80)))
    try:
        body = bytearray(_encoded(draw, original if kind == 2 else spoilt))
    except Exception:  # fastavro raises almost anything for a schema that it does not take
        body = bytearray(_encoded(draw, original))
    for _ in range(draw.randrange(3) if body and kind == 3 else 0):
        body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    return bytes(body)


def _encoded(draw: Random, schema: Any) -> bytes:
    return encoded(schema, _datum(draw, schema, dict(_named(schema))))


def _datum(draw: Random, schema: Any, named: dict[str, Any], depth: int = 0) -> Any:  # noqa: PLR0911
    """Data of a schema that was not spoilt."""
    if isinstance(schema, list):
        return _datum(draw, draw.choice(schema), named, depth)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind in named:
        return _datum(draw, named[kind], named, depth)
    if kind == "record":
        return {f["name"]: _datum(draw, f["type"], named, depth + 1) for f in schema["fields"]}
    few = range(draw.randrange(3) if depth < 4 else 0)
    if kind == "array":
        return [_datum(draw, schema["items"], named, depth + 1) for _ in few]
    if kind == "map":
        return {str(i): _datum(draw, schema["values"], named, depth + 1) for i in few}
    if kind == "enum":
        return draw.choice(schema["symbols"])
    if kind == "fixed":
        if not 0 <= schema["size"] <= 1000:
            raise ValueError("too long to be written")
        return draw.randbytes(schema["size"])
    return {
        "null": None, "boolean": draw.random() < 0.5, "int": draw.randint(-(2**31), 2**31 - 1),
        "long": draw.randint(-(2**63), 2**63 - 1), "float": 0.5, "double": draw.random(),
        "bytes": b"bytes", "string": draw.choice(("", "a", "Zoë", "purchase")),
    }[kind]  # fmt: skip


def _named(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every named type under its name with and without its namespace."""
    if isinstance(schema, dict) and "symbols" not in schema:
        for part in schema.values():
            yield from _named(part)
    for part in schema if isinstance(schema, list) else ():
        yield from _named(part)
    if isinstance(schema, dict) and schema.get("type") in ("record", "enum", "fixed"):
        yield schema["name"], schema
        yield f"{schema.get('namespace')}.{schema['name']}", schema


def _spoil(draw: Random, schema: Any) -> Any:
    """One node replaced, or a field more at the start of a record."""
    if draw.random() < 0.4 and isinstance(schema, dict) and isinstance(schema.get("fields"), list):
        field = {"name": f"x{draw.randrange(10**9)}", "type": _junk(draw, draw.choice(TYPES))}
        return schema | {"fields": [field, *schema["fields"]]}
    nodes = list(_nodes(schema)) if isinstance(schema, (dict, list)) else []
    holder, key = draw.choice(nodes or [(schema, None)])
    if key is None or draw.random() < 0.02:
        return _junk(draw, schema)
    holder[key] = _junk(draw, holder[key])
    return schema


def _nodes(schema: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(schema) if isinstance(schema, dict) else range(len(schema)):
        yield schema, key
        if isinstance(schema[key], (dict, list)):
            yield from _nodes(schema[key])


def _junk(draw: Random, node: Any) -> Any:  # noqa: PLR0911
    kind = draw.randrange(12)
    if kind == 0:
        return draw.choice(NUMBERS)
    if kind == 1:
        return draw.choice(WORDS)
    if kind in (2, 3):
        return draw.choice(TYPES)
    if kind in (4, 5):
        size = draw.choice((*NUMBERS, *range(8)))
        fixed = {"type": "fixed", "name": f"F{draw.randrange(10**9)}", "size": size}
        return fixed | ({"logicalType": draw.choice(LOGICAL)} if draw.random() < 0.5 else {})
    if kind in (6, 7):
        found: dict[str, Any] = {"type": draw.choice(TYPES), "logicalType": draw.choice(LOGICAL)}
        found |= {"connect.name": draw.choice(CONNECT)} if draw.random() < 0.5 else {}
        found |= {"scale": draw.choice(NUMBERS)} if draw.random() < 0.5 else {}
        return found
    if kind == 8:
        return {"type": draw.choice(("array", "map")), "items": node, "values": node}
    if kind == 9:
        return [deepcopy(node) for _ in range(draw.randrange(3))] + [draw.choice(TYPES)]
    if kind == 10:
        symbols = [draw.choice(WORDS) for _ in range(draw.randrange(3))]
        return {"type": "enum", "name": f"E{draw.randrange(10**9)}", "symbols": symbols}
    deep = node
    for _ in range(draw.choice((3, 50, 300))):
        deep = {"type": "array", "items": deep}
    return deep


if __name__ == "__main__":
    print(dict(check(int(sys.argv[1]), int(sys.argv[2]))))
