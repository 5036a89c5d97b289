"""A stream of which half is spoilt, through real servers and a real consumer process; the stop
rule; and events that their producer sent twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import fuzz_records
import numpy as np
import pytest
from confluent_kafka import Message, Producer
from fuzz_records import CATEGORIES, account, fuzzed, made_up_event, nested
from harness.member import Member
from harness.rig import Rig
from harness.stream import LIFETIME, SPACE
from servers import QUIET_CLIENT, KafkaServer

from stream_scorer.core.avro.dead_letter_encoder import DeadLetterRecord, decode_dead_letter
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import DeadLetter, EventBatch, Reason, RecordBatch
from stream_scorer.core.events.validation import validate
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.state import CustomerStates
from stream_scorer.core.features.state_codec import empty_states, pack
from stream_scorer.io.kafka.messages import record_batch

pytestmark = [
    pytest.mark.containers,
    # MXNet asks scipy for a name that it moved.
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]

RECORDS, CUSTOMERS, SEED = 100_000, 2000, 20240518
HUGE_BYTES = 10_000_000
TOPIC_BYTES, ALLOWED_BYTES, KEPT_BYTES = 12_000_000, 10_500_000, 500_000
ORDER_TOLERANCE = 1e-5  # float32 sums of the same events in another order
FLUSH_SECONDS = 60

MakeRig = Callable[..., Rig]
Pair = tuple[bytes | None, bytes | None]
Position = tuple[int, int]


def publish(kafka: KafkaServer, topic: str, records: Iterable[Pair]) -> dict[Position, int]:
    """All confirmed; which record stands at which (partition, offset)."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "message.max.bytes": TOPIC_BYTES,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            **QUIET_CLIENT,
        }
    )
    number_at: dict[Position, int] = {}

    def note(number: int) -> Callable[[Any, Message], None]:
        def noted(error: Any, message: Message) -> None:
            assert error is None, str(error)
            number_at[message.partition() or 0, message.offset() or 0] = number

        return noted

    count = 0
    for number, (key, value) in enumerate(records):
        producer.produce(topic, key=key, value=value, on_delivery=note(number))
        producer.poll(0)
        count += 1
    assert producer.flush(FLUSH_SECONDS) == 0
    assert len(number_at) == count
    return number_at


@pytest.fixture
def schemas(tmp_path: Path) -> str:
    """A directory with the producer's own schema."""
    directory = tmp_path / "schemas"
    directory.mkdir()
    (directory / "nested.avsc").write_text(fuzz_records.NESTED_SCHEMA)
    return str(directory)


def reported(rig: Rig) -> list[DeadLetterRecord]:
    """The dead-letter topic; marks of replays are left out."""
    values = [m.value() for m in rig.kafka.read_topic(rig.dead)]
    return [decode_dead_letter(value) for value in values if value is not None]


def judged(messages: list[Message]) -> tuple[RecordBatch, EventBatch, list[DeadLetter]]:
    """What one pass over the topic, with both schemas known, makes of it."""
    records = record_batch(messages)
    decoder = Decoder(fuzz_records.lookup, max_record_bytes=ALLOWED_BYTES)
    events, undecodable = decoder.decode(records)
    now_ms = int(records.timestamps_ms.max())
    events, invalid = validate(events, records, fuzz_records.RULES, now_ms)
    return records, events, undecodable + invalid


def folded(events: EventBatch) -> CustomerStates:
    customer, ids = events.customer_id.intern()
    return fold.fold_events(empty_states(ids), events, customer, SPACE).states


def assert_same_vectors(expected: CustomerStates, stored: CustomerStates) -> int:
    """Bit for bit where a customer's events came from one partition, in the order of its log; how
    many those are. To rounding where they came from several, in no fixed order."""
    assert sorted(stored.customer_ids) == sorted(expected.customer_ids)
    row_of = {customer: row for row, customer in enumerate(stored.customer_ids)}
    rows = np.array([row_of[customer] for customer in expected.customer_ids])
    one_source = np.diff(expected.arrays.source_at) == 1
    ours, theirs = pack(expected, SPACE.fingerprint), pack(stored, SPACE.fingerprint)
    for row in np.flatnonzero(one_source).tolist():
        assert ours[row] == theirs[rows[row]], expected.customer_ids[row]
    as_of_ms = expected.arrays.newest_ms
    assert (stored.arrays.newest_ms[rows] == as_of_ms).all()
    a = csr.build(expected, SPACE, as_of_ms).toarray()
    b = csr.build(stored, SPACE, stored.arrays.newest_ms).toarray()[rows]
    np.testing.assert_allclose(a, b, rtol=ORDER_TOLERANCE, atol=1e-6)
    return int(one_source.sum())


