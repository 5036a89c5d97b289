"""The consumer's parts, built from settings.

A consumer is built first and joins its group later. What is wrong with settings, model or store is
reported while it is built, so a member that can't work never takes partitions from those that can.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

import numpy as np
import redis

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.drift.followed import EventWatch
from stream_scorer.core.drift.sampler import Sampler
from stream_scorer.core.events.batch import NO_TIMESTAMP, DeadLetter, RecordBatch, TopicPartition
from stream_scorer.core.features.preparation import Preparation
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.errors import BusUnavailable, ConfigError
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.consumer import KafkaSource
from stream_scorer.io.kafka.group_offsets import Owner
from stream_scorer.io.kafka.group_protocol import chosen_protocol
from stream_scorer.io.kafka.partition_starts import keep_starts
from stream_scorer.io.kafka.rebalances import Rebalances
from stream_scorer.io.kafka.schema_registry import PATIENCE_SECONDS, SchemaLookup
from stream_scorer.io.kafka.sink import KafkaSink
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_cluster import ClusterClient, cluster_client
from stream_scorer.io.stores.redis_memory import EvictionWatch
from stream_scorer.io.stores.redis_sentinel import sentinel_client
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.stores.sharded import ShardedStore
from stream_scorer.io.stores.store import Store
from stream_scorer.live.challenger import open_challenger
from stream_scorer.live.counting_rules import bind_rules, rules_text
from stream_scorer.live.group_binding import bind_group, check_binding
from stream_scorer.live.kept_erasures import open_kept_erasures
from stream_scorer.live.pipeline import Pipeline, Sink, Source
from stream_scorer.live.scoring import Scoring
from stream_scorer.live.served_model import ServedModel, model_at_start
from stream_scorer.live.shop_trend import ShopTrend, TrendPositions, open_keeper
from stream_scorer.live.tracing import MOST_TRACED, OutputHeaders, Traces
from stream_scorer.live.trend_keeper import TrendKeeper
from stream_scorer.log_events import event
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)


def clock_ms() -> int:
    """Now, in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def redis_client(settings: Settings) -> redis.Redis | ClusterClient:
    """A client of the settings' Redis, not yet connected. Raises ConfigError."""
    url = settings.redis.url
    shape = "unix:///PATH?db=DATABASE" if url.startswith("unix:") else "redis://HOST:PORT/DATABASE"
    at = urlsplit(url)
    if at.port == 0 or (url.startswith("unix:") and not at.path):
        # The client would silently take its default port.
        raise ConfigError("redis.url", settings.redis.shown_url, f"write {shape}")
    if not url.startswith("unix:") and not re.fullmatch(r"/?\d*", urlsplit(url).path):
        # The client would silently take database 0.
        remedy = "the database after the last slash is a whole number; write redis://HOST:PORT/0"
        raise ConfigError("redis.url", settings.redis.shown_url, remedy)
    to, options = settings.redis, settings.redis.client_options()
    try:
        if to.mode == "sentinel":
            asking = to.sentinel_options()
            return sentinel_client(url, to.addresses, to.primary_name, options, asking)
        if to.mode == "cluster":
            return cluster_client(url, to.addresses, options, to.shown_url)
        return redis.Redis.from_url(url, **options)
    except ValueError:  # its text may have a part of the password in it
        remedy = f"write {shape}, with %2F for / and so on in a password"
        raise ConfigError("redis.url", settings.redis.shown_url, remedy) from None


def open_store(settings: Settings, space: FeatureSpace, hot_bytes: int = 0) -> RedisStore:
    """The store of the settings' namespace; hot_bytes: see RedisStore."""
    # The store lets the client retry nothing: the loop does, and between its attempts it polls
    # Kafka and can be stopped.
    client = redis_client(settings)
    kind = ShardedStore if isinstance(client, ClusterClient) else RedisStore
    return kind(
        client,
        settings.store.namespace,
        space.fingerprint,
        settings.store.time_to_live_seconds or None,
        hot_bytes,
    )


def open_trend(
    settings: Settings, space: FeatureSpace, server: RedisServer, store: RedisStore
) -> ShopTrend | None:
    """The shop's trend in the settings' namespace; None where the declaration has none.

    server: not that of `store`.
    """
    namespace, every_seconds = settings.store.namespace, settings.store.trend_save_seconds
    opened = open_keeper(server, store, namespace, space, every_seconds)
    return None if opened is None else ShopTrend(*opened, settings.kafka.input_topic, clock_ms)


def lookup_of(settings: Settings, patience_seconds: float = PATIENCE_SECONDS) -> SchemaLookup:
    """Where writer schemas are looked up."""
    directory = settings.events.schema_directory
    registry = settings.schema_registry
    return SchemaLookup(
        [directory] if directory else [],
        registry.client_properties() if registry.url else None,
        patience_seconds,
    )


