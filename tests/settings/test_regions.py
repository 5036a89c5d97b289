"""Regions of one config: what is laid over what, which is chosen, and what two must not share."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_scorer import cli
from stream_scorer.errors import ConfigError
from stream_scorer.settings.tree import Settings

SHARED = "[batch]\nmax_events = 10\nmax_age_ms = 20\n[vocabularies]\ncategory_id = ['tea', 'jam']\n"


def of_region(name: str) -> str:
    topics = "".join(f"{t} = '{name}-{t}'\n" for t in ("input_topic", "output_topic"))
    return (
        f"[regions.{name}.store]\nnamespace = '{name}'\n[regions.{name}.model]\npath = '{name}'\n"
        f"[regions.{name}.kafka]\ngroup_id = '{name}'\ntransactional_id = '{name}'\n"
        f"dead_letter_topic = '{name}-dead'\n{topics}"
    )


TWO = SHARED + of_region("de") + of_region("fr") + "[regions.fr.batch]\nmax_events = 11\n"


def load(tmp_path: Path, text: str, region: str = "", **environment: str) -> Settings:
    path = tmp_path / "scorer.toml"
    path.write_text(text)
    variables = {f"STREAM_SCORER__{name}": value for name, value in environment.items()}
    return Settings.load(path, environment={"STREAM_SCORER_REGION": region, **variables})


def test_a_region_is_laid_over_the_shared_part(tmp_path: Path) -> None:
    lists = TWO + "[regions.fr.vocabularies]\ncategory_id = ['pain']\n"
    de, fr = load(tmp_path, lists, "de"), load(tmp_path, lists, "fr")
    assert (de.region, de.batch.max_events, de.batch.max_age_ms) == ("de", 10, 20)
    assert (fr.region, fr.batch.max_events, fr.batch.max_age_ms) == ("fr", 11, 20)
    assert de.vocabularies["category_id"] == ("tea", "jam")
    assert fr.vocabularies["category_id"] == ("pain",)
    assert (de.store.namespace, de.model.path) == ("de", tmp_path / "de")
    assert fr.kafka.input_topic == "fr-input_topic"
    assert load(tmp_path, SHARED).region == ""


def test_environment_sets_one_region_or_all(tmp_path: Path) -> None:
    variables = {"BATCH__MAX_EVENTS": "5", "REGIONS__DE__BATCH__MAX_EVENTS": "6"}
    assert load(tmp_path, TWO, "de", **variables).batch.max_events == 6
    assert load(tmp_path, TWO, "fr", **variables).batch.max_events == 5


@pytest.mark.parametrize(
    ("text", "region", "environment", "expected"),
    [
        (TWO, "", {}, r"--region: \(none\): choose one region of the config: de, fr"),
        (TWO, "it", {}, r"--region: 'it': choose one region of the config: de, fr"),
        (SHARED, "de", {}, r"--region: 'de': the config declares no regions"),
        (TWO + of_region("DE"), "de", {}, r"regions: 'DE': a region's name has 1 to 32"),
        (SHARED + of_region("a__b"), "a__b", {}, r"regions: 'a__b': a region's name"),
        ("regions = 3", "de", {}, r"regions: \(no table\): write a table for each"),
        ("[regions]\nde = 3", "de", {}, r"regions.de: \(no table\): write a table \[regions.de"),
        (TWO, "de", {"REGIONS__IT__BATCH__MAX_EVENTS": "1"}, r"regions: 'it': the environment"),
        (TWO, "de", {"STORE__NAMESPACE": "x"}, r"store.namespace: 'x': regions de and fr share it"),
        (TWO.replace("'fr-dead'", "'de-dead'"), "fr", {}, r"kafka.dead_letter_topic: 'de-dead': r"),
        (TWO.replace("path = 'fr'", "path = 'de'"), "fr", {}, r"model.path: 'de': regions de and"),
        (TWO + "[regions.de.bach]\n", "de", {}, r"bach: .*: .*did you mean batch\?"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, text: str, region: str, environment: dict[str, str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load(tmp_path, text, region, **environment)
    assert len(str(caught.value).splitlines()) == 1


def test_one_namespace_on_two_servers_is_not_shared(tmp_path: Path) -> None:
    text = TWO.replace("namespace = 'fr'", "namespace = 'de'")
    text += "[regions.fr.redis]\nurl = 'redis://127.0.0.1:6390/0'\n"
    assert load(tmp_path, text, "fr").store.namespace == "de"


def test_every_verb_with_a_config_takes_a_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAM_SCORER_REGION", raising=False)
    path = tmp_path / "scorer.toml"
    feature = "[[features]]\nname = 'views'\non = ['view']\n"
    path.write_text(TWO + feature)
    words = ["features", "-c", str(path)]
    assert CliRunner().invoke(cli.app, [*words, "--region", "de"]).exit_code == 0
    refused = CliRunner().invoke(cli.app, words)  # also: the choice before is not remembered
    assert refused.exit_code == 2
    assert "choose one region of the config: de, fr" in refused.output
    variable = {"STREAM_SCORER_REGION": "fr"}
    assert CliRunner().invoke(cli.app, words, env=variable).exit_code == 0
