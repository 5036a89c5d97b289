"""The alerts: each is about metrics that exist, has a section in the runbook, fires in promtool's
tests where it should, and is silent there where it should be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from queried_names import SCRAPED, wrong_names

from stream_scorer.log_events import LOG_EVENTS

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
CASES = ROOT / "deploy" / "prometheus" / "alerts_test.yml"
RUNBOOK = ROOT / "docs" / "how-to" / "runbook.md"
SEVERITIES = {"page", "ticket", "info"}
ADDED = {*SCRAPED, "namespace"}  # by Prometheus; the namespace by Kubernetes' discovery
PARTS = ("**Means.**", "**See.**", "**Do.**", "**Over.**")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> dict[str, tuple[str, ...]]:
    """The labels of every recorded series, beside those that Prometheus adds; and those of `up`."""
    found: dict[str, tuple[str, ...]] = {"up": ()}
    for rule in rules():
        if "record" in rule:
            labels = re.findall(r"by \(([^)]*)\)", rule["expr"])
            every = {label.strip() for listed in labels for label in listed.split(",")}
            found[rule["record"]] = tuple(sorted(every - {"le"}))
    return found


def sections() -> dict[str, str]:
    """The runbook's text for each alert, by its name."""
    text = RUNBOOK.read_text(encoding="utf-8")
    parts = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)
    return {
        name: re.split(r"^## ", body, flags=re.MULTILINE)[0]
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def fired_at(case: dict[str, Any]) -> list[tuple[str, set[str]]]:
    """The moments of a case of promtool's with the alerts that fire then, in their order."""
    return [
        (test["eval_time"], set(re.findall(r'alertname="(\w+)"', str(test["exp_samples"]))))
        for test in case["promql_expr_test"]
    ]


def test_promtool_finds_nothing_wrong(call: Callable[..., Any]) -> None:
    call("promtool", "check", "rules", RULES)
    call("promtool", "test", "rules", CASES)


def test_every_alert_fires_in_one_case_and_is_silent_in_it_before() -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    seen = set()
    for case in cases:
        silent: set[str] = set(ALERTS)
        for _, firing in fired_at(case):
            seen |= firing & silent
            silent -= firing
            # What has not fired at the first moment was silent then.
        assert fired_at(case)[0][1] == set(), f"{case['name']}: it begins with a moment of silence"
    assert seen == set(ALERTS)


@pytest.mark.parametrize("rule", rules(), ids=lambda r: r.get("alert") or r["record"])
def test_metrics_and_labels_exist(rule: dict[str, Any]) -> None:
    assert wrong_names(rule["expr"], recorded(), ADDED) == []


def test_a_wrong_name_in_a_rule_is_noticed() -> None:
    wrong = 'sum by (namespace, reason) (stream_scorer:dead_letters:share10m{cause="a"})'
    assert wrong_names(wrong, recorded(), ADDED) == [
        "stream_scorer:dead_letters:share10m: ['cause']"
    ]
    assert wrong_names("rate(stream_scorer_gone_total[5m]) > 0", recorded(), ADDED) != []
    assert promql_parser.parse("up == 0") is not None


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("StreamScorer")
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/how-to/runbook.md#{name.lower()}"
    assert annotations["description"].rstrip().endswith((".", "5s."))
    # A number, or what it is about; absence has neither.
    assert "{{ $" in annotations["description"] or name == "StreamScorerAbsent"


def test_labels_that_a_text_names_are_left_by_its_expression() -> None:
    for name, rule in ALERTS.items():
        named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
        if grouped:  # of others all labels are left
            left = {label.strip() for listed in grouped for label in listed.split(",")}
            assert named <= left, name


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    assert list(sections()) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_it_means_how_to_see_it_what_to_do_and_when_it_is_over(
    name: str,
) -> None:
    text = sections()[name]
    places = [text.find(part) for part in PARTS]
    assert -1 not in places, f"{name} lacks one of {PARTS}"
    assert places == sorted(places)
    ends = [*places[1:], len(text)]
    for part, begin, end in zip(PARTS, places, ends, strict=True):
        assert len(text[begin + len(part) : end].split()) >= 3, f"{name}: {part} says nothing"


def test_the_table_says_which_alerts_were_seen_firing_on_a_real_system() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (StreamScorer\w+) \| *(.*?) *\|$", text, flags=re.MULTILINE))
    assert list(rows) == list(ALERTS)
    real = (ROOT / "tests" / "containers" / "test_alerts.py").read_text(encoding="utf-8")
    untried = "not tried on a broken group: "
    assert {name for name, how in rows.items() if not how.startswith(untried)} == set(
        re.findall(r'"(StreamScorer\w+)"', real)
    )
    for name, how in rows.items():
        assert how.removeprefix(untried), f"{name}: how, or why not"


def test_the_log_events_that_the_runbook_names_are_those_of_the_log() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    named = {
        event
        for listed in re.findall(r"^Log events? (.*)\.$", text, flags=re.MULTILINE)
        for event in re.findall(r"`(\w+)`", listed)
    }
    assert len(named) > 10
    assert named <= set(LOG_EVENTS)