class Consumer:
    """Source, store, scoring, sink and the pipeline that joins them; a context manager.

    Building it checks what can be checked without joining the group: the declaration, the model and
    its fingerprint, Redis and the namespace. Raises InputError or Unavailable. on_kafka_error is
    called with the name of each transient error; rebalances is told of each of them. traces: None
    where they are off.
    """

    def __init__(
        self,
        settings: Settings,
        on_kafka_error: Callable[[str], None] = lambda _name: None,
        rebalances: Rebalances | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.settings, self._on_kafka_error = settings, on_kafka_error
        self._rebalances, self._traces = rebalances, traces
        self.space = settings.feature_space()
        self._closing, self._membership = ExitStack(), ExitStack()
        # On connections of its own: the store must see every error of its own ones.
        server = RedisServer(redis_client(settings))
        self._closing.callback(server.close)
        self.announcements = Announcements(server, settings.store.namespace)
        self.erasures = open_kept_erasures(settings, self.space.fingerprint, server, clock_ms)
        self.served = model_at_start(settings, self.space, self.announcements)
        self.store = open_store(settings, self.space, settings.store.hot_bytes)
        self.trend = open_trend(settings, self.space, server, self.store)
        one_in = settings.drift.one_in
        self.sampler = Sampler(one_in) if one_in else None
        self.scoring = Scoring(
            self.served.engine, self.space, settings.publish_policy(), clock_ms,
            open_challenger(settings, self.space, self.served.model), self.trend, self.sampler,
        )  # fmt: skip
        admin = KafkaAdmin(settings.kafka.client_properties())
        self._admin = admin
        self._topics: KafkaAdmin | None = admin
        self._topic_had_id = False
        self._group_protocol = ""  # not known yet
        self.lookup = lookup_of(settings)
        self._worker: ThreadPoolExecutor | None = None
        if settings.batch.overlap:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="scoring")
            self._closing.callback(self._worker.shutdown)
        # Closed in reverse order: the member leaves its group first.
        self._closing.callback(self.lookup.close)
        self._closing.callback(self.leave)
        self.evictions = EvictionWatch(self.store.server, allowed=settings.redis.allow_eviction)
        self.evictions.refuse()
        bind_rules(self.store, settings)
        bind_group(admin, settings.kafka, settings.store.namespace, self.store)
        if self.trend is not None:
            self.trend.read()

    def serve(self, served: ServedModel) -> None:
        """Score with another model of the same declaration from now on: between micro-batches."""
        self.served = served
        self.scoring.serve(served.engine)

    def claim(self) -> None:
        """Bind a namespace that was emptied to the declaration and the group again, and erase
        again whom it has forgotten to leave out.

        Raises InputError where it belongs to others.
        """
        self.store.claim(rules_text(self.settings))
        check_binding(self.settings.kafka, self.settings.store.namespace, self.store)
        self.erasures.keep()

    def join(self) -> None:
        """Join the group: from now on `source` must be polled. Raises BusUnavailable or Halt."""
        self.leave()
        kafka, batch = self.settings.kafka, self.settings.batch
        exactly_once = kafka.delivery == "exactly_once"

        def commit_alone(offsets: dict[TopicPartition, int]) -> None:
            sink.commit_alone(offsets)  # the sink is made from the source

        trend = self.trend
        positions = self.store if trend is None else TrendPositions(self.store, trend.keeper)
        self.source = KafkaSource(
            kafka.member_properties(self._protocol()), kafka.input_topic, positions,
            max_events=batch.max_events, max_age_ms=batch.max_age_ms,
            in_transaction=commit_alone if exactly_once else None,
            owner=self._owner(), partner=lambda: Owner(*self.store.shares_group_with()),
            reads_from=keep_starts if trend is None else trend.keeper.begin,
            on_error=self._on_kafka_error, rebalances=self._rebalances,
            traced_records=0 if self._traces is None else MOST_TRACED,
        )  # fmt: skip
        self._membership.callback(self.source.close)
        sink = KafkaSink(
            kafka.producer_properties(), kafka.output_topic, kafka.dead_letter_topic,
            max_dead_letter_bytes=self.settings.publish.max_dead_letter_bytes, clock_ms=clock_ms,
            group_metadata=self.source.group_metadata if exactly_once else None,
            for_commit=self.source.for_commit,
        )  # fmt: skip
        self._membership.callback(sink.close)
        self.sink = sink
        keeper = None if trend is None else trend.keeper
        self.pipeline = self._pipeline(self.source, self.store, sink, keeper, self._traces)
        self._membership.callback(self.pipeline.drop)

    def partition_count(self) -> int:
        """How many partitions the input topic has. Raises BusUnavailable."""
        return max(self._admin.partitions(self.settings.kafka.input_topic), 1)

    def verify(self) -> None:
        """Check that Redis has kept what this owner wrote, and that topic and group are the same.

        Raises StoreRewound, StoreUnavailable, Halt where the topic was created again, InputError
        where another group took the namespace.
        """
        topic = self.settings.kafka.input_topic
        try:
            identity = None if self._topics is None else self._topics.identity(topic)
        except BusUnavailable as error:
            identity = None
            log.debug("%s", error)  # the next check asks again; Redis can be checked now
        if identity:
            self.store.recognise(topic, identity)
            self._topic_had_id = True
        elif identity == "" and not self._topic_had_id:
            self._topics = None  # this broker gives topics no ids, so there is nothing to compare
        self.store.verify()
        # Without partitions nothing was written that could be missed: a store that was emptied
        # meanwhile has forgotten whose it is all the same.
        self.claim()

    def leave(self) -> None:
        """Leave the group. What is not committed is dropped; the next owner reads it again."""
        self._membership.close()

    def warm_up(self) -> None:
        """Process one made-up event, so that no partition waits while kernels are compiled and the
        model is bound."""
        challenger = self.scoring.challenger
        table = self.scoring.trend_table(np.array([clock_ms()]))
        if table is not None:
            self.scoring.use(table)
        self.scoring.engine.warm_up(self.settings.batch.max_events)
        if challenger is not None:
            challenger.engine.warm_up(self.settings.batch.max_events)
        rehearsal = _Rehearsal(self.settings.events.event_types[0])
        self._pipeline(rehearsal, MemoryStore(self.space.fingerprint), rehearsal).step()
        if challenger is not None:
            challenger.start_measuring()  # without the made-up event

    def _protocol(self) -> str:
        """The group protocol; where the settings leave it open, the brokers are asked once."""
        kafka = self.settings.kafka
        if not self._group_protocol:
            asked = kafka.group_protocol
            self._group_protocol = asked or chosen_protocol(
                kafka.classic_properties, kafka.client_properties()
            )
            log.info(
                "group %s: protocol %s", kafka.group_id, self._group_protocol,
                extra=event(
                    "group_protocol_chosen", group=kafka.group_id, protocol=self._group_protocol
                ),
            )  # fmt: skip
        return self._group_protocol

    def _owner(self) -> Owner:
        return Owner(self.settings.store.namespace, self.store.identity)

    def _event_watch(self) -> EventWatch | None:
        """What is noted of events for drift."""
        if self.sampler is None:
            return None
        rule = self.settings.label_rule()
        return EventWatch(rule, self.space.vocabularies[rule.by], self.sampler.rank)

    def _pipeline(
        self,
        source: Source,
        store: Store,
        sink: Sink,
        keeper: TrendKeeper | None = None,
        traces: Traces | None = None,
    ) -> Pipeline:
        settings = self.settings
        return Pipeline(
            source, store, self.scoring, sink,
            decoder=Decoder(
                self.lookup, max_record_bytes=settings.events.max_record_bytes,
                ahead=self.lookup.ahead,
            ),
            preparation=Preparation(
                settings.event_rules(), self.space, settings.memory(), self._event_watch()
            ),
            clock_ms=clock_ms, rates=settings.customer_rates(), worker=self._worker,
            trend=keeper, traces=traces,
        )  # fmt: skip

    def __enter__(self) -> Consumer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._closing.close()


