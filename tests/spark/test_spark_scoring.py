"""Scoring on Spark in this process: the same scores, checks, and what a failed task leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark_shop import SIZES, assert_same, scores_in

from stream_scorer.bench.bulk_workload import BulkSizes, write_snapshot
from stream_scorer.errors import ArtefactError, FingerprintMismatch, InputError, SnapshotError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshot_trend import TREND_FILE
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.score import in_words
from stream_scorer.settings.tree import Settings
from tests.jobs import trend_shop

# ruff: noqa: PLC0415 - pyspark may be absent where these are collected

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("installed")]


@pytest.fixture
def altered(snapshot: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(snapshot, tmp_path / "altered"))


@pytest.mark.parametrize("engine", ["native", "mxnet"])
def test_scores_equal_those_of_one_machine(
    spark: Any, model: Path, snapshot: Path, expected: Any, tmp_path: Path, engine: str
) -> None:
    from stream_scorer.spark.scoring import score

    out = tmp_path / "scores"
    report = score(spark, str(model), str(snapshot), str(out), engine)
    json.dumps(report.as_json(), allow_nan=False)
    assert_same(scores_in(out), expected)
    assert (out / "_SUCCESS").exists()
    assert not list(out.glob("**/_temporary"))
    schema = pq.read_schema(next(out.glob("*.parquet"))).remove_metadata()
    assert schema.field("as_of").type == pa.timestamp("ms", tz="UTC")
    assert schema.field("probabilities").type.value_type == pa.float32()
    assert (report.rows, report.categories) == (SIZES.customers, SIZES.categories)
    assert "6,000 rows" in in_words(report)[0]
    said = spark.read.parquet(str(out)).schema["probabilities"].metadata
    assert said["model_version"] == report.model_version
    assert json.loads(said["categories"])[:2] == ["category-0000", "category-0001"]


def test_a_worker_loads_the_model_once(
    spark: Any, model: Path, snapshot: Path, tmp_path: Path
) -> None:
    from stream_scorer.spark.scoring import score

    report = score(spark, str(model), str(snapshot), str(tmp_path / "scores"))
    assert report.workers["tasks"] >= 8
    assert report.workers["models_loaded"] <= 2, "two cores, so two workers"
    assert report.workers["model"] > 0
    assert report.peak_memory_bytes > 50_000_000


def test_a_job_of_your_own_scores_the_rows_it_wants(
    spark: Any, model: Path, snapshot: Path, expected: Any
) -> None:
    from stream_scorer.spark.scoring import scores
    from stream_scorer.spark.shipped_model import ship

    frame = spark.read.parquet(str(snapshot)).where("customer_id < 'customer-000000100'")
    rows = scores(frame, ship(spark, str(model))).collect()
    found = {row["customer_id"]: np.array(row["probabilities"], np.float32) for row in rows}
    assert_same(found, {f"customer-{i:09d}": expected[f"customer-{i:09d}"] for i in range(100)})


def test_forgotten_customers_are_left_out_as_on_one_machine(
    spark: Any, model: Path, snapshot: Path, tmp_path: Path
) -> None:
    from stream_scorer.jobs.score import score as score_here
    from stream_scorer.spark.scoring import score

    ids, moments = (pq.read_table(snapshot, columns=[c])[c] for c in ("customer_id", "as_of"))
    at_ms = moments.cast(pa.int64()).to_pylist()
    # Up to the moment of the row, and to the millisecond before; and somebody who is not there.
    first, second = ids[0].as_py(), ids[1].as_py()
    erased = {first: at_ms[0], second: at_ms[1] - 1, "nobody": at_ms[0]}
    out, here = tmp_path / "scores", tmp_path / "here.parquet"
    report = score(spark, str(model), str(snapshot), str(out), "native", erased)
    local = score_here(model, snapshot, here, "native", erased)
    assert (report.rows, report.erased_rows) == (local.rows, local.erased_rows)
    assert (report.rows, report.erased_rows) == (SIZES.customers - 1, 1)
    found = scores_in(out)
    assert found.keys() == set(ids.to_pylist()) - {first}
    assert_same(found, scores_in(here))
    assert "1 rows left out" in "\n".join(in_words(report))


def test_model_and_snapshot_may_be_on_any_file_system(
    spark: Any, model: Path, snapshot: Path, expected: Any, tmp_path: Path
) -> None:
    from stream_scorer.spark.scoring import score

    out = tmp_path / "scores"
    score(spark, model.as_uri(), snapshot.as_uri(), out.as_uri())
    assert_same(scores_in(out), expected)


@pytest.mark.parametrize("by_uri", [True, False])
def test_damaged_or_missing_model_is_refused(
    spark: Any, model: Path, snapshot: Path, tmp_path: Path, by_uri: bool
) -> None:
    from stream_scorer.spark.scoring import score

    copy = Path(shutil.copytree(model, tmp_path / "copy"))
    with (copy / "model-0000.params").open("r+b") as file:
        file.seek(5000)
        file.write(b"odd")
    for given, said in ((copy, "SHA-256"), (tmp_path / "none", "there is no model")):
        named = given.as_uri() if by_uri else str(given)
        with pytest.raises(ArtefactError, match=said):
            score(spark, named, str(snapshot), str(tmp_path / "scores"))
    assert not (tmp_path / "scores").exists()


def test_snapshot_without_rows_makes_scores_without_rows(
    spark: Any, model: Path, tmp_path: Path
) -> None:
    from stream_scorer.spark.scoring import score

    write_snapshot(BulkSizes(0, 2_000, 40, 5, 9), tmp_path / "empty")
    out = tmp_path / "scores"
    assert score(spark, str(model), str(tmp_path / "empty"), str(out)).rows == 0
    assert spark.read.parquet(str(out)).count() == 0


def _flip(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip, r"part-00007\.parquet'?: its SHA-256"),
        (lambda shard: shard.write_bytes(b"PAR1"), r"part-00007\.parquet'?: its SHA-256"),
        (Path.unlink, r"part-00007\.parquet'?: is missing"),
    ],
    ids=["a bit flipped", "cut", "missing"],
)
def test_damaged_shard_is_named_and_nothing_is_written(
    spark: Any, model: Path, altered: Path, tmp_path: Path, damage: Any, said: str
) -> None:
    from stream_scorer.spark.scoring import score

    damage(altered / "part-00007.parquet")
    with pytest.raises(SnapshotError, match=said) as raised:
        score(spark, str(model), str(altered), str(tmp_path / "scores"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "scores").exists()


def test_shard_that_is_damaged_after_the_check_is_named_and_nothing_is_left(
    spark: Any, model: Path, altered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_scorer.spark import scoring

    check = scoring.open_snapshot  # type: ignore[attr-defined]

    def checked_then_damaged(*arguments: Any) -> Any:
        found = check(*arguments)
        (altered / "part-00007.parquet").write_bytes(b"PAR1 of something else, PAR1")
        return found

    monkeypatch.setattr(scoring, "open_snapshot", checked_then_damaged)
    with pytest.raises(SnapshotError, match=r"part-00007\.parquet"):
        scoring.score(spark, str(model), str(altered), str(tmp_path / "scores"))
    assert not (tmp_path / "scores").exists()


def test_manifest_that_is_missing_or_of_other_features_is_refused(
    spark: Any, model: Path, altered: Path, tmp_path: Path
) -> None:
    from stream_scorer.spark.scoring import score

    write_snapshot(BulkSizes(10, 2_001, 40, 5, 9), tmp_path / "other")
    with pytest.raises(FingerprintMismatch):
        score(spark, str(model), str(tmp_path / "other"), str(tmp_path / "scores"))
    (altered / "_manifest.json").unlink()
    with pytest.raises(SnapshotError, match="is no snapshot: it has neither"):
        score(spark, str(model), str(altered), str(tmp_path / "scores"))


def test_results_are_never_written_over(
    spark: Any, model: Path, snapshot: Path, tmp_path: Path
) -> None:
    from stream_scorer.spark.scoring import score

    out = tmp_path / "scores"
    out.mkdir()
    with pytest.raises(InputError, match="not the whole result"):
        score(spark, str(model), str(snapshot), str(out))
    (out / "_SUCCESS").touch()
    with pytest.raises(InputError, match="already exists"):
        score(spark, str(model), str(snapshot), str(out))
    # Without the packages of a provider Hadoop knows no object storage: one line says which name.
    with pytest.raises(InputError, match=r'No FileSystem for scheme "s3"; .* S3 is s3a://'):
        score(spark, str(model), str(snapshot), "s3://shop/scores")


def test_target_that_another_job_makes_meanwhile_is_left_alone(
    spark: Any, model: Path, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_scorer.spark import scoring

    out, check = tmp_path / "scores", scoring.open_snapshot  # type: ignore[attr-defined]

    def checked_while_another_writes(*arguments: Any) -> Any:
        out.mkdir()
        (out / "part-of-another").touch()
        return check(*arguments)

    monkeypatch.setattr(scoring, "open_snapshot", checked_while_another_writes)
    with pytest.raises(InputError, match="another job writes it"):
        scoring.score(spark, str(model), str(snapshot), str(out))
    assert (out / "part-of-another").exists()


def _fails_at_first(batches: Iterator[Any], folder: str) -> Iterator[Any]:
    """Of some tasks the first attempt dies when it has given rows away."""
    from pyspark import TaskContext

    task = TaskContext.get()
    batches = (batch.slice(first, 100) for batch in batches for first in range(0, len(batch), 100))
    for number, batch in enumerate(batches):
        if number == 2 and task.partitionId() % 3 == 0 and task.attemptNumber() == 0:
            Path(folder, str(task.partitionId())).touch()
            raise OSError("this worker's disk is gone")
        yield batch


def test_task_that_is_tried_again_leaves_no_row_twice(
    spark: Any, model: Path, snapshot: Path, expected: Any, tmp_path: Path
) -> None:
    from functools import partial

    from pyspark import cloudpickle

    from stream_scorer.spark.scoring import scores, write
    from stream_scorer.spark.shipped_model import ship

    cloudpickle.register_pickle_by_value(__import__(__name__))
    failed = tmp_path / "failed"
    failed.mkdir()
    frame = spark.read.parquet(f"{snapshot}/*.parquet").select(
        "customer_id", "as_of", "columns", "values"
    )
    flaky = frame.mapInArrow(partial(_fails_at_first, folder=str(failed)), frame.schema)
    write(scores(flaky, ship(spark, str(model))), str(tmp_path / "scores"))
    assert len(list(failed.iterdir())) >= 3
    assert_same(scores_in(tmp_path / "scores"), expected)


def test_the_shops_trend_travels_to_the_workers(spark: Any, tmp_path: Path) -> None:
    from stream_scorer.jobs.score import score as score_here
    from stream_scorer.spark.scoring import score

    (tmp_path / "shop.toml").write_text(trend_shop.CONFIG)
    settings = Settings.load(tmp_path / "shop.toml", environment={})
    write_events(tmp_path / "events.avro", trend_shop.event_rows())
    snapshot, model = tmp_path / "snapshot", tmp_path / "model"
    replay(settings, [tmp_path / "events.avro"], snapshot, trend_shop.CUTOFFS)
    trend_shop.save_model(settings, Snapshot.open(snapshot), model)
    score(spark, str(model), str(snapshot), str(tmp_path / "spark"), "mxnet")
    score_here(model, snapshot, tmp_path / "here.parquet", "mxnet")
    by_row = []
    for path in (tmp_path / "spark", tmp_path / "here.parquet"):
        rows = pq.read_table(path).to_pylist()
        by_row.append({(r["customer_id"], r["as_of"]): r["probabilities"] for r in rows})
    assert by_row[0].keys() == by_row[1].keys()
    for row, scores in by_row[0].items():
        np.testing.assert_allclose(scores, by_row[1][row], rtol=0, atol=1e-6)
    file = snapshot / TREND_FILE
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(SnapshotError, match=r"_trend\.parquet.*its SHA-256 is not the manifest's"):
        score(spark, str(model), str(snapshot), str(tmp_path / "again"), "mxnet")
    assert not (tmp_path / "again").exists()
