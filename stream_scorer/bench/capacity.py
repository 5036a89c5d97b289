"""`bench capacity`: what an event and a scored customer cost, for `plan` (core/capacity.py).

Costs are processor seconds of this process, and of Redis as it counts them itself: other work on
the machine moves them by tenths, where it moves elapsed time by multiples, and they can be added
up. Costs of an event and of a customer come from two micro-batches of as many events, one with as
many customers, the other with few. The customers are those of a large shop, each with a record of
several events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import redis
from confluent_kafka import Consumer, TopicPartition

from stream_scorer.bench.random_model import random_model
from stream_scorer.bench.shop_workload import AS_OF_MS, NETWORK, Shop, rows_of, space_of
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes
from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.propensity_encoder import PropensityEncoder
from stream_scorer.core.capacity import RECORD_HEAD_BYTES
from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.core.events.validation import EventRules
from stream_scorer.core.features import csr
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import CustomerStates, source_positions
from stream_scorer.core.features.state_codec import pack
from stream_scorer.core.measured_costs import MEANINGS, STAGE
from stream_scorer.core.propensities import PublishPolicy
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.errors import BusUnavailable, Halt, InputError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.refresh_store import RefreshStore
from stream_scorer.live.store_fold import StoreFold
from stream_scorer.model.engines.engine import open_engine, score_chosen

TOPIC = "events"
TIME_TO_LIVE_SECONDS = 400 * 86_400  # records that expire take more of Redis's memory
EVENT_TYPES = ("view", "purchase")
FEW = 4  # events of a customer, in the micro-batch with few customers
EVENTS_BEFORE = (10, 40)  # of each customer, in the two namespaces whose memory is compared
TEN_BEST = PublishPolicy(mode="top_k", top_k=10)
# Values that are produced; of the long ones fewer, since the broker keeps about 20 MB of a topic.
SHORT_BYTES, LONG_BYTES, FEWER_LONG = 120, 4_000, 5
POLL_SECONDS = 1.0
SILENT_POLLS = 20
CLOSING_SECONDS = 5.0
TIMES = 5  # that a run scores, since the clock of processor time is coarse


class _Cost(NamedTuple):
    """Processor seconds of the loop's thread, of encoding propensities, and of Redis."""

    loop: float
    encode: float
    redis: float


def measure(sizes: Sizes, findings: Findings) -> None:
    """Add one result for each of MEANINGS to `findings`; a note where the extra is missing."""
    found: dict[str, list[float]] = {name: [] for name in MEANINGS}
    try:
        with EmbeddedRedis() as server, redis.Redis(port=server.port) as client:
            _measure_records(client, sizes, found)
    except InputError as error:
        if error.field != "extra":
            raise
        findings.notes.append(f"{STAGE} left out: {error}")
        return
    _measure_scoring(sizes, found)
    _measure_kafka(sizes, found)
    for name, values in found.items():
        if name.startswith("redis_bytes") or "seconds" not in name:
            findings.add(STAGE, MEANINGS[name], "bytes", values)
        else:
            findings.add(STAGE, MEANINGS[name], "us", [1e6 * seconds for seconds in values])


