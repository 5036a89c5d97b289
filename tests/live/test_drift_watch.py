"""What members sample of their micro-batches, kept in Redis, and the namespace's drift from it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from scipy import sparse

from stream_scorer.core.drift.followed import Actions, WatchedEvents, customer_hashes
from stream_scorer.core.drift.hour import HOUR_MS
from stream_scorer.core.drift.reference import reference_of
from stream_scorer.core.drift.sampler import SampledRows, Sampler
from stream_scorer.core.drift.summary import DriftSummary
from stream_scorer.core.labels.labels import DAY_MS
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.drift_store import MOST_LINES, DriftStore, Put
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.live.drift_summary import NOTHING_SAMPLED, SummaryThread, drift_summary
from stream_scorer.live.drift_watch import DriftWatch
from stream_scorer.live.kept_erasures import open_kept_erasures
from stream_scorer.live.served_model import ServedModel, open_model
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import random_model

START = 20_000 * DAY_MS
OVERRIDES: dict[str, Any] = {
    "vocabularies": {"category_id": ["soup", "bread", "milk", "tea"]},
    "features": [
        {"name": "bought", "by": ["category_id"], "half_lives": ["14d"]},
        {"name": "total", "half_lives": ["7d"]},
    ],
    "labels": {"horizon": "2d"},
    "model": {"engine": "native"},
    "store": {"namespace": "watched"},
}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def store(redis_server: EmbeddedRedis) -> Iterator[DriftStore]:
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    server = RedisServer(client)
    yield DriftStore(server, "watched")
    server.close()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.load(None, overrides=OVERRIDES, environment={})


def rows(count: int, seed: int, factor: float = 1.0) -> tuple[sparse.csr_matrix, np.ndarray]:
    draw = np.random.default_rng(seed)
    dense = np.where(draw.random((count, 5)) < 0.4, draw.exponential(size=(count, 5)), 0)
    dense[:, 4] *= factor
    p = draw.beta(1, 9, (count, 4)).astype(np.float32)
    return sparse.csr_matrix(dense.astype(np.float32)), p


@pytest.fixture(scope="module")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    path = tmp_path_factory.mktemp("model") / "m"
    space = settings.feature_space()
    matrix, p = rows(10_000, 1)
    ones = np.ones(10_000, np.float32)
    reference = reference_of(
        space, (matrix, ones, "event"), (p, ones, "event", "validation"), {"view": 0.9, "cart": 0.1}
    )
    artefact.save(random_model(settings, 1), path, reference=reference)
    return open_model(settings, space, path)


class Clock:
    """now_ms is the moment; a watch's seconds follow it."""

    def __init__(self) -> None:
        self.now_ms = START

    def ms(self) -> int:
        return self.now_ms

    def seconds(self) -> float:
        return self.now_ms / 1000


def report(
    now_ms: int, count: int, seed: int, factor: float = 1.0, did: Actions | None = None
) -> BatchReport:
    """Of a micro-batch with so many sampled customers."""
    matrix, p = rows(count, seed, factor)
    hashes = customer_hashes([f"{seed}-{n}".encode() for n in range(count)])
    sampled = SampledRows(hashes, np.full(count, now_ms), now_ms, matrix, p, 0)
    types = {"view": 9 * count, "cart": count}
    watched = WatchedEvents(types, Actions.none() if did is None else did)
    return BatchReport(records=10 * count, watched=watched, sampled=sampled)


def watch(settings: Settings, served: ServedModel, store: DriftStore, clock: Clock) -> DriftWatch:
    erasures = open_kept_erasures(settings, 0, store._server, clock.ms)
    return DriftWatch(settings, served, store, Sampler(1), clock.ms, erasures, clock.seconds)


def run(
    watched: DriftWatch, clock: Clock, parts: list[int], seed: int = 50, factor: float = 1.0
) -> None:
    """One micro-batch after the other, a second apart, and a save."""
    for number, count in enumerate(parts):
        watched.add(report(clock.now_ms, count, seed + number, factor))
        clock.now_ms += 1_000
    watched.finish()


def drift_of(
    store: DriftStore, settings: Settings, served: ServedModel, now_ms: int
) -> DriftSummary:
    return drift_summary(store, settings, served.model, now_ms)