@dataclass(frozen=True)
class _Rehearsal:
    """A source of one event and a sink that keeps nothing."""

    event_type: str

    def poll(self, *, ahead: bool = False) -> RecordBatch:
        event = {"event_id": "1", "customer_id": "1", "event_type": self.event_type,
                 "value": 1.0, "occurred_at": clock_ms()}  # fmt: skip
        (value,) = encode_events([event])
        batch = RecordBatch(
            [value], [b"1"], [("rehearsal", 0)], np.zeros(1, np.int32), np.zeros(1, np.int64),
            np.full(1, NO_TIMESTAMP, np.int64),
        )  # fmt: skip
        return batch.take(np.zeros(0, np.int64)) if ahead else batch

    def claims(self) -> dict[TopicPartition, int]:
        return {("rehearsal", 0): 0}

    def committed(self) -> dict[TopicPartition, int]:
        return {}

    def commit(self, next_offsets: dict[TopicPartition, int]) -> None:
        """Nothing to commit."""

    def leader_epochs(
        self, next_offsets: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        return {}

    def deliver(
        self, keys: list[bytes], values: list[bytes], dead_letters: list[DeadLetter],
        next_offsets: dict[TopicPartition, int], headers: OutputHeaders,
    ) -> None:  # fmt: skip
        """Keep nothing."""
