"""`--sample-customers`: rows of a share of customers are those that the whole replay gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.core.customer_sample import CustomerSample
from stream_scorer.errors import InputError, SnapshotError
from stream_scorer.io.files.events import write_events
from stream_scorer.io.files.labelled_snapshots import open_labelled
from stream_scorer.io.files.snapshot_manifest import (
    MANIFEST_FILE,
    manifest_content,
    read_manifest,
)
from stream_scorer.io.files.snapshots import Snapshot
from stream_scorer.jobs import train as train_job
from stream_scorer.jobs.evaluate import evaluate
from stream_scorer.jobs.replay import replay
from stream_scorer.past.rows_asked import RowsAsked
from stream_scorer.settings.tree import Settings
from tests.jobs.trend_shop import CONFIG, CUTOFFS, DAY, LATER, START, event_rows

QUARTER = CustomerSample.parse("1/4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events in two files, out of order, the last ones of a customer outside the sample."""
    folder = tmp_path_factory.mktemp("sampled")
    (folder / "stream_scorer.toml").write_text(CONFIG)
    rows = sorted(event_rows(), key=lambda row: row["event_id"])
    others = [i for i in map("x{}".format, range(99)) if not QUARTER.contains([i])[0]]
    for number, at in enumerate((START - DAY, START + 125 * DAY)):
        rows.append({**rows[0], "event_id": f"end {number}", "customer_id": others[number],
                     "occurred_at": at})  # fmt: skip
    (folder / "events").mkdir()
    write_events(folder / "events" / "1.avro", rows[:1500])
    write_events(folder / "events" / "2.parquet", rows[1500:])
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return Settings.load(folder / "stream_scorer.toml", environment={})


def rows_of(path: Path) -> dict[tuple[str, int], tuple[bytes, ...]]:
    """The bytes of every row but for its weight."""
    found = dict[tuple[str, int], tuple[bytes, ...]]()
    for shard in Snapshot.open(path).shards():
        at, labels = shard.matrix.indptr, shard.label_indptr
        for i, customer in enumerate(shard.customer_ids):
            row, said = slice(at[i], at[i + 1]), slice(labels[i], labels[i + 1])
            found[(customer, int(shard.as_of_ms[i]))] = (
                shard.matrix.indices[row].tobytes(), shard.matrix.data[row].tobytes(),
                shard.label_category[said].tobytes(), shard.label_class[said].tobytes(),
            )  # fmt: skip
    return found


def asked(words: str) -> RowsAsked:
    return RowsAsked.parse(
        words, "cutoffs", 3, every_ms=DAY, horizon_ms=5 * DAY, moment_ms=lambda day: int(day) * DAY
    )


@pytest.mark.parametrize(
    "rows",
    [
        RowsAsked.of(CUTOFFS),
        asked("event:1/3,quiet:1/9"),  # between the first and the last event of everybody
        asked("17030,17060,event:1/2,quiet:1/4"),
    ],
    ids=["cut-offs", "the whole log", "all kinds"],
)
def test_rows_are_bit_for_bit_those_of_the_whole_replay(
    settings: Settings, folder: Path, tmp_path: Path, rows: RowsAsked
) -> None:
    whole = replay(settings, [folder / "events"], tmp_path / "all", rows)
    some = replay(settings.sampling(QUARTER), [folder / "events"], tmp_path / "some", rows)
    every = rows_of(tmp_path / "all")
    mine = {key: row for key, row in every.items() if QUARTER.contains([key[0]])[0]}
    assert rows_of(tmp_path / "some") == mine
    assert 50 < len(mine) < len(every) / 2
    found, other = Snapshot.open(tmp_path / "some"), Snapshot.open(tmp_path / "all")
    assert (some.sample_customers, whole.sample_customers) == ("1/4", None)
    assert some.events + some.sampled_out_events == whole.events == 4002
    assert whole.sampled_out_events == 0
    assert found.manifest["sample_customers"] == "1/4"
    assert other.manifest["sample_customers"] is None
    assert found.info.customer_sample == QUARTER
    # The shop's trend is everybody's.
    trend, of_all = found.trend, other.trend
    assert trend is not None
    assert of_all is not None
    assert trend.differs_from(of_all) is None
    # Weights of kinds stand in the same proportion; in either snapshot their mean is 1.
    ours, theirs = (s.info.row_moments.weights for s in (found, other))  # type: ignore[union-attr]
    kinds = [k for k in range(3) if ours[k]]
    np.testing.assert_allclose(
        np.array(ours)[kinds] / ours[kinds[0]], np.array(theirs)[kinds] / theirs[kinds[0]]
    )


