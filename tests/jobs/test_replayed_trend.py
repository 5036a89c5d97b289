"""`replay` to propensities under a declared trend: the shop's, as of each customer's day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from stream_scorer.core.evaluation.scoring_times import ScoringTimes
from stream_scorer.core.features import fold
from stream_scorer.errors import InputError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.propensities import FILE, MANIFEST
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.backtest import backtest
from stream_scorer.jobs.replay import Window, propensities, replay
from stream_scorer.jobs.score import score
from stream_scorer.model import artefact
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings
from tests.jobs.trend_shop import CONFIG, CUTOFFS, DAY, DAYS, START, event_rows, save_model
from tests.model.reference_network import probabilities

LAST_ROW = START + (DAYS - 6) * DAY  # the horizon of rows after it is not over
Scores = dict[str, npt.NDArray[np.float64]]


def _rows() -> list[dict[str, Any]]:
    """The shop's events; of every customer but the last ones they end on another day."""
    ends = {f"c{i}": START + (50 + 2 * i) * DAY for i in range(60)}
    return [row for row in event_rows() if row["occurred_at"] < ends[row["customer_id"]]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a model and a folder of two files of events."""
    folder = tmp_path_factory.mktemp("shop")
    text = CONFIG.replace('engine = "native"', f'engine = "native"\npath = "{folder}/model"')
    (folder / "stream_scorer.toml").write_text(f'[publish]\nmode = "all"\n{text}')
    (folder / "events").mkdir()
    rows = _rows()
    write_events(folder / "events" / "a.avro", rows[::2])
    write_events(folder / "events" / "b.avro", rows[1::2])
    settings = Settings.load(folder / "stream_scorer.toml", environment={})
    replay(settings, [folder / "events"], folder / "train", CUTOFFS)
    save_model(settings, Snapshot.open(folder / "train"), folder / "model")
    return folder


@pytest.fixture(scope="module")
def settings(shop: Path) -> Settings:
    return Settings.load(shop / "stream_scorer.toml", environment={})


def _replayed(out: Path) -> tuple[Scores, dict[str, int]]:
    """By customer, the scores and the moment that they are as of."""
    found = pq.read_table(out / FILE)
    ids, scores = found["customer_id"].to_pylist(), np.array(found["probabilities"].to_pylist())
    as_of = [round(at.timestamp() * 1000) for at in found["as_of"].to_pylist()]
    return dict(zip(ids, scores, strict=True)), dict(zip(ids, as_of, strict=True))


def _newest(path: Path) -> Scores:
    """By customer, the newest scores of a file of scores."""
    found = pq.read_table(path).sort_by("as_of")
    scores = np.array(found["probabilities"].to_pylist())
    return dict(zip(found["customer_id"].to_pylist(), scores, strict=True))


@pytest.fixture(scope="module")
def whole(shop: Path, settings: Settings) -> tuple[Scores, dict[str, int]]:
    """What a replay of all events gives."""
    propensities(settings, [shop / "events"], shop / "whole")
    return _replayed(shop / "whole")


def test_a_replay_scores_as_a_snapshot_of_the_same_moments_is_scored(
    shop: Path, settings: Settings, whole: tuple[Scores, dict[str, int]], tmp_path: Path
) -> None:
    after_events = RowsAsked.parse(
        "event", "cutoffs", 0, every_ms=0, horizon_ms=5 * DAY, moment_ms=int
    )
    replay(settings, [shop / "events"], tmp_path / "rows", after_events)
    score(shop / "model", tmp_path / "rows", tmp_path / "scores.parquet", "native")
    times = ScoringTimes(START, LAST_ROW, "event", ())
    backtest(settings, [shop / "events"], [shop / "model"], times, tmp_path / "backtest")
    scores, as_of_ms = whole
    others = (
        _newest(tmp_path / "scores.parquet"),
        _newest(tmp_path / "backtest" / "scores-1.parquet"),
    )
    over = [i for i, at in as_of_ms.items() if at < LAST_ROW]
    assert len({as_of_ms[i] // DAY for i in over}) > 20
    for found in others:
        # A row stands 1 ms after the event, in which sums hardly decay.
        for customer in over:
            np.testing.assert_allclose(found[customer], scores[customer], rtol=0, atol=1e-6)
    loaded = artefact.load(shop / "model")
    (rows,) = Snapshot.open(tmp_path / "rows").shards()
    flat = np.zeros((len(rows), 2, 3), np.float32)
    without = probabilities(
        loaded.layout, loaded.manifest.network, loaded.parameters, rows.matrix, flat
    )[:, :, 1]
    found = _newest(tmp_path / "scores.parquet")
    last = {c: row for row, c in enumerate(rows.customer_ids)}
    assert max(np.abs(found[c] - without[last[c]]).max() for c in over) > 0.1


def test_batches_files_threads_and_the_order_of_events_change_no_byte(
    shop: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "EVENTS_PER_WORKER", 20)
    found = set()
    for run, batch_records in enumerate((50_000, 700, 33, 1)):
        out = tmp_path / f"out-{run}"
        threads = (1, 2, 4, 1)[run]
        propensities(settings, [shop / "events"], out, batch_records=batch_records, threads=threads)
        found.add(((out / FILE).read_bytes(), (out / MANIFEST).read_bytes()))
    assert len(found) == 1
    tables = []
    use_trend = "stream_scorer.model.engines.native.NativeEngine.use_trend"
    monkeypatch.setattr(use_trend, lambda _engine, table: tables.append(table))
    monkeypatch.setattr("stream_scorer.jobs.replay.score_chosen", None)
    monkeypatch.setattr(
        "stream_scorer.model.engines.native.NativeEngine.score",
        lambda _engine, matrix: np.full((matrix.shape[0], 3, 2), 0.5, np.float32),
    )
    write_events(tmp_path / "backwards.avro", _rows()[::-1])
    for number, source in enumerate((shop / "events", tmp_path / "backwards.avro")):
        propensities(settings, [source], tmp_path / f"order-{number}", batch_records=500)
    assert len(tables) == 2
    assert (tables[0].first_day, tables[0].contrasts.tobytes()) == (
        tables[1].first_day, tables[1].contrasts.tobytes()
    )  # fmt: skip


def test_what_occurs_on_a_customers_day_or_later_changes_no_score(
    shop: Path, settings: Settings, whole: tuple[Scores, dict[str, int]], tmp_path: Path
) -> None:
    scores, as_of_ms = whole
    customer = "c10"
    day = as_of_ms[customer] // DAY
    more = [
        {"event_id": f"more-{i}", "customer_id": "c59", "event_type": "purchase",
         "category_id": "milk", "occurred_at": day * DAY + i} for i in range(500)
    ]  # fmt: skip
    write_events(tmp_path / "more.avro", more)
    propensities(settings, [shop / "events", tmp_path / "more.avro"], tmp_path / "out")
    found, _ = _replayed(tmp_path / "out")
    up_to = [i for i, at in as_of_ms.items() if at // DAY <= day and i != "c59"]
    assert customer in up_to
    assert len(up_to) > 5
    for one in up_to:
        np.testing.assert_array_equal(found[one], scores[one])
    after = [i for i, at in as_of_ms.items() if day < at // DAY <= day + 20]
    assert max(np.abs(found[i] - scores[i]).max() for i in after) > 0.01
    # The log of that day alone, with nothing of later days.
    propensities(settings, [shop / "events"], tmp_path / "until", Window(None, (day + 1) * DAY))
    until, _ = _replayed(tmp_path / "until")
    for one in up_to:
        np.testing.assert_allclose(until[one], scores[one], rtol=0, atol=1e-7)


def test_events_that_are_refused_or_ignored_do_not_count(
    shop: Path, settings: Settings, whole: tuple[Scores, dict[str, int]], tmp_path: Path
) -> None:
    junk = [
        {"event_id": f"junk-{i}", "customer_id": "guest", "event_type": "purchase",
         "category_id": "milk", "occurred_at": START + 60 * DAY + i} for i in range(500)
    ]  # fmt: skip
    refused = [{**row, "customer_id": "c1", "event_type": "sneeze"} for row in junk[:10]]
    write_events(tmp_path / "junk.avro", [*junk, *refused])
    events = settings.events.model_copy(update={"ignored_customer_ids": ["guest"]})
    dead = settings.dead_letters.model_copy(update={"max_share": 1.0})
    without = settings.model_copy(update={"events": events, "dead_letters": dead})
    report = propensities(without, [shop / "events", tmp_path / "junk.avro"], tmp_path / "out")
    assert (report.counts.ignored_events, report.dead_letters) == (500, {"unknown_event_type": 10})
    found, _ = _replayed(tmp_path / "out")
    assert found.keys() == whole[0].keys()
    assert all((found[i] == whole[0][i]).all() for i in found)


@pytest.mark.parametrize("engine", ["mxnet", "onnx"])
def test_other_engines_are_given_the_same_trend(
    shop: Path, settings: Settings, whole: tuple[Scores, dict[str, int]], tmp_path: Path,
    engine: str,
) -> None:  # fmt: skip
    model = settings.model.model_copy(update={"engine": engine})
    propensities(settings.model_copy(update={"model": model}), [shop / "events"], tmp_path / "out")
    found, _ = _replayed(tmp_path / "out")
    for customer, scores in whole[0].items():
        np.testing.assert_allclose(found[customer], scores, rtol=0, atol=1e-5)


def test_customers_too_many_days_apart_are_refused_with_the_remedy(
    shop: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_scorer.core.trend.MOST_TABLE_BYTES", 4 * 50 * 2 * 3)
    with pytest.raises(InputError, match=r"lie \d+ days apart"):
        propensities(settings, [shop / "events"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
