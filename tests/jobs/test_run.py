"""`run` as a process: it publishes, survives a Redis that comes back empty, and stops cleanly."""

from __future__ import annotations

import json
import math
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import redis
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as KafkaPartition

from stream_scorer.core.avro.decoder import Decoder
from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.events.batch import NO_TIMESTAMP, RecordBatch, TopicPartition
from stream_scorer.core.features import csr
from stream_scorer.core.features.fold import fold_events
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.core.freshness import newest_rows
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.errors import BusUnavailable, FingerprintMismatch, Halt
from stream_scorer.io.kafka.admin import KafkaAdmin
from stream_scorer.io.kafka.producer import ConfirmedProducer
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.telemetry.drift_list import DRIFT
from stream_scorer.io.telemetry.metric_list import OWN_METRICS
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.jobs import run as job
from stream_scorer.live.consumer import Consumer as Parts
from stream_scorer.live.consumer import open_store
from stream_scorer.live.stop import Stop
from stream_scorer.settings.redis import RedisSettings
from stream_scorer.settings.tree import ChallengerSettings, Settings
from tests.live.test_challenger import saved

MOST_POLLS = 1200  # of 100 ms each: a busy machine takes half a minute to start a process


def made_up_events(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "event_id": f"{seed}-{i}",
            "customer_id": f"customer {draw.randrange(40)}",
            "event_type": "purchase",
            "category_id": draw.choice(("soup", "bread", "milk", "tea", "unheard of")),
            "occurred_at": 1_700_000_000_000 + draw.randrange(10**9),
        }
        for i in range(count)
    ]


def publish(kafka: EmbeddedKafka, topic: str, events: list[dict[str, Any]]) -> None:
    producer = ConfirmedProducer({"bootstrap.servers": kafka.bootstrap_servers})
    keys = [e["customer_id"].encode() for e in events]
    producer.send(topic, keys, encode_events(events))
    assert producer.settle() == []


