"""A declared trend from the log to the scores: replay, training, evaluation, scoring, backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import stream_scorer as ss
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError, SnapshotError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshots import Shards, Snapshot
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.score import score
from stream_scorer.model import artefact
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings
from tests.jobs.trend_shop import CONFIG, CUTOFFS, DAY, LATER, START, event_rows, save_model
from tests.model.reference_network import probabilities


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and the events of a shop."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "stream_scorer.toml").write_text(CONFIG)
    write_events(folder / "events.avro", event_rows())
    return folder


@pytest.fixture(scope="module")
def settings(shop: Path) -> Settings:
    return Settings.load(shop / "stream_scorer.toml", environment={})


@pytest.fixture(scope="module")
def train_snapshot(shop: Path, settings: Settings) -> Path:
    replay(settings, [shop / "events.avro"], shop / "train", RowsAsked.of(CUTOFFS, "both"))
    return shop / "train"


def _table(path: Path) -> TrendTable:
    found = Snapshot.open(path).trend
    assert found is not None
    return found


def test_a_replay_writes_the_table_of_the_days_of_its_rows(train_snapshot: Path) -> None:
    table = _table(train_snapshot)
    assert (table.first_day, table.last_day) == (17_030, 17_079)
    # Half of all events are of one category, which changes every 15 days.
    assert np.abs(table.contrasts).max() > 0.3


def test_what_happens_from_a_cut_off_on_changes_neither_its_rows_nor_its_trend(
    shop: Path, settings: Settings, tmp_path: Path
) -> None:
    cutoff = CUTOFFS[-1]
    before = [row for row in event_rows() if row["occurred_at"] < cutoff]
    # So that the horizon is over.
    after = {**before[0], "event_id": "x", "occurred_at": cutoff + 6 * DAY, "category_id": "milk"}
    write_events(tmp_path / "cut.avro", [*before, *[after] * 50])
    tables, matrices = [], []
    for name, events in (("whole", shop / "events.avro"), ("cut", tmp_path / "cut.avro")):
        replay(settings, [events], tmp_path / name, [cutoff])
        tables.append(_table(tmp_path / name))
        matrices.append(Snapshot.open(tmp_path / name).shards()[0].matrix)
    assert tables[0].first_day == tables[1].first_day == tables[0].last_day
    assert np.array_equal(tables[0].contrasts, tables[1].contrasts)
    assert (matrices[0] != matrices[1]).nnz == 0


def test_a_time_too_long_for_the_table_is_refused_before_any_event_is_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_scorer.core.trend.MOST_TABLE_BYTES", 4 * 50 * 2 * 3)
    cutoffs = [START + d * DAY for d in (30, 80)]
    with pytest.raises(InputError, match="rows lie 51 days apart"):
        replay(settings, [tmp_path / "no-such-file"], tmp_path / "out", cutoffs)


def test_snapshots_of_two_logs_are_not_trained_on_together(
    shop: Path, settings: Settings, train_snapshot: Path, tmp_path: Path
) -> None:
    write_events(tmp_path / "half.avro", event_rows()[:2000])
    replay(settings, [tmp_path / "half.avro"], tmp_path / "half", CUTOFFS)
    snapshots = [Snapshot.open(path) for path in (train_snapshot, tmp_path / "half")]
    with pytest.raises(SnapshotError, match=r"its trend of 2016-08-17 is not that of"):
        Shards(snapshots).trend()


def test_weeks_of_rows_between_cut_offs_count(shop: Path, settings: Settings) -> None:
    replay(settings, [shop / "events.avro"], shop / "ends", [CUTOFFS[0], CUTOFFS[-1]])
    between = RowsAsked.of([CUTOFFS[0], CUTOFFS[-1]], "events")
    replay(settings, [shop / "events.avro"], shop / "between", between)
    weeks = {}
    for name in ("ends", "between"):
        moments = Snapshot.open(shop / name).shards().weeks_ms()
        weeks[name] = len({moment // (7 * DAY) for moment in moments})
    assert weeks == {"ends": 2, "between": 8}


# What scores the model of random parameters below must give: by the network in plain numpy.
def _expected(loaded: artefact.Artefact, rows: LabelledRows, table: TrendTable) -> Any:
    days = rows.as_of_ms // DAY - table.first_day
    return probabilities(
        loaded.layout, loaded.manifest.network, loaded.parameters, rows.matrix,
        table.contrasts[days],
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(shop: Path, settings: Settings, train_snapshot: Path) -> Path:
    save_model(settings, Snapshot.open(train_snapshot), shop / "model")
    return shop / "model"


def test_bulk_scores_are_those_of_each_rows_day(
    model: Path, train_snapshot: Path, tmp_path: Path
) -> None:
    report = score(model, train_snapshot, tmp_path / "scores.parquet", "mxnet")
    (rows,) = Snapshot.open(train_snapshot).shards()
    expected = _expected(artefact.load(model), rows, _table(train_snapshot))
    found = pq.read_table(tmp_path / "scores.parquet")
    assert report.rows == len(rows) > 500
    assert found["customer_id"].to_pylist() == rows.customer_ids
    scores = np.array(found["probabilities"].to_pylist())
    np.testing.assert_allclose(scores, expected[:, :, 1], rtol=0, atol=1e-5)
    # The same without the trend would be far off.
    flat = TrendTable(17_030, np.zeros((50, 2, 3), np.float32))
    assert np.abs(_expected(artefact.load(model), rows, flat)[:, :, 1] - scores).max() > 0.1


def test_the_api_scores_rows_of_its_own_with_the_trend_of_their_days(
    shop: Path, model: Path, train_snapshot: Path
) -> None:
    opened = ss.load_model(model, "mxnet")
    events = ss.read_events(shop / "events.avro")
    matrix, ids = ss.features_at(events, opened.feature_space, CUTOFFS[3])
    with pytest.raises(InputError, match="use_trend"):
        opened.score(matrix)
    table = ss.shop_trend(events, opened.feature_space, CUTOFFS[3], CUTOFFS[4])
    assert (table.first_day, table.last_day) == (17_051, 17_058)
    whole = _table(train_snapshot)
    assert np.array_equal(table.contrasts, whole.part(17_051, 17_058).contrasts)
    opened.use_trend(table)
    scores = opened.score(matrix)
    opened.use_trend(ss.open_snapshot(train_snapshot))
    assert np.array_equal(opened.score(matrix), scores)
    loaded = artefact.load(model)
    expected = probabilities(
        loaded.layout, loaded.manifest.network, loaded.parameters, matrix,
        np.repeat(table.contrasts[:1], len(ids), axis=0),
    )  # fmt: skip
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="is not of the model's features"):
        opened.use_trend(TrendTable(17_000, np.zeros((90, 1, 3), np.float32)))


def test_the_api_says_what_a_trend_needs(
    shop: Path, settings: Settings, train_snapshot: Path, tmp_path: Path
) -> None:
    events, space = ss.read_events(shop / "events.avro"), settings.feature_space()
    with pytest.raises(InputError, match="not before first"):
        ss.shop_trend(events, space, CUTOFFS[1], CUTOFFS[0])
    plain = ss.FeatureSpace.compile(space.features[:1], space.vocabularies)
    with pytest.raises(InputError, match='declare a feature of kind "trend"'):
        ss.shop_trend(events, plain, CUTOFFS[0], CUTOFFS[1])
    (rows,) = Snapshot.open(train_snapshot).shards()
    with pytest.raises(InputError, match="as shop_trend returns it"):
        ss.train(settings, rows, tmp_path / "m")
    first, last = rows.as_of_ms[0], int(rows.as_of_ms[-1])
    short = ss.shop_trend(events, space, int(first), last - DAY)
    with pytest.raises(InputError, match="rows stand on the days 2016-08-17 to 2016-10-05"):
        ss.train(settings, rows, tmp_path / "m", trend=short)
    other = TrendTable(17_000, np.zeros((90, 1, 3), np.float32))
    with pytest.raises(InputError, match="of other features"):
        ss.train(settings, rows, tmp_path / "m", trend=other)
    with pytest.raises(InputError, match="the snapshots have their own"):
        ss.train(settings, train_snapshot, tmp_path / "m", trend=_table(train_snapshot))


@pytest.mark.mxnet
def test_rows_in_memory_are_trained_on_with_the_trend_as_their_snapshot_is(
    shop: Path, settings: Settings, train_snapshot: Path, tmp_path: Path
) -> None:
    replay(settings, [shop / "events.avro"], tmp_path / "later", LATER)
    (rows,), (later,) = (Snapshot.open(p).shards() for p in (train_snapshot, tmp_path / "later"))
    events, space = ss.read_events(shop / "events.avro"), settings.feature_space()
    trend = ss.shop_trend(events, space, CUTOFFS[0], LATER[-1])
    for name, validation in (("alone", None), ("held out", later)):
        found = ss.train(settings, rows, tmp_path / name, validation=validation, trend=trend)
        files = ss.train(
            settings, train_snapshot, tmp_path / f"{name} files",
            validation=None if validation is None else tmp_path / "later",
        )  # fmt: skip
        assert found.model_version == files.model_version
        golden = artefact.golden_batch(artefact.load(tmp_path / name))
        assert golden is not None
        assert golden.trend is not None
        # The card's rows are scored with the trend of their own days as well.
        assert found.card is not None
        assert files.card is not None
        ours, theirs = found.card["quality"], files.card["quality"]
        assert (ours is None) == (validation is None)
        if ours is not None:
            assert ours["overall"] == theirs["overall"]
            loss = ss.evaluate(files, tmp_path / "later").metrics.log_loss
            assert ours["overall"]["log_loss"]["value"] == pytest.approx(loss)
