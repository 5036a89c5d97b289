"""What `doctor` tells a shop that begins: no model yet, clocks, versions, retention, members."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.checks.clocks import clock_finding, record_clock_findings
from stream_scorer.checks.finding import Finding
from stream_scorer.checks.kafka import members_finding, retention_findings
from stream_scorer.checks.model import model_findings
from stream_scorer.checks.registry import registry_findings
from stream_scorer.checks.versions import (
    package_findings,
    redis_version_finding,
    version_findings,
)
from stream_scorer.core.drift.reference import reference_of
from stream_scorer.core.events.batch import RecordBatch
from stream_scorer.errors import ArtefactError
from stream_scorer.jobs.doctor import Diagnosis, in_words
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import random_model

SHOP = """
[model]
engine = "native"
[vocabularies]
category_id = ["soup", "bread", "milk", "tea"]
[labels]
horizon = "14d"
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["14d"]
"""
DAY = 86_400_000


def load(tmp_path: Path, text: str = SHOP, **overrides: Any) -> Settings:
    (tmp_path / "shop.toml").write_text(text)
    return Settings.load(tmp_path / "shop.toml", overrides=overrides, environment={})


def wrong(findings: Any) -> list[Finding]:
    return [f for f in findings if not f.ok]


def test_a_shop_without_a_model_is_told_how_to_make_the_first_one(tmp_path: Path) -> None:
    settings = load(tmp_path)
    (found,) = model_findings(settings)
    assert found.found == f"there is none at {tmp_path / 'model'} yet"
    steps = str(found.remedy)
    verbs = ("publish", "replay EVENTS", "--out validation", "train train", "models activate")
    positions = [steps.index(verb) for verb in verbs]
    assert positions == sorted(positions)
    assert "at least 14d before the newest event" in steps
    lines = in_words(Diagnosis(False, (found,)))
    assert len(lines) == 2 + len(steps.splitlines())
    assert lines[-1].startswith("1 findings: 1 to put right")
    with pytest.raises(ArtefactError, match="`stream-scorer doctor` says how"):
        artefact.load(settings.model.path)


def test_a_folder_that_is_no_whole_model_is_not_taken_for_a_first_shop(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (found,) = model_findings(load(tmp_path))
    assert found.found.endswith("model")
    assert "manifest.json" in str(found.remedy)
    assert "publish" not in str(found.remedy)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"horizon": "7d"}, "trained for 14, the config has 7"),
        ({"actions": [["view"], ["purchase"]]}, "trained for purchase, the config has view <"),
    ],
)
def test_a_model_of_other_labels_than_the_config_is_found(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    artefact.save(random_model(load(tmp_path), 1), tmp_path / "model")
    assert not wrong(model_findings(load(tmp_path)))
    (found,) = wrong(model_findings(load(tmp_path, labels=changes)))
    assert said in found.found
    assert "[labels]" in str(found.remedy)


@pytest.mark.parametrize(
    ("theirs_ms", "ok", "said"),
    [
        (10_500, True, "agrees"),
        (5_100, True, "agrees"),
        (400_000, False, "389 s ahead of"),
        (1_000, False, "9 s behind"),
    ],
)
def test_a_clock_counts_as_wrong_beyond_five_seconds_and_the_time_of_the_question(
    theirs_ms: int, ok: bool, said: str
) -> None:
    found = clock_finding("clock of redis", theirs_ms, before_ms=10_000, after_ms=11_000)
    assert found.ok == ok
    assert said in found.found


def test_records_of_the_future_are_found() -> None:
    times = np.array([1_000, 2_000, 90_000], np.int64)
    records = RecordBatch(
        [b""] * 3, [None] * 3, [("events", 0)], np.zeros(3, np.int32), np.arange(3), times
    )
    (found,) = record_clock_findings(records, 2_500, "records of events")
    assert found.found.startswith("1 of the newest 3 have a time of the record in the future")
    assert "88 s" in found.found
    assert not list(record_clock_findings(records, 90_000, "records of events"))


@pytest.mark.parametrize(
    ("versions", "remedy"),
    [
        ({"mxnet": "1.9.1", "numpy": "2.1.0"}, "numpy>=1.26.4,<2"),
        ({"numpy": "1.26.4", "pyarrow": "26.0.0"}, "pyarrow>=16,<26"),
        ({"confluent-kafka": "2.14.0"}, "confluent-kafka>=2.15"),
    ],
)
def test_packages_that_are_known_to_clash_are_found(versions: dict[str, str], remedy: str) -> None:
    (found,) = package_findings(versions, "3.11.7")
    assert not found.ok
    assert remedy in str(found.remedy)


def test_packages_that_work_together_are_listed() -> None:
    fit = {"mxnet": "1.9.1", "numpy": "1.26.4", "pyarrow": "25.0.1", "confluent-kafka": "2.16.1"}
    (found,) = package_findings(fit, "3.11.7")
    assert found.ok
    assert "numpy 1.26.4" in found.found
    without = {"numpy": "2.1.0", "pyarrow": "26.0.0"}
    assert not wrong(package_findings(without, "3.13.0"))
    assert not wrong(version_findings())


@pytest.mark.parametrize(
    ("product", "old"),
    [("Redis 5.0.7", True), ("Redis 6.2.14", False), ("Redis 7.0.15", False),
     ("Valkey 9.0.0", False), ("Redis", False), ("", False)],
)  # fmt: skip
def test_a_redis_older_than_those_tested_is_warned_of(product: str, old: bool) -> None:
    found = redis_version_finding(product)
    assert (found is not None) == old
    assert found is None or (found.ok and found.warning)


def test_members_beyond_the_partitions_have_nothing_to_do() -> None:
    assert members_finding("g", 4, 4) == Finding("members of group g", "4 for 4 partitions")
    assert members_finding("g", 0, 4).found == "none runs, for 4 partitions"
    found = members_finding("g", 6, 4)
    assert found.warning
    assert "2 of them have nothing to do" in found.found
    assert "at most 4" in str(found.remedy)


@pytest.mark.parametrize(
    ("retention", "lives_days", "said"),
    [
        ("", 400, []),
        ("", 0, []),
        ("60d", 60, []),
        ("20d", 20, ["labels need the events of a horizon"]),
        ("60d", 400, ["what Redis loses of before"]),
        ("60d", 0, ["records in Redis live for ever"]),
        ("", 7, ["forgotten before their scores are due"]),
    ],
)
def test_retention_is_held_against_horizon_and_time_to_live(
    tmp_path: Path, retention: str, lives_days: int, said: list[str]
) -> None:
    kafka = {"input_retention": retention} if retention else {}
    settings = load(tmp_path, kafka=kafka, store={"time_to_live_seconds": lives_days * DAY // 1000})
    found = list(retention_findings(settings))
    assert [any(words in f.found for f in found) for words in said] == [True] * len(said)
    assert len(found) == len(said)
    assert all(f.ok and f.warning for f in found)


def test_without_a_registry_nothing_is_asked_and_one_that_is_away_is_one_finding(
    tmp_path: Path,
) -> None:
    assert not list(registry_findings(load(tmp_path)))
    away = load(tmp_path, schema_registry={"url": "http://127.0.0.1:1"})
    (found,) = registry_findings(away)
    assert not found.ok
    assert found.remedy


def test_the_verb_ends_with_status_1_and_its_json_has_every_remedy(tmp_path: Path) -> None:
    text = SHOP + '[kafka]\nbootstrap_servers = "127.0.0.1:1"\n[redis]\n'
    (tmp_path / "shop.toml").write_text(text + 'url = "redis://127.0.0.1:1/0"\n')
    ran = CliRunner().invoke(cli.app, ["doctor", "-c", str(tmp_path / "shop.toml"), "--json"])
    assert ran.exit_code == 1
    found = json.loads(ran.stdout)
    assert found["ok"] is False
    problems = {f["check"]: f["remedy"] for f in found["findings"] if not f["ok"]}
    assert {"kafka", "redis", "model"} <= set(problems)
    assert all(problems.values())


def test_a_warning_is_no_problem_and_is_marked_in_the_json() -> None:
    note = Finding("retention", "short", "raise it", warning=True)
    assert note.as_json() == {
        "check": "retention", "ok": True, "found": "short", "remedy": "raise it", "warning": True,
    }  # fmt: skip
    lines = in_words(Diagnosis(True, (note, replace(note, warning=False, remedy=None))))
    assert lines[0].startswith("note ")
    assert lines[-1] == "2 findings: nothing is wrong"


@pytest.mark.parametrize(
    ("rows_of", "one_in", "warning", "said"),
    [
        (None, 16, True, "the model has no reference.json"),
        (None, 0, False, ""),
        ("event", 16, False, "30 rows, scores of validation"),
        ("all", 16, True, "shown and not judged"),
    ],
)
def test_a_model_that_drift_can_say_nothing_of_is_warned_of(
    tmp_path: Path, rows_of: str | None, one_in: int, warning: bool, said: str
) -> None:
    settings = load(tmp_path, drift={"one_in": one_in})
    reference = None
    if rows_of is not None:
        space, ones = settings.feature_space(), np.ones(30, np.float32)
        matrix = sparse.random(30, space.width, 0.5, "csr", np.float32, 1)
        p = np.full((30, 4), 0.1, np.float32)
        reference = reference_of(space, (matrix, ones, rows_of), (p, ones, rows_of, "validation"))
    artefact.save(random_model(settings, 3), settings.model.path, reference=reference)
    found = [f for f in model_findings(settings) if f.check == "reference of drift"]
    assert [f.warning for f in found] == [warning] * bool(said)
    assert [said in f.found for f in found] == [True] * bool(said)
    assert all(f.ok for f in found)
    assert all("train" in str(f.remedy) for f in found if warning)


def test_an_altered_reference_is_wrong(tmp_path: Path) -> None:
    settings = load(tmp_path)
    space, ones = settings.feature_space(), np.ones(30, np.float32)
    matrix = sparse.random(30, space.width, 0.5, "csr", np.float32, 1)
    p = np.full((30, 4), 0.1, np.float32)
    reference = reference_of(space, (matrix, ones, "event"), (p, ones, "event", "validation"))
    artefact.save(random_model(settings, 3), settings.model.path, reference=reference)
    Path(str(settings.model.path / artefact.REFERENCE_FILE)).write_text("{}")
    (found,) = wrong(model_findings(settings))
    assert found.check == "reference of drift"
    assert found.remedy
