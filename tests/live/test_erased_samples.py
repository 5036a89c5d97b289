"""Samples for drift of customers who were forgotten on request: taken out of Redis, and left out of
what members write later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
from scipy import sparse

from stream_scorer.core.drift.counts import Binning
from stream_scorer.core.drift.followed import Actions, Scores, WatchedEvents, customer_hashes
from stream_scorer.core.drift.hour import HOUR_MS, HourSample
from stream_scorer.core.drift.reference import reference_of
from stream_scorer.core.drift.sampler import SampledRows, Sampler
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import StoreUnavailable
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.drift_watch import DriftWatch
from stream_scorer.live.erased_samples import count_samples, kept_ms, remove_samples
from stream_scorer.live.kept_erasures import KeptErasures, open_kept_erasures
from stream_scorer.live.served_model import ServedModel, open_model
from stream_scorer.model import artefact
from stream_scorer.model.stored_reference import stored_reference
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import random_model

NOW = 500_000 * HOUR_MS + 60_000
BEFORE, AFTER = NOW - 1_000, NOW + 1_000  # of the request
ANN, BOB = (int(customer_hashes([i])[0]) for i in (b"ann", b"bob"))


@pytest.fixture(scope="module")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def server(redis_server: EmbeddedRedis) -> Iterator[RedisServer]:
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    found = RedisServer(client)
    yield found
    found.close()


@pytest.fixture
def store(server: RedisServer) -> DriftStore:
    return DriftStore(server, "watched")


@pytest.fixture
def erasures(server: RedisServer, settings: Settings) -> Erasures:
    return Erasures(server, "watched", settings.feature_space().fingerprint)


@pytest.fixture(scope="module")
def settings() -> Settings:
    overrides: dict[str, Any] = {
        "vocabularies": {"category_id": ["soup", "bread", "milk", "tea"]},
        "features": [{"name": "bought", "by": ["category_id"], "half_lives": ["14d"]}],
        "labels": {"horizon": "2d"}, "model": {"engine": "native"},
        "store": {"namespace": "watched"},
    }  # fmt: skip
    return Settings.load(None, overrides=overrides, environment={})


@pytest.fixture(scope="module")
def served(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    path, space = tmp_path_factory.mktemp("model") / "m", settings.feature_space()
    rows = np.random.default_rng(1).random((2_000, 4)).astype(np.float32)
    ones = np.ones(2_000, np.float32)
    reference = reference_of(
        space, (scipy_rows(rows), ones, "event"), (rows, ones, "event", "validation"), {"view": 1.0}
    )
    artefact.save(random_model(settings, 1), path, reference=reference)
    return open_model(settings, space, path)


def scipy_rows(dense: np.ndarray) -> Any:
    return sparse.csr_matrix(dense)


@pytest.fixture
def erased_meanwhile(settings: Settings, server: RedisServer) -> KeptErasures:
    """What a member knows that has not looked since it started."""
    return open_kept_erasures(settings, settings.feature_space().fingerprint, server, lambda: NOW)


@pytest.fixture
def watch(
    settings: Settings, served: ServedModel, store: DriftStore, erased_meanwhile: KeptErasures
) -> DriftWatch:
    return DriftWatch(settings, served, store, Sampler(1), lambda: NOW, erased_meanwhile)


def report(hashed: int, at_ms: int) -> BatchReport:
    """A micro-batch with one score and one action of this customer, both of this moment."""
    one = np.array([hashed], np.uint64)
    p = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    sampled = SampledRows(one, np.array([at_ms]), NOW, scipy_rows(p), p, 0)
    did = Actions(one, np.array([at_ms]), np.zeros(1, np.int32), np.ones(1, np.uint8))
    return BatchReport(records=1, watched=WatchedEvents({"view": 1}, did), sampled=sampled)


def stored(store: DriftStore, served: ServedModel) -> tuple[list[int], list[int], int]:
    """The customers of all scores and of all actions, and how many rows are counted."""
    lines = store.hours(NOW // HOUR_MS - 100, NOW // HOUR_MS)
    reference = served.model.manifest.model_version
    binnings = {reference: _binning(served)}
    hours = [HourSample.from_text(text, binnings) for _, text in lines]
    scores = [c for h in hours for c in h.scores.customer.tolist()]
    actions = [c for h in hours for c in h.actions.customer.tolist()]
    return sorted(scores), sorted(actions), sum(h.counts.rows for h in hours if h.counts)


def _binning(served: ServedModel) -> Binning:
    reference = stored_reference(served.model)
    assert reference is not None
    return Binning(reference, served.model.feature_space())


def test_stored_samples_go_at_once_and_those_of_others_and_their_expiry_stay(
    watch: DriftWatch, store: DriftStore, settings: Settings, served: ServedModel,
    erasures: Erasures,
) -> None:  # fmt: skip
    for hashed in (ANN, BOB):
        watch.add(report(hashed, BEFORE))
    watch.finish()
    erasures.erase({"ann": NOW})
    key = f"watched:drift:{NOW // HOUR_MS}"
    store._client.pexpire(key, 1_000_000)
    assert count_samples(store, settings, {"ann": NOW}, NOW).samples == 2
    assert remove_samples(store, settings, {"ann": NOW}, NOW).samples == 2
    assert stored(store, served) == ([BOB], [BOB], 2)
    assert 0 < store._client.pttl(key) <= 1_000_000
    assert count_samples(store, settings, {"ann": NOW}, NOW).samples == 0


def test_what_a_member_has_not_written_yet_is_left_out_when_it_writes(
    watch: DriftWatch, store: DriftStore, settings: Settings, served: ServedModel,
    erasures: Erasures,
) -> None:  # fmt: skip
    for hashed in (ANN, BOB):
        watch.add(report(hashed, BEFORE))
    erasures.erase({"ann": NOW})
    assert remove_samples(store, settings, {"ann": NOW}, NOW).samples == 0
    watch.finish()
    assert stored(store, served)[:2] == ([BOB], [BOB])


def test_a_line_that_was_written_before_does_not_come_back_with_the_next_write(
    watch: DriftWatch, store: DriftStore, settings: Settings, served: ServedModel,
    erasures: Erasures,
) -> None:  # fmt: skip
    watch.add(report(ANN, BEFORE))
    watch.finish()
    erasures.erase({"ann": NOW})
    remove_samples(store, settings, {"ann": NOW}, NOW)
    watch.add(report(BOB, AFTER))
    watch.finish()
    assert stored(store, served)[:2] == ([BOB], [BOB])


def test_an_event_of_before_that_comes_later_is_left_out_and_one_of_after_is_kept(
    watch: DriftWatch, store: DriftStore, served: ServedModel, erasures: Erasures
) -> None:
    erasures.erase({"ann": NOW})
    watch.add(report(ANN, BEFORE))
    watch.finish()
    assert stored(store, served)[:2] == ([], [])
    watch.add(report(ANN, AFTER))
    watch.finish()
    assert stored(store, served)[:2] == ([ANN], [ANN])


def test_samples_that_redis_brings_back_are_taken_out_with_the_records(
    watch: DriftWatch, store: DriftStore, settings: Settings, served: ServedModel,
    erasures: Erasures, erased_meanwhile: KeptErasures,
) -> None:  # fmt: skip
    watch.add(report(ANN, BEFORE))
    watch.finish()
    copy = {key: store._client.get(key) for key in store._client.keys("*")}
    erasures.erase({"ann": NOW})
    remove_samples(store, settings, {"ann": NOW}, NOW)
    erased_meanwhile.keep()
    store._client.flushall()
    for key, value in copy.items():
        store._client.set(key, value)
    erased_meanwhile.keep()
    assert erasures.listed() == {"ann": NOW}
    assert stored(store, served)[:2] == ([], [])


def test_samples_that_could_not_be_taken_out_are_looked_for_again(
    server: RedisServer, erasures: Erasures
) -> None:
    asked: list[dict[str, int]] = []

    def away_once(lost: Any) -> None:
        asked.append(dict(lost))
        if len(asked) == 1:
            raise StoreUnavailable("Redis is away")

    kept = KeptErasures(erasures, 0, away_once)
    erasures.erase({"ann": NOW})
    kept.keep()
    server.client.flushall()
    with pytest.raises(StoreUnavailable):
        kept.keep()
    kept.keep()
    kept.keep()
    assert asked == [{"ann": NOW}] * 2


def test_a_line_of_another_release_is_counted_and_stays(
    store: DriftStore, settings: Settings
) -> None:
    store.put(NOW // HOUR_MS, "m", "bm90aGluZw==", kept_ms(settings))
    found = remove_samples(store, settings, {"ann": NOW}, NOW)
    assert (found.samples, found.unread) == (0, 1)
    assert len(store.hours(NOW // HOUR_MS, NOW // HOUR_MS)) == 1


def test_a_list_that_changes_at_each_write_ends_the_tries(
    watch: DriftWatch, store: DriftStore, erasures: Erasures, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    real = store.put

    def put(*given: Any) -> Any:
        erasures.erase({"ann": NOW})
        return real(*given)

    watch.add(report(BOB, BEFORE))
    with monkeypatch.context() as patch:
        patch.setattr(store, "put", put)
        watch.finish()
    assert "are being forgotten" in caplog.text
    watch.finish()
    assert len(store.hours(NOW // HOUR_MS, NOW // HOUR_MS)) == 1


def test_a_sample_without_anybody_is_written_and_read() -> None:
    sample = HourSample.begin(1, "m", np.arange(2), 0, None)
    sample.note(
        Scores(
            np.array([ANN], np.uint64), np.array([5]), np.array([5]), np.zeros((1, 2), np.uint16)
        ),
        Actions.none(),
    )
    sample.leave_out({ANN: 4})
    assert len(sample.scores.customer) == 1
    sample.leave_out({ANN: 5})
    again = HourSample.from_text(sample.to_text().encode(), {})
    assert again.scores.log_odds.shape == (0, 2)
