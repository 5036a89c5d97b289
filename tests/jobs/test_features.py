"""Every column is listed once, with words that are its own."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from stream_scorer.cli import app
from stream_scorer.errors import InputError
from stream_scorer.io.files.feature_columns import SCHEMA
from stream_scorer.jobs.features import features, in_words
from stream_scorer.settings.tree import Settings

CONFIG = """
[labels]
by = "attributes.shop"
[vocabularies]
category_id = ["soup", "bread"]
"attributes.shop" = ["north", "south", "west"]
[[features]]
name = "bought"
by = ["category_id", "attributes.shop"]
half_lives = ["2d", "inf"]
transform = "log1p"
[[features]]
name = "viewed"
by = ["product_id"]
buckets = 4
half_lives = ["1d"]
scale = 0.5
[[features]]
name = "hour"
kind = "calendar"
by = ["hour_of_day"]
[[features]]
name = "trend"
kind = "trend"
by = ["attributes.shop"]
half_lives = ["2d", "14d"]
"""


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    path = tmp_path / "scorer.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def loaded(declared: Path) -> Settings:
    return Settings.load(declared, environment={})


def test_every_column_is_listed_with_its_words(loaded: Settings) -> None:
    found = features(loaded)
    space = loaded.feature_space()
    assert [c.column for c in found.columns] == list(range(2 * 6 + 4 + 24 + 1))
    assert tuple(c.name for c in found.columns) == space.names()
    assert found.fingerprint == space.fingerprint_hex
    assert found.columns[10].as_json() == {
        "column": 10,
        "name": "bought@inf[category_id=bread,attributes.shop=south]",
        "feature": "bought",
        "kind": "decayed",
        "by": [
            {"field": "category_id", "value": "bread"},
            {"field": "attributes.shop", "value": "south"},
        ],
        "half_life": "inf",
        "half_life_ms": None,
        "transform": "log1p",
        "scale": 1.0,
        "bucket": None,
    }
    hashed = found.columns[14]
    assert (hashed.by, hashed.bucket, hashed.scale, hashed.half_life_ms) == ((), 2, 0.5, 86_400_000)
    assert found.columns[-2].by == (("hour_of_day", "23"),)
    day = found.columns[-1]
    assert (day.name, day.by, day.half_life, day.half_life_ms) == ("trend", (), "2d/14d", None)


def test_one_feature_and_the_first_few(loaded: Settings) -> None:
    assert [c.column for c in features(loaded, "viewed").columns] == [12, 13, 14, 15]
    assert [c.column for c in features(loaded, "viewed", limit=2).columns] == [12, 13]
    with pytest.raises(InputError, match=r"'seen'.*give bought, viewed, hour"):
        features(loaded, "seen")


def test_the_table_has_a_line_for_each_column(loaded: Settings) -> None:
    lines = in_words(features(loaded, "viewed"))
    assert len(lines) == 1 + 4 + 1
    assert lines[1].split() == [
        "12", "viewed[product_id", "in", "bucket", "0]", "decayed", "1d", "none", "0.5",
    ]  # fmt: skip
    assert lines[-1].startswith("4 of 41 columns")


def test_the_parquet_file_says_the_same(loaded: Settings, tmp_path: Path) -> None:
    out = tmp_path / "new" / "columns.parquet"
    found = features(loaded, out=out)
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [c.as_json() for c in found.columns]
    assert [p.name for p in out.parent.iterdir()] == ["columns.parquet"]
    with pytest.raises(InputError, match="already exists"):
        features(loaded, out=out)


def test_the_verb_prints_one_json_object(declared: Path) -> None:
    ran = CliRunner().invoke(app, ["features", "-c", str(declared), "--limit", "3", "--json"])
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert report["width"] == 41
    assert [c["column"] for c in report["columns"]] == [0, 1, 2]


def test_a_feature_that_is_not_declared_is_bad_input(declared: Path) -> None:
    ran = CliRunner().invoke(app, ["features", "-c", str(declared), "--feature", "seen"])
    assert ran.exit_code == 2