def test_no_drift_where_nothing_moved_and_drift_where_one_feature_did(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    clock = Clock()
    run(watch(settings, served, store, clock), clock, [500] * 6)
    found = drift_of(store, settings, served, clock.now_ms)
    assert (found.verdict, found.reasons, found.rows, found.members) == ("stable", (), 3_000, 1)
    assert {b.block: b.state for b in found.blocks} == {"bought": "stable", "total": "stable"}
    assert found.events is not None
    assert (found.events.shares, found.events.state) == ({"cart": 0.1, "view": 0.9}, "stable")
    assert (found.from_ms, found.to_ms) == (START, clock.now_ms)
    # Two days later the window has forgotten all that, and only what moved is in it.
    clock.now_ms += 2 * DAY_MS
    run(watch(settings, served, store, clock), clock, [500] * 6, factor=4.0)
    moved = drift_of(store, settings, served, clock.now_ms)
    assert moved.verdict == "drifted"
    assert moved.rows == 3_000
    assert [reason.partition(":")[0] for reason in moved.reasons] == ["feature total"]
    (total,) = (b for b in moved.blocks if b.block == "total")
    assert total.mean_shift is not None
    assert total.mean_shift > 1


def test_members_and_restarts_are_merged_and_lose_nothing(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    clock = Clock()
    one = watch(settings, served, store, clock)
    run(one, clock, [300, 300])
    run(one, clock, [400], seed=60)  # the same line, written again
    run(watch(settings, served, store, clock), clock, [500], seed=70)  # after a restart
    both = drift_of(store, settings, served, clock.now_ms)
    assert (both.rows, both.members) == (1_500, 2)
    assert both.events is not None
    assert both.events.events == 15_000


def test_batches_split_anyhow_give_the_same_drift(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    found = []
    for parts in ([1_200], [1] * 7 + [593, 600]):
        store._client.flushall()
        clock = Clock()
        watched = watch(settings, served, store, clock)
        matrix, p = rows(1_200, 9)
        first = 0
        for count in parts:
            whole = report(START, count, 9)
            assert whole.sampled is not None
            some = slice(first, first + count)
            sampled = whole.sampled._replace(
                hashes=customer_hashes([f"{n}".encode() for n in range(first, first + count)]),
                matrix=matrix[some], p=p[some],
            )  # fmt: skip
            watched.add(dataclasses.replace(whole, sampled=sampled))
            first += count
        watched.finish()
        found.append(drift_of(store, settings, served, START + 5_000))
    assert found[0] == found[1]


def test_a_new_hour_and_another_model_begin_another_sample(
    store: DriftStore, settings: Settings, served: ServedModel, tmp_path: Path
) -> None:
    clock = Clock()
    watched = watch(settings, served, store, clock)
    run(watched, clock, [600])
    clock.now_ms += HOUR_MS
    run(watched, clock, [600], seed=60)
    artefact.save(random_model(settings, 2), tmp_path / "without")
    other = open_model(settings, settings.feature_space(), tmp_path / "without")
    watched.serve(other)
    run(watched, clock, [600], seed=70)
    assert drift_of(store, settings, served, clock.now_ms).rows == 1_200
    # The new one has no reference: that is told, and its scores are followed all the same.
    unknown = drift_summary(store, settings, other.model, clock.now_ms)
    assert (unknown.verdict, unknown.rows, unknown.blocks) == ("unknown", 0, ())
    assert "reference.json" in unknown.notes[0]
    assert "train" in unknown.notes[0]


def test_a_redis_that_is_away_stops_nothing_and_gets_the_hours_later(
    store: DriftStore, settings: Settings, served: ServedModel,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock = Clock()
    watched = watch(settings, served, store, clock)

    def away(*_: object) -> Put:
        raise StoreUnavailable("Redis is away")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(store, "put", away)
        run(watched, clock, [700])
        clock.now_ms += HOUR_MS
        run(watched, clock, [700], seed=60)
    assert [r.getMessage() for r in caplog.records].count(
        "what was sampled for drift is not saved: Redis is away"
    ) == 1
    run(watched, clock, [700], seed=70)
    assert drift_of(store, settings, served, clock.now_ms).rows == 2_100


def test_what_was_sampled_expires_and_is_bounded(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    clock = Clock()
    run(watch(settings, served, store, clock), clock, [100])
    key = f"watched:drift:{START // HOUR_MS}"
    kept_ms = store._client.pttl(key)
    # A horizon of two days, and a day more.
    assert 3 * DAY_MS - 60_000 < kept_ms <= 3 * DAY_MS
    for number in range(MOST_LINES - 1):
        assert store.put(START // HOUR_MS, f"m{number}", "text", 60_000) is Put.WRITTEN
    assert store.put(START // HOUR_MS, "one-more", "text", 60_000) is Put.TOO_MANY
    again = store.put(START // HOUR_MS, "m1", "other", 60_000)
    assert again is Put.WRITTEN, "its own line is no new one"
    lines = dict(store.hours(START // HOUR_MS, START // HOUR_MS))
    assert (len(lines), lines["m1"], lines["m2"]) == (MOST_LINES, b"other", b"text")
    found = drift_of(store, settings, served, clock.now_ms)
    assert found.rows == 100
    assert any("can't be read" in note for note in found.notes)


def test_followed_scores_are_judged_by_what_the_group_saw(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    clock = Clock()
    run(watch(settings, served, store, clock), clock, [50])
    hashes = customer_hashes([f"50-{n}".encode() for n in range(50)])
    at = np.full(50, START, np.int64)
    ones = np.ones(50, np.uint8)
    did = Actions(hashes, at + 60_000, np.zeros(50, np.int32), ones)
    before = Actions(hashes, at, np.ones(50, np.int32), ones)
    clock.now_ms = START + 3 * DAY_MS
    other = watch(settings, served, store, clock)  # another member got the partition
    for noted in (before, did):
        other.add(report(clock.now_ms, 1, 90, did=noted))
    other.finish()
    (quality,) = drift_of(store, settings, served, clock.now_ms).quality
    assert [d.delay for d in quality.delays] == ["1h", "6h", "1d", "horizon"]
    assert {(d.scores, d.positives) for d in quality.delays} == {(50, 50)}
    assert quality.delays[-1].log_loss is not None
    metrics = Metrics()
    metrics.drift.show(drift_of(store, settings, served, clock.now_ms))
    value = metrics.registry.get_sample_value
    labels = {"model_version": served.identity.model_version}
    assert value("stream_scorer_live_scores", {**labels, "delay": "1h"}) == 50
    assert value("stream_scorer_live_log_loss", labels) == quality.delays[-1].log_loss


def test_metrics_show_what_is_judged_and_forget_what_is_gone(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    clock, metrics = Clock(), Metrics()
    value = metrics.registry.get_sample_value
    run(watch(settings, served, store, clock), clock, [500] * 6, factor=4.0)
    metrics.drift.show(drift_of(store, settings, served, clock.now_ms))
    total, bought = (value("stream_scorer_feature_psi", {"block": b}) for b in ("total", "bought"))
    assert total is not None
    assert total > 0.25
    assert bought is not None
    assert bought < 0.1
    assert value("stream_scorer_drift_rows") == 3_000
    psi = value("stream_scorer_event_psi")
    assert psi is not None
    assert psi < 0.01
    clock.now_ms += 2 * DAY_MS
    later = drift_of(store, settings, served, clock.now_ms)
    assert (later.verdict, later.notes[0]) == ("unknown", NOTHING_SAMPLED)
    metrics.drift.show(later)
    assert value("stream_scorer_feature_psi", {"block": "total"}) is None
    assert value("stream_scorer_drift_rows") == 0
    psi = value("stream_scorer_event_psi")
    assert psi is not None
    assert math.isnan(psi)


def test_a_summary_is_plain_json(
    store: DriftStore, settings: Settings, served: ServedModel
) -> None:
    clock = Clock()
    run(watch(settings, served, store, clock), clock, [600, 600])
    found = drift_of(store, settings, served, clock.now_ms)
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["blocks"][0]["block"] == "bought"


def test_summaries_are_made_on_a_thread_until_it_is_closed_and_errors_do_not_end_it(
    store: DriftStore, settings: Settings, served: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[DriftSummary] = []
    first = [True]

    def make() -> DriftSummary:
        if first[0]:
            first[0] = False
            raise StoreUnavailable("Redis is away")
        return drift_of(store, settings, served, START)

    thread = SummaryThread(make, found.append, 0.0, 0.001)
    while len(found) < 3:
        thread._thread.join(0.01)
        assert thread._thread.is_alive()
    thread.close()
    count = len(found)
    assert not thread._thread.is_alive()
    assert len(found) == count
    assert caplog.text.count("drift is not known at the moment: Redis is away") == 1