def lifetime_counts(states: CustomerStates) -> Counter[tuple[str, str]]:
    """How many events of each (customer, category) the vectors hold."""
    block = next(b for b in SPACE.blocks if b.name.startswith(LIFETIME))
    found: Counter[tuple[str, str]] = Counter()
    a = states.arrays
    for row, customer in enumerate(states.customer_ids):
        for at in range(a.sum_at[row], a.sum_at[row + 1]):
            if block.start <= a.sum_column[at] < block.stop:
                category = CATEGORIES[int(a.sum_column[at]) - block.start]
                found[customer, category] += round(float(a.sum_value[at]))
    return found


def counted(events: Iterable[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """The same, of events as they were made."""
    return Counter((e["customer_id"], e["category_id"]) for e in events if e["category_id"])


def test_each_of_100_000_records_is_applied_or_a_dead_letter(
    make_rig: MakeRig, schemas: str
) -> None:
    rig = make_rig(
        settings={
            "dead_letters": {"max_share": 1.0},
            "batch": {"max_events": 5000, "max_age_ms": 100},
            "events": {"schema_directory": schemas, "max_record_bytes": ALLOWED_BYTES},
            # Spoilt times lie decades apart, and which events are then too old depends on the order
            # in which a customer's partitions are read. Here each valid event shall count.
            "store": {"time_to_live_seconds": 0},
        }
    )
    rig.kafka.configure_topic(rig.input, {"max.message.bytes": TOPIC_BYTES})
    sent = fuzzed(SEED, RECORDS, customers=CUSTOMERS, huge_bytes=HUGE_BYTES, huge_records=2)
    number_at = publish(rig.kafka, rig.input, ((r.key, r.value) for r in sent))
    member = rig.member().start()
    rig.caught_up()
    rig.stop()

    records, events, dead_letters = judged(rig.kafka.read_topic(rig.input))
    stands = list(zip(partition_numbers(records), records.offsets.tolist(), strict=True))
    row_at = {position: row for row, position in enumerate(stands)}
    became = account(
        [sent[number_at[position]] for position in stands], events,
        [(row_at[a.partition, a.offset], a) for a in dead_letters],
    )  # fmt: skip
    assert became.total() == RECORDS
    assert became["applied"] == len(events)

    # The process came to the same verdicts, record by record.
    found, too_large = reported(rig), []
    by_position = {}
    for record in found:
        if record.dead_letter.topic == rig.input:
            by_position[record.dead_letter.partition, record.dead_letter.offset] = record
        else:
            too_large.append(record)
    assert len(by_position) + len(too_large) == len(found)
    assert by_position.keys() == {(a.partition, a.offset) for a in dead_letters}
    for dead_letter in dead_letters:
        assert_reported(by_position[dead_letter.partition, dead_letter.offset], dead_letter)
    # Two customers' ids are longer than the output topic's records may be.
    assert [(r.dead_letter.topic, r.dead_letter.reason) for r in too_large] == [
        (rig.output, Reason.OVERSIZED)
    ] * 2
    totals = member.totals()
    assert totals["records"] == RECORDS
    assert totals["applied"] == became["applied"]
    assert totals["duplicates"] == 0
    assert totals["dead_letters"] == RECORDS - became["applied"]
    same_bits = assert_same_vectors(folded(events), rig.stored())
    assert same_bits >= CUSTOMERS
    print(f"{RECORDS} records, {dict(became)}; {same_bits} records of Redis equal bit for bit")


def partition_numbers(records: RecordBatch) -> list[int]:
    return [records.partitions[i][1] for i in records.partition_index.tolist()]


def assert_reported(record: DeadLetterRecord, dead_letter: DeadLetter) -> None:
    """The dead-letter topic says what it should, with the original bytes up to the limit."""
    theirs = record.dead_letter
    assert (theirs.reason, theirs.detail) == (dead_letter.reason, dead_letter.detail)
    assert (theirs.key, theirs.timestamp_ms) == (dead_letter.key, dead_letter.timestamp_ms)
    if dead_letter.value is None:
        assert theirs.value is None
    else:
        assert theirs.value == dead_letter.value[:KEPT_BYTES]
    assert record.value_bytes == len(dead_letter.value or b"")


def command(member: Member, *arguments: str) -> dict[str, Any]:
    """The report of a command that ends well."""
    program = [sys.executable, "-m", "stream_scorer", *arguments]
    ran = subprocess.run(
        [*program, "-c", str(member.config), "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def test_an_unknown_schema_stops_the_consumer_and_once_it_is_known_nothing_is_missing(
    make_rig: MakeRig, schemas: str
) -> None:
    rig = make_rig(
        settings={
            "dead_letters": {"max_share": 0.5, "window_records": 1000},
            "batch": {"max_events": 200},
        }
    )
    draw = Random(SEED)
    made = [made_up_event(draw, i, f"customer-{draw.randrange(200)}") for i in range(6000)]
    # From the 1500th on, four fifths of the producers use a schema that is nowhere to be found.
    ahead = [i >= 1500 and draw.random() < 0.8 for i in range(len(made))]
    records: list[Pair] = [
        (e["customer_id"].encode(), nested(e, 3) if new else encode_events([e])[0])
        for e, new in zip(made, ahead, strict=True)
    ]
    publish(rig.kafka, rig.input, records)
    member = rig.member().start()
    assert member.ended(120) == 1
    last = member.log().splitlines()[-1]
    assert last.startswith("stream-scorer: ")
    assert "records are dead letters" in last
    assert "unknown_schema (no schema is known for schema fingerprint" in last
    assert "Traceback" not in member.log()

    # What is committed is applied or a dead letter; what is not was not touched.
    committed = rig.committed()
    messages = rig.kafka.read_topic(rig.input)
    before = [m for m in messages if (m.offset() or 0) < committed.get(m.partition() or 0, 0)]
    assert 1000 <= len(before) < len(messages)
    dead = {(r.dead_letter.partition, r.dead_letter.offset) for r in reported(rig)}
    _, events, _ = judged([m for m in before if (m.partition(), m.offset()) not in dead])
    assert len(events) + len(dead) == len(before)
    assert len(dead) > 500
    assert_same_vectors(folded(events), rig.stored())

    # Once the schema is there, the consumer goes on and the dead letters go back.
    rig.members.clear()
    informed = rig.member(events={"schema_directory": schemas}).start()
    rig.caught_up()
    listed = command(informed, "dead-letters", "list", "--limit", "1")
    assert listed["reasons"] == {"unknown_schema": len(dead)}
    replayed = command(informed, "dead-letters", "replay", "--reason", "unknown_schema")
    assert (replayed["matched"], replayed["replayed"]) == (len(dead), len(dead))
    rig.caught_up()
    rig.stop()
    assert lifetime_counts(rig.stored()) == counted(made)
    again = command(informed, "dead-letters", "replay", "--all")
    assert (again["replayed"], again["already"]) == (0, len(dead))


def test_an_event_that_its_producer_sent_twice_counts_once(make_rig: MakeRig) -> None:
    rig = make_rig(settings={"events": {"remember_event_ids": 3}})

    def send(*names: str) -> None:
        """Events of one customer, each a record of its own."""
        rows = [
            {"event_id": name, "customer_id": "ann", "event_type": "view",
             "category_id": CATEGORIES[0], "occurred_at": fuzz_records.START_MS}
            for name in names
        ]  # fmt: skip
        publish(rig.kafka, rig.input, [(b"ann", value) for value in encode_events(rows)])

    def views() -> int:
        return lifetime_counts(rig.stored())["ann", CATEGORIES[0]]

    member = rig.member().start()
    send("a", "b", "a", "a")
    rig.caught_up()
    assert views() == 2
    rig.stop()
    assert member.totals()["duplicates"] == 2
    # The record remembers, not the process.
    member.start()
    send("b", "c", "a")
    rig.caught_up()
    assert views() == 3
    # Now a is the fourth from the end, forgotten.
    send("d", "a", "c")
    rig.caught_up()
    assert views() == 5
    rig.stop()
    assert member.totals()["duplicates"] == 3
    assert member.totals()["applied"] == 3
