"""`replay --rows-at`: rows as of cut-offs, after events, or both; and who is warned of one kind."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.checks.model import model_findings
from stream_scorer.core.events.moments import nearest_ms, parse_iso_8601
from stream_scorer.core.features import fold
from stream_scorer.core.labels import as_of
from stream_scorer.core.labels.labels import concatenate_rows
from stream_scorer.errors import InputError, SnapshotError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.snapshot_manifest import (
    MANIFEST_FILE,
    manifest_content,
    read_manifest,
)
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs import train as train_job
from stream_scorer.jobs.doctor import Diagnosis, in_words
from stream_scorer.jobs.replay import replay
from stream_scorer.jobs.train import train
from stream_scorer.live.served_model import open_model
from stream_scorer.model import artefact
from stream_scorer.model.trained_moments import moments_it_lacks, trained_moments
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings

DAY = 86_400_000
START = 17_000 * DAY
CUTOFFS = [START + d * DAY for d in (15, 22, 29)]
LATER = [START + d * DAY for d in (36, 43)]
CONFIG = """
[vocabularies]
category_id = ["soup", "bread", "milk"]
[labels]
horizon = "7d"
[model]
engine = "native"
[training]
min_customers = 1
epochs = 1
min_steps = 10
[[features]]
name = "purchases"
by = ["category_id"]
half_lives = ["2d", "30d"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "stream_scorer.toml").write_text(CONFIG)
    return Settings.load(tmp_path / "stream_scorer.toml", environment={})


def purchases() -> list[dict[str, Any]]:
    draw = np.random.default_rng(5)
    return [
        {
            "event_id": str(i), "customer_id": f"c{draw.integers(40)}", "event_type": "purchase",
            "category_id": ("soup", "bread", "milk")[draw.integers(3)],
            "occurred_at": START + int(draw.integers(60 * DAY)),
        }
        for i in range(2000)
    ]  # fmt: skip


@pytest.fixture
def events(tmp_path: Path) -> Path:
    folder, rows = tmp_path / "events", purchases()
    folder.mkdir()
    write_events(folder / "1.avro", rows[:700])
    write_events(folder / "2.avro", rows[700:])
    return folder


def moments_of(path: Path) -> list[tuple[str, int]]:
    return [
        (customer, int(at))
        for rows in Snapshot.open(path).shards()
        for customer, at in zip(rows.customer_ids, rows.as_of_ms, strict=True)
    ]


