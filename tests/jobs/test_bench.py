"""`bench`: what it reports, on sizes so small that the figures mean nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from stream_scorer.bench import records, shop, torch_network
from stream_scorer.bench.peer import Vectors
from stream_scorer.bench.testbed import open_testbed
from stream_scorer.bench.timing import Findings
from stream_scorer.bench.workload import Sizes, rows_of
from stream_scorer.core.features import csr, fold
from stream_scorer.core.features.state import take
from stream_scorer.core.features.state_codec import empty_states
from stream_scorer.demo import complete_journey
from stream_scorer.errors import InputError
from stream_scorer.jobs import bench as jobs_bench
from stream_scorer.jobs.bench import bench, in_words

TINY = Sizes(
    columns=300, categories=20, batch_rows=16, entries=7, positives=3, rows=64, events=200, runs=2,
    households=30, topic_events=2_500,
    shop_columns=400, shop_categories=20, shop_active=3, shop_rows=300,
    table_rows=300, table_categories=(10,), table_columns=(500,), table_active=(2,),
    capacity_customers=300, capacity_batch=200,
)  # fmt: skip


def test_stages_report_results_ratios_and_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_network, "available", lambda: False)
    report = bench(["decode", "score", "train"], TINY)
    json.dumps(report.as_json(), allow_nan=False)
    assert {r.stage for r in report.results} == {"decode", "score", "train"}
    for result in report.results:
        keys = ["stage", "case", "unit", "median", "min", "max", "runs"]
        assert list(result.as_json()) == keys
        assert 0 < result.min <= result.median <= result.max
        assert result.runs == (TINY.shop_runs if "whole command" in result.case else TINY.runs)
    assert set(report.ratios) == {
        "decode_vs_fastavro", "score_native_vs_mxnet", "score_default_native_vs_mxnet",
        "train_iterator_share_of_step",
    }  # fmt: skip
    assert report.machine.cores > 0
    assert report.machine.versions["numpy"]
    assert [n.split()[0] for n in report.notes] == ["score_native_vs_torch", "train_vs_torch"]
    assert len(in_words(report)) > len(report.results)


def test_torch_is_measured_exactly_where_it_is_installed() -> None:
    report = bench(["score", "train"], TINY)
    measured = {ratio for ratio in report.ratios if ratio.endswith("_vs_torch")}
    left_out = {note.split()[0] for note in report.notes}
    pair = {"train_vs_torch", "score_native_vs_torch"}
    ratios = {*pair, "score_ten_best_native_vs_torch"}
    assert (measured, left_out) == ((ratios, set()) if torch_network.available() else (set(), pair))


def test_only_the_named_stages_run_and_a_wrong_name_is_refused() -> None:
    assert {r.stage for r in bench(["decode"], TINY).results} == {"decode"}
    with pytest.raises(InputError, match=r"STAGE.*choose from decode, score, train, state, replay"):
        bench(["fly"], TINY)


def test_events_are_replayed_beside_the_live_path() -> None:
    report = bench(["replay"], TINY)
    assert set(report.ratios) == {"replay_vs_state", "replay_state_vs_state"}
    assert {r.unit for r in report.results} == {"events/s", "bytes"}
    assert report.notes == ()
    assert len(bench(["state"], TINY).results) == 2


def test_the_whole_loop_is_timed_beside_a_peer_and_the_bare_client() -> None:
    report = bench(["end-to-end"], TINY)
    assert set(report.ratios) == {
        "features_only_vs_raw_consume", "features_only_vs_best_peer", "end_to_end_vs_best_peer",
    }  # fmt: skip
    assert len(report.results) == 6
    assert all(r.median > 0 for r in report.results)


def test_the_native_engine_is_timed_beside_the_machines_limit() -> None:
    report = bench(["limits"], TINY)
    assert set(report.ratios) == {"score_native_vs_limit"}
    assert len(report.results) == 4


def test_training_and_scoring_are_measured_at_the_size_of_a_large_shop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_network, "available", lambda: False)
    report = bench(["score", "train"], TINY)
    found = [(r.stage, r.unit, r.case) for r in report.results if "active 3" in r.case]
    assert [(stage, unit) for stage, unit, _ in found] == [
        *[("score", "customers/s"), ("score", "customers/s"), ("score", "ms")] * 2,
        ("train", "rows/s"), ("train", "MB"),
    ]  # fmt: skip
    assert "whole command, 300 rows" in found[-1][2]


def test_records_are_measured_packed_and_as_words() -> None:
    report = bench(["records"], TINY)
    by_case = {r.case: r for r in report.results}
    whole = [by_case[f"for each value that is not 0, {form}"].median for form in records.FORMS]
    assert whole[0] < whole[1]
    assert list(report.ratios) == ["packed_records_vs_words_time"]
    assert len(report.results) == 2 * 2 + 2 * 2 + 2
    assert all(r.median > 0 for r in report.results)


def test_the_table_of_sizes_changes_one_number_at_a_time_and_runs_only_where_it_is_named() -> None:
    report = bench(["sizes"], TINY)
    shapes = [r.case.split(",")[0] for r in report.results if r.unit == "rows/s"]
    assert shapes == ["F=400 N=10 active 3", "F=500 N=20 active 3", "F=400 N=20 active 2"]
    assert [r.unit for r in report.results] == [
        "rows/s",
        "MB",
        "customers/s",
        "customers/s",
        "ms",
    ] * 3
    assert shop.STAGE not in jobs_bench.STAGES


def test_stages_on_events_are_left_out_without_the_demos_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(complete_journey, "find_spec", lambda _name: None)
    report = bench(["state", "replay", "records", "end-to-end"], TINY)
    assert report.results == ()
    assert [n.split(" left out")[0] for n in report.notes] == [
        "state",
        "replay",
        "records",
        "end-to-end",
    ]


def test_the_peer_computes_the_same_vectors() -> None:
    with open_testbed(TINY, Findings(), "test") as testbed:
        assert testbed is not None
        scene = testbed.scene
        testbed.store()
        vectors = Vectors(testbed.client, scene.space)
        values = [value for _, value in scene.encoded]
        vectors.update(values[:1000])
        changed = vectors.update(values[1000:2000])
        customer, ids = scene.stream.customer_id.intern()
        events = scene.stream.take(np.arange(2000))
        states = fold.fold_events(empty_states(ids), events, customer[:2000], scene.space).states
        rows = take(states, np.array([ids.index(i) for i in changed]))
        ours = csr.build(rows, scene.space, rows.arrays.newest_ms).toarray()
        theirs = vectors.matrix(changed).toarray()
    assert ours.any()
    np.testing.assert_allclose(theirs, ours, atol=2e-5, rtol=1e-4)


def test_rows_are_sorted_distinct_and_repeatable() -> None:
    rows = rows_of(TINY, 50, seed=1)
    assert rows.matrix.shape == (50, 300)
    assert rows.matrix.has_sorted_indices
    rows.matrix.check_format(full_check=True)
    assert (rows.matrix.getnnz(axis=1) == 7).all()
    assert (rows_of(TINY, 50, seed=1).matrix != rows.matrix).nnz == 0
