"""Whole commands with every place on a server of S3: what they say, write and refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from stream_scorer.cli import app, spread
from stream_scorer.demo.embedded import EmbeddedRedis
from stream_scorer.errors import SnapshotError, StoreUnavailable
from stream_scorer.io.files.resumable_snapshot import UnfinishedSnapshot
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.redis import RedisStore
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.jobs import export as export_job
from stream_scorer.jobs import init
from stream_scorer.live.consumer import redis_client
from stream_scorer.live.served_model import model_at_start
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import ObjectPath, place
from stream_scorer.storage.uploads import UNFINISHED, put, upload

SHORT_TRAINING = {"epochs": "1", "min_steps": "0", "average_seeds": "1", "min_customers": "1"}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as embedded:
        yield embedded


@pytest.fixture
def shop(s3: str, server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `init`, whose events lie at s3://.../events as well."""
    monkeypatch.setenv("STREAM_SCORER__REDIS__URL", server.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in SHORT_TRAINING.items():
        monkeypatch.setenv(f"STREAM_SCORER__TRAINING__{name.upper()}", value)
    folder = tmp_path / "shop"
    init.init(folder)
    for path in (folder / "events").iterdir():
        upload(path, at(f"{s3}/events") / path.name)
    monkeypatch.chdir(folder)
    return folder


def at(address: str) -> ObjectPath:
    found = place(address)
    assert isinstance(found, ObjectPath)
    return found


def ran(*words: str, status: int = 0) -> Any:
    """What the command printed as JSON, or the error's line where it should fail."""
    done = CliRunner().invoke(app, spread([*words, "--json"] if status == 0 else [*words]))
    assert done.exit_code == status, done.output
    return json.loads(done.stdout) if status == 0 else done.stderr


@pytest.mark.mxnet
def test_from_events_to_scores_and_a_backtest_all_on_s3(shop: Path, s3: str) -> None:
    config = ("-c", "stream_scorer.toml")
    for root in (s3, str(shop)):
        ran(
            "replay", f"{root}/events", *config, "--out", f"{root}/snapshots/train",
            "--cutoffs", "2026-07-20T00:00Z,2026-08-03T00:00Z",
        )  # fmt: skip
        ran(
            "replay", f"{root}/events", *config, "--out", f"{root}/snapshots/validation",
            "--cutoffs", "2026-08-24T00:00Z",
        )  # fmt: skip
    here, there = shop / "snapshots" / "train", at(f"{s3}/snapshots/train")
    shard = "part-00000.parquet"
    assert (there / shard).read_bytes() == (here / shard).read_bytes()
    trained = ran(
        "train", f"{s3}/snapshots/train", *config,
        "--validation", f"{s3}/snapshots/validation", "--out", f"{s3}/models/a",
    )  # fmt: skip
    assert trained["model"] == f"{s3}/models/a"
    listed = ran("models", "list", f"{s3}/models")["models"]
    assert [(model["name"], model["problem"]) for model in listed] == [("a", None)]
    ran("models", "verify", f"{s3}/models/a", *config)
    announced = ran("models", "activate", f"{s3}/models/a", *config, "--wait", "0")
    assert announced["announcement"]["model"]["path"] == f"{s3}/models/a"
    settings = Settings.load(Path("stream_scorer.toml"))
    redis = RedisServer(redis_client(settings))
    announcements = Announcements(redis, settings.store.namespace)
    served = model_at_start(settings, settings.feature_space(), announcements)
    assert served.identity.path == f"{s3}/models/a"
    redis.close()
    found = ran(
        "evaluate", f"{s3}/models/a", f"{s3}/snapshots/validation",
        "--report", f"{s3}/reports/quality.html", "--scores", f"{s3}/scores/evaluated.parquet",
    )  # fmt: skip
    # Its baseline is fitted on the training snapshots that the model's manifest names.
    assert "logistic" in found["baselines"]
    assert b"</html>" in at(f"{s3}/reports/quality.html").read_bytes()
    ran(
        "score", f"{s3}/models/a", f"{s3}/snapshots/validation",
        "--out", f"{s3}/scores/a.parquet",
    )  # fmt: skip
    ran("score", f"{s3}/models/a", str(shop / "snapshots/validation"), "--out", "here.parquet")
    with at(f"{s3}/scores/a.parquet").open() as scores:
        assert pq.read_table(scores).equals(pq.read_table("here.parquet"))
    ran(
        "backtest", f"{s3}/events", *config, "--model", f"{s3}/models/a",
        "--from", "2026-08-10T00:00Z", "--to", "2026-08-25T00:00Z", "--report", f"{s3}/backtest",
    )  # fmt: skip
    names = sorted(path.name for path in at(f"{s3}/backtest").walk())
    assert names == ["metrics.json", "report.html", "scores-1.parquet"]
    Path("at_s3.toml").write_text(
        Path("stream_scorer.toml").read_text().replace('path = "model"', f'path = "{s3}/models/a"')
    )
    for root in (s3, str(shop)):
        ran("replay", f"{root}/events", "-c", "at_s3.toml", "--out", f"{root}/propensities")
    at_s3 = at(f"{s3}/propensities/propensities.parquet")
    here = pq.read_table(shop / "propensities" / "propensities.parquet")
    with at_s3.open() as scores:
        columns = ["customer_id", "as_of", "propensities"]
        assert pq.read_table(scores, columns=columns).equals(here.select(columns))


def test_bad_input_is_one_line_that_names_the_argument(shop: Path, s3: str) -> None:
    config = ("-c", "stream_scorer.toml")
    cutoffs = ("--cutoffs", "2026-07-20T00:00Z")
    said = ran("replay", f"{s3}/nothing", *config, "--out", f"{s3}/x", *cutoffs, status=2)
    assert said == f"stream-scorer: events: '{s3}/nothing': can't be opened (there is no such " + (
        "object); check path and permissions\n"
    )
    said = ran("replay", f"{s3}/events", *config, "--out", "s3://nowhere/x", *cutoffs, status=2)
    assert said.startswith("stream-scorer: --out: 's3://nowhere/x': there is no bucket nowhere;")
    said = ran("score", f"{s3}/models/a", f"{s3}/x", "--out", f"{s3}/y", status=2)
    assert "there is no model" in said
    said = ran("train", "s3a://b/x", *config, "--out", f"{s3}/m", status=2)
    assert said == "stream-scorer: SNAPSHOTS: 's3a://...': s3a is not known; write s3://\n"
    said = ran("models", "activate", f"{s3}/models/a", status=2)
    assert "object storage has no links" in said
    put(b"{}", at(f"{s3}/models/a/{UNFINISHED}"))
    said = ran("models", "verify", f"{s3}/models/a", status=2)
    assert "was not written to its end" in said
    assert sorted(path.name for path in at(s3).walk()) == [UNFINISHED, "sample.jsonl"]


def test_an_interrupted_export_to_s3_goes_on(
    shop: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(shop / "stream_scorer.toml")
    ran("replay", "events", "-c", "stream_scorer.toml", "--into", "built")
    monkeypatch.setenv("STREAM_SCORER__STORE__NAMESPACE", "built")
    settings = Settings.load(shop / "stream_scorer.toml")
    load, pages = RedisStore.load, []

    def failing(self: RedisStore, ids: Any) -> Any:
        pages.append(ids)
        if len(pages) == 3:
            raise StoreUnavailable("Redis went away")
        return load(self, ids)

    target = at(f"{s3}/exported")
    with monkeypatch.context() as patched:
        patched.setattr(RedisStore, "load", failing)
        patched.setattr(export_job, "THREADS", 1)
        with pytest.raises(StoreUnavailable):
            export_job.export(settings, target, None, rows_per_shard=30)
    with pytest.raises(SnapshotError, match="was not written to its end"):
        Snapshot.open(target)
    done = export_job.export(settings, target, None, rows_per_shard=30)
    assert done.shards_before == 2
    export_job.export(settings, shop / "exported", None, rows_per_shard=30)
    files = {path.name: path.read_bytes() for path in target.walk()}
    assert files == {path.name: path.read_bytes() for path in (shop / "exported").iterdir()}
    said = ran("export", "-c", "stream_scorer.toml", "--out", f"{s3}/exported", status=2)
    assert "already exists" in said
    with pytest.raises(SnapshotError, match="already exists"):
        UnfinishedSnapshot(target, {}, {})
