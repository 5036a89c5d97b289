"""The order of things: what one step does, and what is left when it is cut short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_scorer.core.avro.event_encoder import encode_events
from stream_scorer.core.events.batch import NO_TIMESTAMP, Reason, RecordBatch
from stream_scorer.errors import BusUnavailable, StoreUnavailable
from stream_scorer.io.stores.memory import MemoryStore
from stream_scorer.model.engines.native import NativeEngine
from tests.live.pipeline_parts import (
    CATEGORIES,
    NOW_MS,
    SPACE,
    Log,
    NotedStore,
    Overtaken,
    batch,
    event,
    pipeline,
    records_of,
)


def test_a_customer_with_several_events_in_a_batch_is_scored_once(engine: NativeEngine) -> None:
    events = [event("ann", at=5000), event("bob")]
    events += [event("ann", "milk", at=9000), event("ann", None, at=7000)]
    log, store = Log(batch(encode_events(events), 10)), MemoryStore(SPACE.fingerprint)
    report = pipeline(log, store, engine).step()
    assert (report.records, report.applied, report.customers) == (4, 4, 2)
    assert log.story == ["deliver 2", "commit 14"]
    assert log.published.customer_ids == ["ann", "bob"]
    assert log.published.as_of_ms.tolist() == [9000, NOW_MS - 1000]
    assert log.published.offset.tolist() == [13, 11]
    assert log.published.probabilities is not None
    assert log.published.probabilities.shape == (2, 4)
    assert set(report.seconds) == {"poll", "decode", "load", "apply", "save", "csr", "score",
                                   "encode", "publish", "commit"}  # fmt: skip


def test_what_waited_is_every_record_that_is_published_for(engine: NativeEngine) -> None:
    """From its own timestamp: not what was published before, no dead letter, nothing undated."""
    values = encode_events([event("ann"), event("bob"), event("cid"), event("dan"), event("eve")])
    values[1] = b"no event"
    records = batch(values, 10)
    records.timestamps_ms[:] = [NOW_MS - 1, NOW_MS - 2, NOW_MS - 3_000, NO_TIMESTAMP, NOW_MS + 5]
    log = Log(records)
    log.offsets = {("events", 0): 11}  # ann's was published
    report = pipeline(log, MemoryStore(SPACE.fingerprint), engine).step()
    assert [letter.record for letter in report.dead_letters] == [1]
    assert report.waited_seconds.tolist() == [3.0, 0.0]


def test_top_k_publishes_the_best_first(engine: NativeEngine) -> None:
    records = batch(encode_events([event("ann")]))
    full, top = Log(records), Log(records)
    pipeline(full, MemoryStore(SPACE.fingerprint), engine).step()
    pipeline(top, MemoryStore(SPACE.fingerprint), engine, "top_k").step()
    every = dict(zip(engine.categories, full.published.probabilities[0].tolist(), strict=True))  # type: ignore[index]
    best = sorted(every.items(), key=lambda pair: -pair[1])[:2]
    assert top.published.entries[0] == [(c, 1, p) for c, p in best]


def test_all_propensities_as_float16_are_those_as_float32_rounded(engine: NativeEngine) -> None:
    records = batch(encode_events([event("ann"), event("bob", "milk")]))
    full, halved = Log(records), Log(records)
    pipeline(full, MemoryStore(SPACE.fingerprint), engine).step()
    pipeline(halved, MemoryStore(SPACE.fingerprint), engine, precision="float16").step()
    exact, found = full.published.probabilities, halved.published.probabilities
    assert exact is not None
    assert found is not None
    assert np.array_equal(found, exact.astype(np.float16).astype(np.float32))
    assert not np.array_equal(found, exact)


def test_nothing_to_do_commits_nothing(engine: NativeEngine) -> None:
    log = Log()
    assert pipeline(log, MemoryStore(SPACE.fingerprint), engine).step().records == 0
    assert log.story == []


def test_offsets_are_committed_only_after_delivery(engine: NativeEngine) -> None:
    log, store = Log(batch(encode_events([event("ann")]))), MemoryStore(SPACE.fingerprint)
    log.failures = [BusUnavailable("no broker")]
    line = pipeline(log, store, engine)
    with pytest.raises(BusUnavailable):
        line.step()
    saved = records_of(store)
    assert log.story == []
    report = line.step()  # the same batch again, to the end
    assert (report.applied, report.duplicates) == (1, 0)  # though applied by the first attempt
    assert log.story == ["deliver 1", "commit 1"]
    assert records_of(store) == saved


def test_the_watermark_moves_after_its_records_and_offsets_come_last(engine: NativeEngine) -> None:
    log = Log(batch(encode_events([event("ann"), event("bob")])))
    pipeline(log, NotedStore(log.story), engine).step()
    assert log.story == ["save 2", "advance 2", "deliver 2", "commit 2"]


def test_the_watermark_keeps_the_leader_epoch_of_its_last_record(engine: NativeEngine) -> None:
    log, store = Log(batch(encode_events([event("ann")]))), MemoryStore(SPACE.fingerprint)
    pipeline(log, store, engine).step()
    assert store.watermark_epochs([("events", 0)]) == {("events", 0): (1, 3)}


def test_a_save_that_failed_leaves_the_watermark_where_it_was(engine: NativeEngine) -> None:
    class Away(MemoryStore):
        def save(self, states: Any, rows: Any, made_from: Any = None) -> Any:
            raise StoreUnavailable("no server")

    log, store = Log(batch(encode_events([event("ann")]))), Away(SPACE.fingerprint)
    with pytest.raises(StoreUnavailable):
        pipeline(log, store, engine).step()
    assert store.watermarks([("events", 0)]) == {}
    assert log.story == []


def test_a_crash_between_save_and_publish_loses_no_score(engine: NativeEngine) -> None:
    values = encode_events([event("ann"), event("bob")])
    store, first, second = MemoryStore(SPACE.fingerprint), Log(batch(values)), Log(batch(values))
    first.failures = [BusUnavailable("no broker")]
    with pytest.raises(BusUnavailable):
        pipeline(first, store, engine).step()
    saved = records_of(store)
    report = pipeline(second, store, engine).step()  # another process reads from the same offset
    assert report.duplicates == 2
    assert second.published.customer_ids == ["ann", "bob"]
    assert records_of(store) == saved


def test_a_partition_that_left_meanwhile_is_not_finished(engine: NativeEngine) -> None:
    log = Log(batch(encode_events([event("ann")])))
    log.failures = [BusUnavailable("no broker")]
    line = pipeline(log, MemoryStore(SPACE.fingerprint), engine)
    with pytest.raises(BusUnavailable):
        line.step()
    log.claimed = {1: 0}
    assert line.step().records == 0
    assert log.story == []


def test_a_newer_record_of_another_owner_wins(engine: NativeEngine) -> None:
    values = encode_events([event("ann", at=1000 * i) for i in range(1, 7)])
    theirs = MemoryStore(SPACE.fingerprint)
    pipeline(Log(batch(values)), theirs, engine).step()
    log = Log(batch(values[:3]))
    report = pipeline(log, store := Overtaken(theirs, 1), engine).step()
    assert (report.applied, report.duplicates, report.refused_writes) == (0, 3, 1)
    assert records_of(store) == records_of(theirs)
    assert log.story == ["deliver 0", "commit 3"]  # whoever reads up to offset 5 publishes it


def test_refused_writes_are_reported_though_the_batch_fails_later(engine: NativeEngine) -> None:
    values = encode_events([event("ann", at=1000 * i) for i in range(1, 7)])
    theirs = MemoryStore(SPACE.fingerprint)
    pipeline(Log(batch(values)), theirs, engine).step()
    log = Log(batch(values[:3]))
    log.failures = [BusUnavailable("fenced")]
    line = pipeline(log, Overtaken(theirs, 1), engine)
    with pytest.raises(BusUnavailable):
        line.step()
    assert line.step().refused_writes == 1


def test_a_record_ahead_of_its_batch_is_published_once_when_it_is_reached(
    engine: NativeEngine,
) -> None:
    values = encode_events([event("ann", at=1000 * i) for i in range(1, 7)])
    store = MemoryStore(SPACE.fingerprint)
    before = Log(batch(values))
    before.failures = [BusUnavailable("no broker")]
    with pytest.raises(BusUnavailable):
        pipeline(before, store, engine).step()  # saved, never published
    log = Log(batch(values[:2]), batch(values[2:4], 2), batch(values[4:], 4))
    line = pipeline(log, store, engine)
    assert [line.step().customers for _ in range(3)] == [0, 0, 1]
    assert log.published.as_of_ms.tolist() == [6000]
    assert log.published.offset.tolist() == [5]


def test_what_lies_below_the_committed_offset_is_folded_and_not_published_again(
    engine: NativeEngine,
) -> None:
    values = encode_events([event("ann"), event("bob"), event("ann", "milk"), event("eve")])
    whole = MemoryStore(SPACE.fingerprint)
    pipeline(Log(batch([*values, b"junk"])), whole, engine).step()
    # The store is empty again, and the group had committed offset 2.
    log = Log(batch([b"junk", *values[1:2]]), batch([*values[2:], b"junk"], 2))
    log.offsets, store = {("events", 0): 2}, MemoryStore(SPACE.fingerprint)
    line = pipeline(log, store, engine)
    assert line.step().applied == 1
    assert (log.story, log.dead_letters) == (["deliver 0", "commit 2"], [])
    line.step()
    assert log.published.customer_ids == ["ann", "eve"]
    assert [d.offset for d in log.dead_letters] == [4]
    assert log.story[-1] == "commit 5"


def test_committed_offsets_never_move_back(engine: NativeEngine) -> None:
    """Else what was published between would come twice, should the next owner begin there."""
    log = Log(batch(encode_events([event("ann"), event("bob")]), 3))
    log.offsets = {("events", 0): 9}
    pipeline(log, MemoryStore(SPACE.fingerprint), engine).step()
    assert log.story == ["deliver 0", "commit 9"]


def test_keys_that_are_no_customer_and_customers_in_two_partitions_are_counted(
    engine: NativeEngine,
) -> None:
    values = encode_events([event("ann"), event("bob"), event("ann"), event("eve")])
    records = RecordBatch(
        values, [b"ann", b"bob", b"session 7", None], [("events", 0), ("events", 1)],
        np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 0, 1]), np.full(4, NOW_MS),
    )  # fmt: skip
    report = pipeline(Log(records), MemoryStore(SPACE.fingerprint), engine).step()
    assert (report.foreign_keys, report.split_customers) == (2, 1)


def test_an_event_of_another_partition_publishes_a_customer_whose_own_was_published(
    engine: NativeEngine,
) -> None:
    ann = encode_events([event("ann"), event("ann", "milk")])
    both = RecordBatch(
        ann, [b"ann"] * 2, [("events", 0), ("events", 1)], np.array([0, 1], np.int32),
        np.array([3, 0]), np.full(2, NOW_MS),
    )  # fmt: skip
    log = Log(both)
    log.offsets = {("events", 0): 9}
    pipeline(log, MemoryStore(SPACE.fingerprint), engine).step()
    assert log.story == ["deliver 1", "commit 9"]


def test_a_store_that_refuses_every_save_is_reported_as_unavailable(engine: NativeEngine) -> None:
    class Refusing(MemoryStore):
        def save(self, states: Any, rows: Any, made_from: Any = None) -> Any:
            return rows

    log = Log(batch(encode_events([event("ann")])))
    with pytest.raises(StoreUnavailable, match="overwriting"):
        pipeline(log, Refusing(SPACE.fingerprint), engine).step()


BAD = {
    Reason.UNDECODABLE: encode_events([event("ann")])[0][:-3],
    Reason.UNKNOWN_SCHEMA: b"\0\0\0\0\x07whatever",
    Reason.EMPTY_VALUE: None,
    Reason.OVERSIZED: encode_events([event("ann", attributes={"a": "x" * 1000})])[0],
    Reason.MISSING_CUSTOMER_ID: encode_events([event("")])[0],
    Reason.UNKNOWN_EVENT_TYPE: encode_events([event("ann", event_type="sneeze")])[0],
    Reason.UNKNOWN_CATEGORY: encode_events([event("ann", "shoes")])[0],
    Reason.VALUE_NOT_FINITE: encode_events([event("ann", value=float("nan"))])[0],
    Reason.VALUE_TOO_LARGE: encode_events([event("ann", value=-1e31)])[0],
    Reason.TIME_NEGATIVE: encode_events([event("ann", at=-1)])[0],
    Reason.TIME_TOO_EARLY: encode_events([event("ann", at=9)])[0],
    Reason.TIME_IN_FUTURE: encode_events([event("ann", at=NOW_MS + 60_001)])[0],
}


def test_every_reason_has_its_case() -> None:
    assert set(BAD) == set(Reason)


@pytest.mark.parametrize("reason", BAD)
def test_bad_record_reaches_the_dead_letter_topic(engine: NativeEngine, reason: Reason) -> None:
    good = encode_events([event("ann"), event("bob", at=NOW_MS + 60_000)])
    log = Log(batch([good[0], BAD[reason], good[1]], 40))
    report = pipeline(log, MemoryStore(SPACE.fingerprint), engine).step()
    assert (report.applied, len(report.dead_letters)) == (2, 1)
    (dead_letter,) = log.dead_letters
    assert (dead_letter.reason, dead_letter.topic, dead_letter.partition, dead_letter.offset) == (
        reason,
        "events",
        0,
        41,
    )
    assert dead_letter.value == BAD[reason]
    assert dead_letter.detail
    assert log.story == ["deliver 2", "commit 43"]


def test_a_batch_of_bad_records_alone_is_committed(engine: NativeEngine) -> None:
    log = Log(batch([b"junk", None]))
    report = pipeline(log, MemoryStore(SPACE.fingerprint), engine).step()
    assert len(report.dead_letters) == 2
    assert log.story == ["deliver 0", "commit 2"]


def test_replaying_the_log_in_other_batches_gives_the_same_propensities(
    engine: NativeEngine,
) -> None:
    draw = np.random.default_rng(4)
    values = encode_events(
        [
            event(
                f"c{draw.integers(5)}", CATEGORIES[draw.integers(4)], at=int(draw.integers(10**9))
            )
            for _ in range(200)
        ]
    )
    newest = []
    for size in (200, 7, 1):
        batches = [batch(values[i : i + size], i) for i in range(0, 200, size)]
        log, store = Log(*batches), MemoryStore(SPACE.fingerprint)
        line = pipeline(log, store, engine)
        for _ in batches:
            line.step()
        found = log.published
        rows = {c: found.probabilities[i].tobytes() for i, c in enumerate(found.customer_ids)}  # type: ignore[index]
        newest.append((rows, records_of(store)))
    assert newest[0] == newest[1] == newest[2]