def single_pass(settings: Settings, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Each customer's row as one pass over all events gives it."""
    n = len(events)
    records = RecordBatch(
        list(encode_events(events)), [None] * n, [("all", 0)], np.zeros(n, np.int32),
        np.arange(n), np.full(n, NO_TIMESTAMP),
    )  # fmt: skip
    columns, _ = Decoder(lambda _key: None, max_record_bytes=10_000).decode(records)
    customer, ids = columns.customer_id.intern()
    states = fold_events(empty_states(ids), columns, customer, settings.feature_space()).states
    return rows_of(settings, states)


def rows_of(settings: Settings, states: Any) -> dict[str, Any]:
    matrix = csr.build(states, settings.feature_space(), states.arrays.newest_ms).toarray()
    return dict(zip(states.customer_ids, matrix, strict=True))


@pytest.fixture
def metrics_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def running(config: Path, metrics_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`run`, with its log in run.log beside the config."""
    command = [sys.executable, "-m", "stream_scorer", "run", "-c", str(config)]
    environment = {
        "STREAM_SCORER__TELEMETRY__PORT": str(metrics_port),
        "STREAM_SCORER__TELEMETRY__LOG_FORMAT": "json",
    }
    with config.with_name("run.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=environment)
        yield process
        process.kill()
        process.wait()


def wait_until_committed(settings: Settings, running: subprocess.Popen[bytes]) -> None:
    """Until the group has committed the end of the input topic."""
    kafka = settings.kafka
    properties = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": kafka.group_id}
    probe = Consumer(properties)
    partitions = [KafkaPartition(kafka.input_topic, p) for p in range(4)]
    ends = [probe.get_watermark_offsets(p, 10)[1] for p in partitions]
    for _ in range(MOST_POLLS):
        committed = [max(p.offset, 0) for p in probe.committed(partitions, 10)]
        if committed == ends:
            probe.close()
            return
        assert running.poll() is None, "it stopped; see run.log"
        probe.consume(1, 0.1)  # nothing is assigned: it only waits
    raise AssertionError(f"committed {committed} of {ends}")


def newest_propensities(settings: Settings) -> dict[str, int]:
    """For each customer the as-of time of its newest record."""
    kafka = settings.kafka
    reader = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "reader"})
    partitions = [KafkaPartition(kafka.output_topic, p, 0) for p in range(4)]
    count = sum(reader.get_watermark_offsets(p, 10)[1] for p in partitions)
    reader.assign(partitions)
    values: list[bytes] = []
    for _ in range(MOST_POLLS):
        if len(values) == count:
            break
        found = reader.consume(count - len(values), 0.1)
        values += [m.value() or b"" for m in found if m.error() is None]
    reader.close()
    assert len(values) == count
    published = decode_propensities(values)
    as_of_ms = published.as_of_ms
    rows = newest_rows(published.customer_ids, published.partition, published.offset, as_of_ms)
    return {customer: int(as_of_ms[row]) for customer, row in rows.items()}


def answer_of(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def metrics_of(port: int) -> str:
    return answer_of(port, "/metrics")


def assert_member_shows_itself(metrics: str, events: int) -> None:
    """A member alone, which has published for so many events."""
    for shown in ("alive 1.0", "ready 1.0", "members 1.0", "partitions 4.0"):
        assert f"stream_scorer_{shown}\n" in metrics
    assert 'consumer_lag_seconds{partition="0",topic="customer-events"} 0.0' in metrics
    assert 'rebalances_total{kind="assigned"} 1.0' in metrics
    waited = re.search(r"event_to_propensity_seconds_count (\d+)", metrics)
    assert waited is not None
    assert int(waited[1]) >= events


ROOT = Path(__file__).resolve().parents[2]
# What this run need not move, by the test that does and the word that it knows the metric by.
MOVED_ELSEWHERE: dict[str, dict[str, str | None]] = {
    "tests/io/telemetry/test_drift_metrics.py": {family.name: "DRIFT" for family in DRIFT},
    "tests/io/telemetry/test_shown_metrics.py": dict.fromkeys(
        ("consumer_lag", "consumer_lag_seconds", "extreme_customers", "foreign_keys",
         "split_customers", "refused_writes")
    ),
    "tests/live/test_challenger.py": dict.fromkeys(
        ("challenger_agreement", "challenger_customers", "challenger_difference",
         "challenger_failures", "challenger_on", "challenger_seconds_per_customer")
    ),
    "tests/live/test_model_switch.py": dict.fromkeys(
        ("model_switches", "refused_models", "last_model_switch_seconds")
    ),
    "tests/live/test_refresh.py": {
        "oldest_score_seconds": None, "refresh_customers": "refreshed", "scores": "scores",
    },
    "tests/live/test_shop_trend.py": {
        "trend_age_seconds": "age_seconds", "trend_early_rows": "early_rows",
        "trend_missed_offsets": "missed_offsets",
    },
    "tests/jobs/test_run.py": {"redis_evicted_keys": None},
    "tests/io/kafka/test_group_protocol.py": {"kafka_errors": None},
}  # fmt: skip


def assert_metrics_move(metrics: str) -> None:
    """Of a member that has worked, every metric has a value that is not where it began, but for
    those that another test moves."""
    samples = [line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#")]
    moved = {
        re.split("{", name)[0]
        for name, value in samples
        if float(value) != 0 and math.isfinite(float(value)) and "_created" not in name
    }
    still = {f.name for f in OWN_METRICS if not moved & f.series().keys()}
    elsewhere = {
        f"stream_scorer_{name.removeprefix('stream_scorer_')}"
        for names in MOVED_ELSEWHERE.values()
        for name in names
    }
    assert still <= elsewhere
    for test, names in MOVED_ELSEWHERE.items():
        text = (ROOT / test).read_text(encoding="utf-8")
        for name, word in names.items():
            assert (word or name) in text, f"{test} moves {name} no more"


def assert_log_has_its_events(lines: list[dict[str, Any]]) -> None:
    events = [line["event"] for line in lines if line["event"]]
    assert {"consumer_started", "partitions_assigned", "partition_begun", "store_rewound",
            "records_refused", "values_ignored", "stop_asked"} <= set(events)  # fmt: skip
    assert events[-1] == "consumer_stopped"
    assert lines[-1]["dead_letters"] == 1


def test_vectors_and_scores_are_right_though_redis_came_back_empty(
    config: Path, kafka: EmbeddedKafka, redis_server: EmbeddedRedis,
    running: subprocess.Popen[bytes], metrics_port: int,
) -> None:  # fmt: skip
    settings = Settings.load(config, environment={})
    first, second = made_up_events(1000, 1), made_up_events(300, 2)
    publish(kafka, settings.kafka.input_topic, first)
    wait_until_committed(settings, running)
    redis_server.kill()
    publish(kafka, settings.kafka.input_topic, [*second, {**second[0], "event_type": "theft"}])
    waited, until = re.compile(r'waits_total\{server="redis"\} [1-9]'), time.monotonic() + 60
    while not waited.search(metrics_of(metrics_port)) and time.monotonic() < until:
        time.sleep(0.05)
    redis_server.start()
    wait_until_committed(settings, running)

    expected = single_pass(settings, first + second)
    states = open_store(settings, settings.feature_space()).load(sorted(expected))
    for customer, row in rows_of(settings, states).items():
        np.testing.assert_allclose(row, expected[customer], rtol=1e-6, err_msg=customer)
    as_of = dict(zip(states.customer_ids, states.arrays.newest_ms.tolist(), strict=True))
    assert newest_propensities(settings) == as_of

    lag = 'stream_scorer_consumer_lag_seconds{partition="0",topic="customer-events"} 0.0'
    metrics, until = metrics_of(metrics_port), time.monotonic() + 60
    while lag not in metrics and time.monotonic() < until:  # it is asked for every five seconds
        time.sleep(0.2)
        metrics = metrics_of(metrics_port)
    assert_member_shows_itself(metrics, len(first + second))
    assert "stream_scorer_store_rewinds_total 1.0" in metrics
    assert 'stream_scorer_dead_letters_total{reason="unknown_event_type"} 1.0' in metrics
    unheard_of = 'stream_scorer_ignored_values_total{field="category_id",problem="unknown_word"}'
    assert unheard_of in metrics

    assert_metrics_move(metrics)
    dead_letters: dict[str, int] = {}
    until = time.monotonic() + 60
    while not dead_letters and time.monotonic() < until:  # as its next heartbeat says
        time.sleep(0.2)
        status = json.loads(answer_of(metrics_port, "/api/status"))
        dead_letters = status["totals"]["dead_letters"]
    assert dead_letters == {"unknown_event_type": 1}
    assert (status["totals"]["store_rewinds"], status["problems"]) == (1, [])
    assert json.loads(answer_of(metrics_port, "/healthz"))["ok"]
    assert json.loads(answer_of(metrics_port, "/readyz"))["reason"] == "4 partitions are read"
    assert "All is well" in answer_of(metrics_port, "/")

    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    log = config.with_name("run.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert any("the store lost its newest writes" in line["message"] for line in lines)
    assert lines[-1]["message"].startswith("stopped:")
    assert_log_has_its_events(lines)
    warnings = " ".join(line["message"] for line in lines if line["level"] == "warning")
    assert "1 records left out: unknown_event_type; write a declared type" in warnings
    assert "have a value of category_id that its vocabulary lacks, such as 'unheard" in warnings


def test_a_hangup_begins_rounds_of_refreshing_with_no_restart(
    config: Path, kafka: EmbeddedKafka, running: subprocess.Popen[bytes]
) -> None:
    settings, now_ms = Settings.load(config, environment={}), time.time_ns() // 1_000_000
    event = {**made_up_events(1, 1)[0], "occurred_at": now_ms - 1000}
    publish(kafka, settings.kafka.input_topic, [event])
    wait_until_committed(settings, running)
    assert newest_propensities(settings) == {event["customer_id"]: now_ms - 1000}
    text = config.read_text().replace('every = ""', 'every = "1s"\nleast_change = 0')
    config.write_text(text)
    running.send_signal(signal.SIGHUP)
    until = time.monotonic() + 120
    while newest_propensities(settings)[event["customer_id"]] <= now_ms:
        assert time.monotonic() < until, config.with_name("run.log").read_text()
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    log = config.with_name("run.log").read_text()
    assert "refresh.every: '' -> '1s', from now on" in log
    assert "refresh.least_change: 0.001 -> 0.0, from now on" in log


@pytest.fixture
def settings(config: Path) -> Settings:
    return Settings.load(config, environment={})


@pytest.fixture
def run_here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Metrics]:
    """`run` in this process until the group has committed all of the input topic."""

    def run(on_begin: Callable[[], None] = lambda: None, settings: Settings = settings) -> Metrics:
        metrics, stop, begin = Metrics(), Stop(), RedisStore.begin

        def begin_after(store: RedisStore, offsets: dict[TopicPartition, int]) -> None:
            on_begin()
            begin(store, offsets)

        def wait() -> None:
            try:
                wait_until_committed(settings, still_running)
            finally:
                stop.asked = True

        class StillRunning:
            def poll(self) -> None:
                """As a process that runs."""

        still_running: Any = StillRunning()
        monkeypatch.setattr(job, "Metrics", lambda: metrics)
        monkeypatch.setattr(RedisStore, "begin", begin_after)
        waiting = Thread(target=wait)
        waiting.start()
        job.run(settings, stop)
        waiting.join()
        monkeypatch.setattr(RedisStore, "begin", begin)
        return metrics

    return run


def test_a_store_emptied_while_partitions_are_assigned_is_read_again(
    settings: Settings, kafka: EmbeddedKafka, redis_server: EmbeddedRedis,
    run_here: Callable[..., Metrics],
) -> None:  # fmt: skip
    """After its watermarks were read, and before it sets new ones."""
    first, second = made_up_events(400, 1), made_up_events(200, 2)
    publish(kafka, settings.kafka.input_topic, first)
    run_here()
    publish(kafka, settings.kafka.input_topic, second)
    times: list[int] = []

    def empty_once() -> None:
        times.append(1)
        if len(times) == 1:
            with redis.Redis(port=redis_server.port) as client:
                client.flushall()

    # A group of another name: the mock cluster gives partitions to one member of each. It can't say
    # that the first group has no members any more, so the namespace is taken from it here.
    with redis.Redis(port=redis_server.port) as client:
        client.delete(f"{settings.store.namespace}:group:{settings.kafka.input_topic}")
    group = settings.kafka.model_copy(update={"group_id": "second"})
    metrics = run_here(empty_once, settings.model_copy(update={"kafka": group}))
    assert len(times) > 1, "the partitions were begun again"
    expected = single_pass(settings, first + second)
    states = open_store(settings, settings.feature_space()).load(sorted(expected))
    for customer, row in rows_of(settings, states).items():
        np.testing.assert_allclose(row, expected[customer], rtol=1e-6, err_msg=customer)
    assert metrics.registry.get_sample_value("stream_scorer_store_rewinds_total") == 1


def test_a_server_that_evicts_vectors_is_refused_before_the_group_is_joined(
    config: Path, redis_server: EmbeddedRedis
) -> None:
    with redis.Redis(port=redis_server.port) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    command = [sys.executable, "-m", "stream_scorer", "run", "-c", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "stream-scorer: redis.allow_eviction: 'false': maxmemory-policy of redis:"
    )
    assert "CONFIG SET maxmemory-policy noeviction" in line


def test_evictions_while_it_runs_stop_it_or_are_counted(
    settings: Settings, kafka: EmbeddedKafka, run_here: Callable[..., Metrics],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    publish(kafka, settings.kafka.input_topic, made_up_events(50, 1))
    counted = iter([0, *[7] * 1000])
    monkeypatch.setattr(
        RedisServer, "info",
        lambda *_: {"maxmemory_policy": "allkeys-lru", "evicted_keys": next(counted)},
    )  # fmt: skip
    options = {**settings.redis.model_dump(), "allow_eviction": True}
    allowing = settings.model_copy(update={"redis": RedisSettings(**options)})
    metrics = run_here(settings=allowing)
    assert metrics.registry.get_sample_value("stream_scorer_redis_evicted_keys_total") == 7


def test_a_topic_that_was_created_again_is_noticed_though_kafka_answered_late(
    settings: Settings, kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question without an answer ended the check for as long as the process ran."""
    kafka.create(settings.kafka.input_topic)
    answers: Iterator[str | BusUnavailable] = iter(
        [BusUnavailable("not yet"), "first", BusUnavailable("not now"), "second"]
    )

    def identity(_admin: object, _topic: str) -> str:
        answer = next(answers)
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr(KafkaAdmin, "identity", identity)
    with Parts(settings) as consumer:
        for _ in range(3):
            consumer.verify()
        with pytest.raises(Halt, match="the topic was deleted and created again"):
            consumer.verify()


def test_a_member_without_partitions_claims_an_emptied_namespace_again(
    settings: Settings, kafka: EmbeddedKafka, redis_server: EmbeddedRedis
) -> None:
    kafka.create(settings.kafka.input_topic)
    key = f"{settings.store.namespace}:fingerprint"
    with Parts(settings) as consumer, redis.Redis(port=redis_server.port) as client:
        consumer.verify()
        client.flushall()
        consumer.verify()
        assert client.get(key) == settings.feature_space().fingerprint_hex.encode()
        client.set(key, "0123456789abcdef")  # another declaration was faster
        with pytest.raises(FingerprintMismatch, match=r"store\.namespace"):
            consumer.verify()


@pytest.mark.parametrize("mode", ["shadow", "canary"])
def test_a_challenger_runs_beside_the_active_model(
    settings: Settings, kafka: EmbeddedKafka, run_here: Callable[..., Metrics], tmp_path: Path,
    mode: Any,
) -> None:  # fmt: skip
    saved(tmp_path / "next", 5, space=settings.feature_space(), rule=settings.label_rule())
    publish(kafka, settings.kafka.input_topic, made_up_events(200, 1))
    challenger = ChallengerSettings(path=tmp_path / "next", mode=mode, share=0.5)
    metrics = run_here(settings=settings.model_copy(update={"challenger": challenger}))
    outcome = {"outcome": "compared" if mode == "shadow" else "served"}
    found = metrics.registry.get_sample_value("stream_scorer_challenger_customers_total", outcome)
    assert found is not None
    assert found > 0
    stage = {"stage": "challenger"}
    assert metrics.registry.get_sample_value("stream_scorer_stage_seconds_count", stage)