def test_each_row_is_of_the_kind_that_the_manifest_says(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    found = {}
    for kind in ("cutoffs", "events", "both"):
        report = replay(settings, [events], tmp_path / f"at-{kind}", RowsAsked.of(CUTOFFS, kind, 4))
        found[kind] = moments_of(tmp_path / f"at-{kind}")
        written = Snapshot.open(tmp_path / f"at-{kind}").info.row_moments
        assert written is not None
        assert written.cutoffs_ms == tuple(CUTOFFS)
        assert written.seed == (None if kind == "cutoffs" else 4)
        at_cutoff = [at in CUTOFFS for _, at in found[kind]]
        assert written.cutoff_rows == sum(at_cutoff)
        assert written.event_rows == report.event_rows == len(at_cutoff) - sum(at_cutoff)
        assert report.rows == len(found[kind]) == len(set(found[kind]))
    assert len(found["cutoffs"]) == 120
    assert 80 < len(found["events"]) < 160
    assert found["both"] == found["cutoffs"] + found["events"]
    assert {at for _, at in found["events"]}.isdisjoint(CUTOFFS)


def test_threads_groups_and_files_change_no_byte(
    settings: Settings, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "EVENTS_PER_WORKER", 20)
    written = set()
    for run, threads in enumerate((1, 2, 3)):
        replay(
            settings, [events], tmp_path / str(run), RowsAsked.of(CUTOFFS, "both"), threads=threads
        )
        written.add(tuple(f.read_bytes() for f in sorted((tmp_path / str(run)).iterdir())))
        monkeypatch.setattr("stream_scorer.jobs.replay.BATCH_RECORDS", 100)
    assert len(written) == 1
    # Another size of groups gives the same rows in another order.
    monkeypatch.setattr(as_of, "GROUP_CUSTOMERS", 7)
    replay(settings, [events], tmp_path / "groups", RowsAsked.of(CUTOFFS, "both"))
    assert sorted(moments_of(tmp_path / "groups")) == sorted(moments_of(tmp_path / "0"))


def test_labels_of_all_rows_end_before_validation_begins(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    """Rows after events lie between the cut-offs, so the same cut-offs may be used for both."""
    replay(settings, [events], tmp_path / "train", RowsAsked.of(CUTOFFS, "both"))
    replay(settings, [events], tmp_path / "later", RowsAsked.of(LATER, "both"))
    last = max(at for _, at in moments_of(tmp_path / "train"))
    assert last + 7 * DAY <= min(at for _, at in moments_of(tmp_path / "later"))
    trained = train(settings, [tmp_path / "train"], tmp_path / "m", validation=[tmp_path / "later"])
    assert trained.warning is None
    assert 0 < trained.event_rows < trained.rows
    said = artefact.load(tmp_path / "m").manifest.training
    assert said["event_rows"] == trained.event_rows
    assert said["cutoff_rows"] == trained.rows - trained.event_rows


def test_a_model_of_rows_after_events_alone_is_reported_where_scores_are_refreshed(
    settings: Settings, events: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = "all training rows stand just after events, but [refresh] also scores quiet customers"
    replay(settings, [events], tmp_path / "train", RowsAsked.of(CUTOFFS, "events"))
    trained = train(settings, [tmp_path / "train"], tmp_path / "model")
    assert trained.warning is not None
    assert words in trained.warning
    (warned,) = [line for line in train_job.in_words(trained) if "warning" in line]
    assert "replay with quiet rows or cut-offs as well, and train again" in warned
    named = settings.model.model_copy(update={"path": tmp_path / "model"})
    serving = settings.model_copy(update={"model": named})
    findings = {found.check: found for found in model_findings(serving)}
    model, rows = findings["model"], findings["training rows"]
    assert model.ok
    assert rows.ok
    assert words in rows.found
    lines = in_words(Diagnosis(True, (rows,)))
    assert lines[0].startswith("note ")
    assert (
        lines[1].strip()
        == rows.remedy
        == "replay with quiet rows or cut-offs as well, and train again"
    )
    with caplog.at_level(logging.WARNING):
        open_model(serving, serving.feature_space(), tmp_path / "model")
    assert words in caplog.text
    never = settings.refresh.model_copy(update={"every": ""})
    caplog.clear()
    quiet = serving.model_copy(update={"refresh": never})
    assert "training rows" not in {found.check for found in model_findings(quiet)}
    open_model(quiet, quiet.feature_space(), tmp_path / "model")
    assert caplog.text == ""


def test_a_model_whose_rows_moments_are_not_known_is_not_judged() -> None:
    assert moments_it_lacks({"rows": 9}, refreshes=True) is None


@pytest.mark.parametrize(("rows", "refreshes", "lacks"), [
    ((9, 0, 0), True, False), ((9, 1, 0), True, False), ((0, 9, 0), True, True),
    ((0, 9, 0), False, False), ((0, 9, 1), True, False), ((0, 0, 9), True, False),
])  # fmt: skip
def test_only_rows_after_events_alone_lack_quiet_customers(
    *, rows: tuple[int, int, int], refreshes: bool, lacks: bool
) -> None:
    said = trained_moments(*rows)
    assert (moments_it_lacks(said, refreshes=refreshes) is not None) == lacks


@pytest.mark.parametrize(("options", "said"), [
    (["--cutoffs", "2016-08-01T00:00Z", "--rows-at", "both"], "--cutoffs: '2016-08-01"),
    (["--cutoffs", "2016-08-01T00:00Z,2016-08-01T00:00Z", "--rows-at", "events"], "two or more"),
    (["--cutoffs", "2016-08-01T00:00Z", "--rows-at", "weeks"], "give cutoffs, events or both"),
    (["--rows-at", "both"], "--rows-at: 'both': is about labelled snapshots"),
    (["--cutoffs", "2016-08-01T00:00Z", "--seed", "-1"], "--seed: '-1': give a whole number"),
    (["--cutoffs", "2016-08-01T00:00Z", "--rows-at", "both", "--engine", "spark"], "two or more"),
])  # fmt: skip
def test_wrong_arguments_are_one_line_and_status_2(
    settings: Settings, events: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    config, out = tmp_path / "stream_scorer.toml", tmp_path / "out"
    words = ["replay", str(events), "-c", str(config), "--out", str(out), *options]
    ran = CliRunner().invoke(cli.app, words)
    assert (ran.exit_code, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert said in ran.stderr
    assert not out.exists()


def test_cutoffs_without_an_event_between_them_are_named(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    near = [START + 30 * DAY, START + 30 * DAY + 5]
    with pytest.raises(InputError, match=r"--cutoffs.*no event between them.*further apart"):
        replay(settings, [events], tmp_path / "out", RowsAsked.of(near, "both"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("key", "value"), [
    ("event_rows", 7), ("cutoff_rows", "many"), ("cutoffs_ms", 3), ("seed", "x"), ("more", 1),
])  # fmt: skip
def test_a_manifest_that_contradicts_its_rows_is_refused(
    settings: Settings, events: Path, tmp_path: Path, key: str, value: object
) -> None:
    replay(settings, [events], tmp_path / "out", RowsAsked.of(CUTOFFS, "both"))
    manifest, file = read_manifest(tmp_path / "out")
    manifest["row_moments"][key] = value
    Path(str(file)).write_bytes(manifest_content(manifest))
    with pytest.raises(SnapshotError, match="contradicts itself"):
        Snapshot.open(tmp_path / "out")


def test_a_snapshot_of_before_has_rows_as_of_cutoffs(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    replay(settings, [events], tmp_path / "out", CUTOFFS)
    manifest, _ = read_manifest(tmp_path / "out")
    del manifest["row_moments"]
    (tmp_path / "out" / MANIFEST_FILE).write_bytes(manifest_content(manifest))
    trained = train(settings, [tmp_path / "out"], tmp_path / "model")
    assert (trained.event_rows, trained.warning) == (0, None)


def asked(words: str, seed: int = 4) -> RowsAsked:
    def moment_ms(text: str) -> int:
        return nearest_ms(parse_iso_8601(text))

    return RowsAsked.parse(
        words, "cutoffs", seed, every_ms=DAY, horizon_ms=7 * DAY, moment_ms=moment_ms
    )


def rows_by_moment(path: Path) -> dict[tuple[str, int], tuple[bytes, ...]]:
    found: dict[tuple[str, int], tuple[bytes, ...]] = {}
    for rows in Snapshot.open(path).shards():
        for i in range(len(rows)):
            one = rows.take(np.array([i]))
            found[one.customer_ids[0], int(one.as_of_ms[0])] = (
                one.matrix.indices.tobytes(), one.matrix.data.tobytes(),
                one.label_category.tobytes(), one.weight.tobytes(),
            )  # fmt: skip
    return found


PERIOD = "2016-08-01T00:00Z..2016-09-01T00:00Z"


def test_all_kinds_are_made_in_one_call_and_their_weights_have_the_mean_1(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    words = f"{PERIOD},event:0.3,quiet:1/5,2016-08-10T00:00Z,2016-08-20T00:00Z"
    report = replay(settings, [events], tmp_path / "out", asked(words))
    snapshot = Snapshot.open(tmp_path / "out")
    rows = concatenate_rows(list(snapshot.shards()))
    written = snapshot.info.row_moments
    assert written is not None
    kinds = written.kinds(rows.as_of_ms)
    assert np.bincount(kinds).tolist() == [80, report.event_rows, report.quiet_rows]
    assert (written.event_rows, written.quiet_rows) == (report.event_rows, report.quiet_rows)
    assert report.event_rows > 50
    assert report.quiet_rows > 50
    assert rows.weight.mean(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    weights = [float(rows.weight[kinds == kind][0]) for kind in range(3)]
    assert weights[1] / weights[0] == pytest.approx(1 / 0.3, rel=1e-6)
    assert weights[2] / weights[0] == pytest.approx(5, rel=1e-6)
    assert written.weights == pytest.approx(weights)
    start, end = written.period_ms or (0, 0)
    assert ((rows.as_of_ms >= start) & (rows.as_of_ms < end)).all()
    # A customer is at many moments, and each of them once.
    assert len(set(moments_of(tmp_path / "out"))) == report.rows > 3 * len(set(rows.customer_ids))


def test_any_split_of_the_events_into_files_gives_the_same_rows(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    replay(settings, [events], tmp_path / "a", asked(PERIOD))
    other = tmp_path / "other"
    other.mkdir()
    for part in range(5):
        write_events(other / f"{part}.avro", purchases()[part::5])
    replay(settings, [other], tmp_path / "b", asked(PERIOD))
    assert rows_by_moment(tmp_path / "a") == rows_by_moment(tmp_path / "b")


def test_without_a_moment_rows_end_a_horizon_before_the_log(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    report = replay(settings, [events], tmp_path / "out", asked("event,quiet"))
    moments = [at for _, at in moments_of(tmp_path / "out")]
    assert report.cutoffs == 0
    assert START + 53 * DAY < max(moments) <= START + 60 * DAY + DAY - 7 * DAY
    trained = train(settings, [tmp_path / "out"], tmp_path / "model")
    assert trained.warning is None
    said = artefact.load(tmp_path / "model").manifest.training
    assert said["cutoff_rows"] == 0
    assert said["event_rows"] == trained.event_rows == report.event_rows
    assert said["quiet_rows"] == trained.quiet_rows == report.quiet_rows


def test_a_period_whose_horizon_is_not_over_is_refused(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="its horizon is not over"):
        replay(
            settings, [events], tmp_path / "out",
            asked("2016-08-01T00:00Z..2016-09-16T00:00Z,event:0.1"),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_the_command_line_takes_kinds_and_periods(
    settings: Settings, events: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = CliRunner().invoke(
        cli.app,
        ["replay", str(events), "-c", str(tmp_path / "stream_scorer.toml"), "--out", str(out),
         "--cutoffs", f"{PERIOD},quiet:0.2", "--seed", "4"],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "of them quiet" in ran.stdout
    replay(settings, [events], tmp_path / "again", asked(f"{PERIOD},quiet:0.2"))
    assert rows_by_moment(out) == rows_by_moment(tmp_path / "again")