def _measure_records(client: redis.Redis, sizes: Sizes, found: dict[str, list[float]]) -> None:
    """Memory of two namespaces, one with longer records; then the costs of micro-batches."""
    shop = Shop(sizes.shop_columns, sizes.shop_categories, sizes.shop_active)
    space, customers = space_of(shop), sizes.capacity_customers
    memory: list[tuple[float, float]] = []
    for events_before in EVENTS_BEFORE:
        client.flushall()
        loop = _Loop(client, space, shop)
        before = _used_bytes(client, loop.store)
        for first in range(0, customers, sizes.capacity_batch):
            who = np.arange(first, min(first + sizes.capacity_batch, customers))
            states = loop.fold(loop.records(np.repeat(who, events_before)))
            lengths = [len(record) for record in pack(states, space.fingerprint)]
        taken = (_used_bytes(client, loop.store) - before) / customers
        memory.append((float(np.mean(lengths)), taken))
        values = csr.build(states, space, states.arrays.newest_ms).getnnz() / len(states)
    (short, of_short), (long, of_long) = memory
    each_byte = (of_long - of_short) / (long - short)
    found["redis_bytes_per_record_byte"].append(each_byte)
    found["redis_key_bytes"].append(of_long - each_byte * long)
    found["record_bytes_per_non_zero"].append((long - RECORD_HEAD_BYTES) / values)
    before = _used_bytes(client, loop.store)
    notes = RefreshStore(loop.store, "bench", TOPIC)
    kept_ms = 1000 * TIME_TO_LIVE_SECONDS
    notes.note(states, [bytes(28)] * len(states), AS_OF_MS, kept_ms)
    found["redis_note_bytes"].append((_used_bytes(client, loop.store) - before) / len(states))
    found["event_bytes"].append(loop.event_bytes)
    draw, n = np.random.default_rng(7), min(sizes.capacity_batch, customers)
    for run in range(sizes.runs + 1):
        many = loop.cost(draw.permutation(customers)[:n])
        few = loop.cost(np.repeat(draw.permutation(customers)[: n // FEW], FEW)[:n])
        if not run:
            continue  # it compiles kernels
        more_customers = n - n // FEW
        # Of a handful of events the difference of two times may be anything.
        each = min(max((many.loop - few.loop) / more_customers, 0.0), many.loop / n)
        found["loop_seconds_per_customer"].append(each)
        found["loop_seconds_per_event"].append(many.loop / n - each)
        found["encode_seconds_per_customer"].append(many.encode / n)
        found["redis_seconds_per_customer"].append(many.redis / n)


class _Loop:
    """The path of one event between the Kafka clients, without scoring."""

    def __init__(self, client: redis.Redis, space: FeatureSpace, shop: Shop) -> None:
        self._client, self._space, self._shop = client, space, shop
        self.store = RedisStore(client, "bench", space.fingerprint, TIME_TO_LIVE_SECONDS)
        self._decoder = Decoder(lambda _key: None, max_record_bytes=1_000_000)
        rules = EventRules(frozenset(EVENT_TYPES), None, False, 300_000, 0)
        self._preparation = Preparation(rules, space)
        self._fold = StoreFold(self.store, space)
        words = space.vocabularies["category_id"]
        self._encoder = PropensityEncoder(words, 2, "capacity", space.fingerprint_hex)
        self._draw, self._offset, self.event_bytes = np.random.default_rng(3), 0, 0.0

    def records(self, who: np.ndarray) -> RecordBatch:  # type: ignore[type-arg]
        """A random event of each customer in `who` (n,), of the last weeks."""
        n, shop = len(who), self._shop
        category = self._draw.integers(shop.categories, size=n).tolist()
        product = self._draw.integers(1_000_000, size=n).tolist()
        age_ms = np.sort(self._draw.integers(90 * 86_400_000, size=n))[::-1].tolist()
        values = encode_events(
            {
                "event_id": f"{self._offset + i:032x}", "customer_id": f"customer-{c:07d}",
                "event_type": EVENT_TYPES[p % 5 == 0], "category_id": f"category-{k:05d}",
                "product_id": f"product-{p}", "value": None, "occurred_at": AS_OF_MS - age,
                "attributes": {},
            }
            for i, (c, k, p, age) in enumerate(
                zip(who.tolist(), category, product, age_ms, strict=True)
            )
        )  # fmt: skip
        self.event_bytes = sum(map(len, values)) / n
        offsets = np.arange(self._offset, self._offset + n)
        self._offset += n
        return RecordBatch(
            list(values), [None] * n, [(TOPIC, 0)], np.zeros(n, np.int32), offsets,
            np.full(n, NO_TIMESTAMP, np.int64),
        )  # fmt: skip

    def fold(self, records: RecordBatch) -> CustomerStates:
        """Decode, prepare, load, apply, save."""
        decoded = DecodedBatch(*self._decoder.decode(records), records)
        prepared = self._preparation.prepare(decoded, AS_OF_MS)
        if prepared.dead_letters:
            raise Halt(f"bench: an event was refused: {prepared.dead_letters[0].detail}")
        return self._fold.fold(prepared, BatchReport())

    def cost(self, who: np.ndarray) -> _Cost:  # type: ignore[type-arg]
        """Of a micro-batch with an event of each customer in `who` (n,)."""
        records = self.records(who)
        served, began = _server_seconds(self._client), time.process_time()
        states = self.fold(records)
        loop = time.process_time() - began
        served = _server_seconds(self._client) - served
        began = time.process_time()
        csr.build(states, self._space, states.arrays.newest_ms)
        self._encode(states)
        return _Cost(loop, time.process_time() - began, served)

    def _encode(self, states: CustomerStates) -> None:
        n, k = len(states), min(TEN_BEST.top_k, self._shop.categories)
        index, offsets = source_positions(states, [(TOPIC, 0)])
        self._encoder.encode_entries(
            [i.encode() for i in states.customer_ids], states.arrays.newest_ms, AS_OF_MS,
            [(TOPIC, 0)], index, offsets, np.arange(n + 1, dtype=np.int64) * k,
            np.tile(np.arange(k, dtype=np.int32), n), np.ones(n * k, np.int32),
            np.full(n * k, 0.5, np.float32),
        )  # fmt: skip


def _measure_scoring(sizes: Sizes, found: dict[str, list[float]]) -> None:
    """Three shops, of which one number differs from the first's, give the three costs exactly."""
    base = Shop(sizes.shop_columns, max(sizes.shop_categories // 10, 10), sizes.shop_active)
    wider = replace(base, categories=sizes.shop_categories)
    fuller = replace(base, active=min(3 * base.active, base.categories))
    scorers = [_scorer(shop, sizes) for shop in (base, wider, fuller)]
    for run in range(sizes.runs + 1):
        # In turns within a run, since the speed of a machine drifts and differences are taken.
        seconds = [0.0] * len(scorers)
        for _ in range(TIMES):
            for i, score in enumerate(scorers):
                began = time.process_time()
                score()
                seconds[i] += time.process_time() - began
        if not run:
            continue  # it compiles kernels
        of_base, of_wider, of_fuller = (s / (TIMES * sizes.batch_rows) for s in seconds)
        category = max((of_wider - of_base) / (wider.categories - base.categories), 0.0)
        value = max((of_fuller - of_base) / (fuller.entries - base.entries), 0.0)
        found["score_seconds_per_category"].append(category)
        found["score_seconds_per_non_zero"].append(value)
        rest = of_base - category * base.categories - value * base.entries
        found["score_seconds"].append(max(rest, 0.0))


def _scorer(shop: Shop, sizes: Sizes) -> Callable[[], object]:
    """What scores a micro-batch of this shop: native engine, ten best."""
    matrix = rows_of(shop, sizes.batch_rows, seed=2).matrix
    engine = open_engine(random_model(space_of(shop), NETWORK, shop.entries), "native")
    return lambda: score_chosen(engine, matrix, TEN_BEST)


def _measure_kafka(sizes: Sizes, found: dict[str, list[float]]) -> None:
    """The clients alone, on a broker that is another process."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    broker = context.Process(target=_broker, args=(theirs,), daemon=True)
    broker.start()
    try:
        address = ours.recv()
        n = sizes.capacity_batch * 4
        for run in range(sizes.runs + 1):
            topic = f"{TOPIC}-{run}"
            short = _produce_seconds(address, topic, n, SHORT_BYTES)
            consumed = _consume_seconds(address, topic, n, sizes.capacity_batch)
            long = _produce_seconds(address, f"long-{topic}", n // FEWER_LONG, LONG_BYTES)
            each_byte = max(long - short, 0.0) / (LONG_BYTES - SHORT_BYTES)
            if run:
                found["kafka_seconds_per_produced_byte"].append(each_byte)
                rest = max(short - each_byte * SHORT_BYTES, 0.0)
                found["kafka_seconds_per_produced"].append(rest)
                found["kafka_seconds_per_consumed"].append(consumed)
    finally:
        ours.close()
        broker.terminate()
        broker.join()


def _broker(ready: Connection) -> None:
    """Serve until the other end is closed."""
    with EmbeddedKafka() as kafka:
        ready.send(kafka.bootstrap_servers)
        ready.poll(None)


def _produce_seconds(address: str, topic: str, records: int, length: int) -> float:
    """Of one record whose value is so long and can't be compressed, as probabilities can't."""
    draw = np.random.default_rng(length)
    values = [draw.bytes(length) for _ in range(records)]
    keys = [str(i).encode() for i in range(records)]
    producer = ConfirmedProducer({"bootstrap.servers": address})
    began = time.process_time()
    producer.send(topic, keys, values)
    producer.settle()
    seconds = (time.process_time() - began) / records
    producer.close()
    return seconds


def _consume_seconds(address: str, topic: str, records: int, batch: int) -> float:
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    try:
        # All partitions at once: joining a group takes seconds and costs no record anything.
        known = consumer.list_topics(topic, timeout=POLL_SECONDS * SILENT_POLLS).topics[topic]
        consumer.assign([TopicPartition(topic, number, 0) for number in known.partitions])
        taken = silent = 0
        began = time.process_time()
        while taken < records:
            messages = consumer.consume(batch, POLL_SECONDS)
            taken += sum(message.value() is not None for message in messages)
            silent = 0 if messages else silent + 1
            if silent > SILENT_POLLS:
                raise BusUnavailable(f"bench: {taken} of {records} records came")
        return (time.process_time() - began) / records
    finally:
        consumer.close()


def _used_bytes(client: redis.Redis, store: RedisStore) -> int:
    """Of Redis's memory, without the buffers of the store's connections: they are as large as
    hundreds of records, and Redis shrinks them at times of its own."""
    store.server.drop_connections()
    until = time.monotonic() + CLOSING_SECONDS
    while client.info("clients")["connected_clients"] > 1 and time.monotonic() < until:  # type: ignore[index,unused-ignore]
        time.sleep(0.001)
    return int(client.info("memory")["used_memory"])  # type: ignore[index,unused-ignore]


def _server_seconds(client: redis.Redis) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])  # type: ignore[index,unused-ignore]