def test_a_sample_that_nobody_is_in_says_so(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    few = settings.sampling(CustomerSample.parse("1/100000"))
    words = "--sample-customers: '1/100000': none of the customers of these 4,002 events"
    with pytest.raises(InputError, match=words):
        replay(few, [folder / "events"], tmp_path / "out", RowsAsked.of(CUTOFFS))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def trained(settings: Settings, folder: Path) -> tuple[train_job.Trained, Path]:
    """A model of a quarter of the customers at some moments, and half of them at later ones."""
    half = CustomerSample.parse("1/2")
    replay(settings.sampling(QUARTER), [folder / "events"], folder / "quarter", CUTOFFS[:4])
    replay(settings.sampling(half), [folder / "events"], folder / "half", CUTOFFS[4:])
    replay(settings.sampling(half), [folder / "events"], folder / "later", LATER)
    out = folder / "model"
    done = train_job.train(
        settings, [folder / "quarter", folder / "half"], out, validation=[folder / "later"]
    )
    return done, out


def test_samples_of_different_shares_weigh_by_how_many_customers_they_stand_for(
    settings: Settings, folder: Path, trained: Any
) -> None:
    paths = [folder / "quarter", folder / "half"]
    fingerprint, rule = settings.feature_space().fingerprint, settings.label_rule()
    shards = open_labelled(paths, fingerprint, rule, "")
    quarter, half = (float(rows.weight[0]) for rows in shards)
    assert quarter == pytest.approx(2 * half, rel=1e-6)
    assert sum(rows.weight.sum() for rows in shards) == pytest.approx(
        sum(s.rows for s in shards.snapshots)
    )
    (alone,) = open_labelled(paths[:1], fingerprint, rule, "")
    assert (alone.weight == 1).all()
    card = json.loads((trained[1] / "card.json").read_text())
    assert [s["sample_customers"] for s in card["training"]["sources"]] == ["1/4", "1/2"]
    assert card["training"]["weight"] == pytest.approx(card["training"]["rows"])


def test_train_evaluate_and_card_say_that_rows_are_of_a_sample(folder: Path, trained: Any) -> None:
    done, model = trained
    assert done.samples == {str(folder / "quarter"): "1/4", str(folder / "half"): "1/2"}
    words = "\n".join(train_job.in_words(done))
    assert "quarter: rows of 1/4 of customers" in words
    assert "training.min_customers: 1 of them are about 4 of all" in words
    page = (model / "card.html").read_text()
    for words in (
        "The training rows are of a sample of customers, 1/2 and 1/4 of them",
        "Rows weigh by how many customers they stand for.",
        "The validation rows are of a sample of customers, 1/2 of them",
    ):
        assert words in page
    found = evaluate(model, [folder / "later"])
    assert any("later: rows of 1/2 of customers" in note for note in found.notes)


@pytest.mark.parametrize("share", ["2/8", "1/0", 64, "x"])
def test_a_manifest_with_a_share_that_is_none_is_refused(
    folder: Path, trained: Any, tmp_path: Path, share: object
) -> None:
    manifest, _ = read_manifest(folder / "quarter")
    (tmp_path / MANIFEST_FILE).write_bytes(
        manifest_content({**manifest, "sample_customers": share})
    )
    with pytest.raises(SnapshotError, match="contradicts itself"):
        Snapshot(tmp_path, *read_manifest(tmp_path))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def test_the_command_line_takes_a_share(folder: Path, tmp_path: Path) -> None:
    config = ["-c", str(folder / "stream_scorer.toml"), "--out", str(tmp_path / "out")]
    events = str(folder / "events")
    moment = ["--cutoffs", "2016-09-15T00:00Z"]
    found = run("replay", events, *config, *moment, "--sample-customers", "2/8")
    assert found.exit_code == 0, found.output
    assert "of 1/4 of customers" in found.output
    for arguments, words in (
        ([*config, "--sample-customers", "1/4"], "give --cutoffs and --out too"),
        (["-c", config[1], "--into", "n", "--sample-customers", "1/4"], "give --cutoffs and --out"),
        ([*config, *moment, "--sample-customers", "0.25"], "such as 1/64"),
    ):
        found = run("replay", events, *arguments)
        assert found.exit_code == 2
        assert words in " ".join(found.output.split())
