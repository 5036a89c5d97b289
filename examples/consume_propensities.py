"""The newest propensities of every customer, read from the output topic without stream_scorer.

Usage: python consume_propensities.py SERVERS TOPIC SCHEMA... [--registry URL] [--follow]

SCHEMA is schemas/category_propensities.avsc, and after it, where publish.precision is or was
"float16", schemas/category_propensities_float16.avsc. Prints one JSON object for each customer when
the end of the topic is reached; with --follow it goes on and prints each change.

What a reader has to know:
- A customer's records may repeat, and an older one may come late (from a consumer that was
  suspended after it saved). The newer record is the one with the higher source offset, and of equal
  offsets the one with the later as_of (a refresh without new events). The order in the topic does
  not say which is newer.
- A record without a value, a tombstone, says that the customer is to be forgotten.
- A value begins with a frame that names its schema: 0x00 and a schema registry's id in 4 bytes, or
  0xC3 0x01 and the CRC-64-AVRO fingerprint of the schema in 8 bytes.
"""

import argparse
import json
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from fastavro.schema import fingerprint, to_parsing_canonical_form

Record = dict[str, Any]


class Reader:
    """Framed values to records; writer schemas of a registry are asked for once."""

    def __init__(self, schemas: list[dict[str, Any]], registry_url: str | None = None) -> None:
        """schemas: that of records to read, each once; the last has the fields of all."""
        self._known = {_single_object(schema): fastavro.parse_schema(schema) for schema in schemas}
        self._ours = fastavro.parse_schema(schemas[-1])
        self._registry_url = registry_url
        self._writers: dict[int, Any] = {}

    def read(self, value: bytes) -> Record:
        """The record; times are datetimes. Raises ValueError for a frame of another schema."""
        if value[:10] in self._known:
            writer, body = self._known[value[:10]], value[10:]
        elif value[:1] == b"\x00" and len(value) >= 5:
            writer, body = self._writer(struct.unpack(">I", value[1:5])[0]), value[5:]
        else:
            raise ValueError(f"value begins with {value[:10].hex()}, not with a known schema")
        record = fastavro.schemaless_reader(BytesIO(body), writer, self._ours)
        assert isinstance(record, dict), "the schema is that of a record"
        return record

    def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._writers:
            if self._registry_url is None:
                raise ValueError(f"value has schema id {schema_id}: give --registry URL")
            from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415

            found = SchemaRegistryClient({"url": self._registry_url}).get_schema(schema_id)
            self._writers[schema_id] = fastavro.parse_schema(json.loads(found.schema_str or ""))
        return self._writers[schema_id]


def _single_object(schema: dict[str, Any]) -> bytes:
    canonical = to_parsing_canonical_form(schema)
    # fastavro prints the fingerprint's bytes in the order in which they stand in the frame.
    return b"\xc3\x01" + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


def is_newer(record: Record, known: Record) -> bool:
    """Whether `record`, which came later in the topic, is to replace `known`."""
    here, there = record["source"], known["source"]
    # A refresh of a customer who is known from event files alone names no source: its offset is -1.
    both = here["offset"] >= 0 and there["offset"] >= 0
    if both and (here["topic"], here["partition"]) != (there["topic"], there["partition"]):
        # Partitions were added to the input topic, and offsets do not compare: the later one wins.
        return True
    mine, theirs = (here["offset"], record["as_of"]), (there["offset"], known["as_of"])
    return bool(mine >= theirs)


def take(newest: dict[str, Record], key: str, record: Record | None) -> bool:
    """Put a record, or a tombstone (None), into `newest`; whether that changed anything."""
    if record is None:
        return newest.pop(key, None) is not None
    if key in newest and not is_newer(record, newest[key]):
        return False
    newest[key] = record
    return True


def messages(consumer: Consumer, topic: str, *, follow: bool) -> Iterator[Any]:
    """All messages from the beginning; None each time when every partition is read to its end."""
    found = consumer.list_topics(topic, timeout=20).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    # Without a consumer group: every reader needs the whole topic.
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in found.partitions])
    behind = set(found.partitions)
    while follow or behind:
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:
            if behind:
                behind.discard(message.partition())
                if not behind:
                    yield None
        else:
            raise KafkaException(error)


def shown(record: Record) -> str:
    """A record as one line of JSON."""
    # Where publish.mode is "all": numbers in the model's category order.
    for field, code, size in (("probabilities", "f", 4), ("probabilities_float16", "e", 2)):
        packed = record.get(field)
        if packed is not None:
            numbers = struct.unpack(f"<{len(packed) // size}{code}", packed)
            record = {**record, field: list(numbers)}
    return json.dumps(record, default=lambda moment: moment.isoformat())


def main() -> None:
    """Read to the end, print what is known, and go on where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers")
    parser.add_argument("topic")
    parser.add_argument("schema", type=Path, nargs="+")
    parser.add_argument("--registry", metavar="URL")
    parser.add_argument("--follow", action="store_true")
    given = parser.parse_args()
    schemas = [json.loads(path.read_text(encoding="utf-8")) for path in given.schema]
    reader = Reader(schemas, given.registry)
    consumer = Consumer(
        {
            "bootstrap.servers": given.servers,
            "group.id": "not-used",  # librdkafka wants a name, though nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # As is librdkafka's default: what an aborted transaction wrote is not seen.
            "isolation.level": "read_committed",
        }
    )
    newest: dict[str, Record] = {}
    at_end = False
    try:
        for message in messages(consumer, given.topic, follow=given.follow):
            if message is None:
                at_end = True
                for customer in sorted(newest):
                    print(shown(newest[customer]), flush=True)
                continue
            key, value = message.key().decode(), message.value()
            changed = take(newest, key, None if value is None else reader.read(value))
            if changed and at_end:
                print(shown(newest[key]) if key in newest else f'"{key} is gone"', flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
