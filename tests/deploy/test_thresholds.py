"""The thresholds of the alerts: one file for those without Helm, the same as values of the chart,
and each of them moves its alert."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from json import dumps, loads
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered_chart import CHART, ROOT, objects_of, only, render_command

from stream_scorer.io.telemetry.metric_list import METRICS

sys.path.append(str(ROOT / "deploy" / "prometheus"))
import render_alerts

pytestmark = pytest.mark.deploy

TEXTS = {"job", "group", "runbook"}
DEFAULTS = render_alerts.read(render_alerts.THRESHOLDS)
TEMPLATE = render_alerts.TEMPLATE.read_text(encoding="utf-8")
CHANGED = {
    name: {"predicted_times": 3, "log_loss_times": 1.5}.get(name, 2 * value)
    for name, value in DEFAULTS.items()
    if name not in TEXTS
}
# The series of each threshold's alert: between the default and its double, and beyond both. Each is
# (name with labels, values between, values beyond), and is looked at after so many minutes.
DAY, SIX_HOURS = 1560, 361
APPLIED = ('events_total{outcome="applied"', "0+1000x1600", "0+1000x1600")
READ = ("batch_records_sum{", "0+1000x60", "0+1000x60")
BUSY = ("batch_records_sum{", "0+60000x60", "0+60000x60")
UNKNOWN = 'ignored_values_total{field="category_id",problem="unknown_word"'
DAYS_SCORES = 'live_scores{model_version="v1",delay="1d"'
PREDICTED = 'live_predicted_over_seen{model_version="v1",delay="1d"'
RATIO = 'live_interval{model_version="v1",delay="1d",measure="predicted_over_seen",bound='
LOSS_LOW = 'live_interval{model_version="v1",delay="horizon",measure="log_loss",bound="low"'
Series = tuple[str, str, str]
MOVED: dict[str, tuple[str, int, list[Series]]] = {
    "fewer_members_lag_seconds": ("MembersFewer", 50, [
        ("members{", "3x30 2x30", "3x30 2x30"),
        ('consumer_lag_seconds{topic="t",partition="0"', "90x60", "200x60"),
    ]),
    "rebalances": ("RebalanceStorm", 40, [
        ('rebalances_total{kind="assigned"', "0+0.6x60", "0+1x60"),
    ]),
    "events_wait_seconds": ("EventsWait", 20, [
        ('consumer_lag_seconds{topic="t",partition="0"', "400x60", "700x60"),
    ]),
    "backlog_seconds": ("LagGrows", 50, [
        ('consumer_lag{topic="t",partition="0"', "400000+1x60", "700000+1x60"), BUSY,
    ]),
    "catch_up_hours": ("CatchUpSlow", 60, [
        ('consumer_lag{topic="t",partition="0"', "25200000-60000x60", "39600000-60000x60"), BUSY,
    ]),
    "propensity_seconds": ("PropensitiesLate", 40, [
        ('event_to_propensity_seconds_bucket{le="5"', "0+980x60", "0+0x60"),
        ('event_to_propensity_seconds_bucket{le="10"', "0+1000x60", "0+980x60"),
        ('event_to_propensity_seconds_bucket{le="30"', "0+1000x60", "0+1000x60"),
        ('event_to_propensity_seconds_bucket{le="+Inf"', "0+1000x60", "0+1000x60"),
    ]),
    "dead_letters_share": ("DeadLetters", 40, [
        ('dead_letters_total{reason="undecodable"', "0+15x60", "0+30x60"), READ,
    ]),
    "near_halt_share": ("DeadLettersNearHalt", 40, [
        ('dead_letters_total{reason="undecodable"', "0+350x60", "0+700x60"), READ,
    ]),
    "clock_skew_share": ("ClockSkew", 40, [
        ('dead_letters_total{reason="time_in_future"', "0+1.5x60", "0+3x60"), READ,
    ]),
    "unknown_words_share": ("UnknownWords", 60, [(UNKNOWN, "0+300x60", "0+500x60"), APPLIED]),
    "more_unknown_words_share": ("UnknownWords", DAY, [
        (UNKNOWN, "0+1x1499 1500+30x60", "0+1x1499 1500+50x60"), APPLIED,
    ]),
    "more_unknown_words_times": ("UnknownWords", DAY, [
        (UNKNOWN, "0+12x1499 18000+50x60", "0+5x1499 7500+50x60"), APPLIED,
    ]),
    "not_numbers_share": ("ValuesNotNumbers", 60, [
        ('ignored_values_total{field="value",problem="not_a_number"', "0+15x60", "0+30x60"),
        APPLIED,
    ]),
    "foreign_keys": ("ForeignKeys", 40, [("foreign_keys_total{", "0+1x60", "0+2x60")]),
    "split_customers": ("SplitCustomers", 40, [("split_customers_total{", "0+1x60", "0+2x60")]),
    "score_age_days": ("ScoresOld", 62, [("oldest_score_seconds{", "259200x70", "432000x70")]),
    "trend_age_hours": ("TrendStale", 62, [("trend_age_seconds{", "129600x70", "216000x70")]),
    "feature_psi": ("FeaturesDrift", 122, [('feature_psi{block="b"', "0.3x130", "0.6x130")]),
    "score_psi": ("ScoresDrift", 122, [('score_psi{of="all"', "0.3x130", "0.6x130")]),
    "event_psi": ("EventMixDrifts", 122, [("event_psi{", "0.3x130", "0.6x130")]),
    "predicted_times": ("PredictionsOff", SIX_HOURS, [
        (PREDICTED, "0.5x400", "0.2x400"), (DAYS_SCORES, "5000x400", "5000x400"),
        (RATIO + '"high"', "0.9x400", "0.9x400"),
    ]),
    "predicted_scores": ("PredictionsOff", SIX_HOURS, [
        (PREDICTED, "5x400", "5x400"), (DAYS_SCORES, "1500x400", "3000x400"),
        (RATIO + '"low"', "1.2x400", "1.2x400"),
    ]),
    "log_loss_times": ("LogLossWorse", 1810, [
        ('live_log_loss{model_version="v1"', "0.15x1439 0.18x400", "0.15x1439 0.25x400"),
        (LOSS_LOW, "0.15x1439 0.17x400", "0.15x1439 0.17x400"),
    ]),
}  # fmt: skip


def cases(jobs: list[str]) -> list[dict[str, Any]]:
    """promtool's cases: of each threshold its alert fires for these jobs, and for no other."""
    found = []
    for name, (alert, minutes, series) in MOVED.items():
        given = [
            {"series": f'stream_scorer_{start}{"" if start[-1] == "{" else ","}job="{job}"}}',
             "values": values[job == "beyond"]}
            for start, *values in series
            for job in ("between", "beyond")
        ]  # fmt: skip
        firing = f'count by (job) (ALERTS{{alertstate="firing",alertname="StreamScorer{alert}"}})'
        wanted = [{"labels": f'{{job="{job}"}}', "value": 1} for job in jobs]
        test = {"expr": firing, "eval_time": f"{minutes}m", "exp_samples": wanted}
        found.append({"name": name, "interval": "1m", "input_series": given,
                      "promql_expr_test": [test]})  # fmt: skip
    return found


def test_there_is_a_case_for_every_threshold() -> None:
    assert MOVED.keys() == CHANGED.keys() == DEFAULTS.keys() - TEXTS


@pytest.mark.parametrize(
    ("changed", "jobs"),
    [({}, ["between", "beyond"]), (CHANGED, ["beyond"])],
    ids=["as they are", "changed"],
)
def test_a_changed_threshold_moves_its_alert(
    call: Callable[..., Any], tmp_path: Path, changed: dict[str, Any], jobs: list[str]
) -> None:
    own = tmp_path / "thresholds.toml"
    own.write_text("".join(f"{name} = {value}\n" for name, value in changed.items()))
    assert render_alerts.main([str(own), str(tmp_path / "alerts.yml")]) == 0
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": cases(jobs)}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests))
    call("promtool", "test", "rules", tmp_path / "test.yml")


def test_the_alerts_are_rendered_with_the_thresholds() -> None:
    written = render_alerts.ALERTS.read_text(encoding="utf-8")
    assert render_alerts.rendered(TEMPLATE, DEFAULTS) == written, "run `make manifests`"
    # Each threshold is compared with in an expression, and no mark is left over.
    assert set(re.findall(r"@(\w+)@", TEMPLATE)) == DEFAULTS.keys()
    marked = yaml.safe_load(
        render_alerts.rendered(TEMPLATE, {name: f"<{name}>" for name in DEFAULTS})
    )
    for one in (rule for group in marked["groups"] for rule in group["rules"]):
        in_text = set(re.findall(r"<(\w+)>", str(one.get("annotations", "")))) - TEXTS
        assert in_text <= set(re.findall(r"<(\w+)>", one["expr"])), one.get("alert")


def test_the_charts_thresholds_are_the_same_with_the_same_bounds() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["prometheusRule"]
    chart = {snake(name): value for name, value in values["thresholds"].items()}
    assert chart == {name: value for name, value in DEFAULTS.items() if name not in TEXTS}
    assert values["runbook"] == DEFAULTS["runbook"]
    schema = loads(render_alerts.SCHEMA.read_text(encoding="utf-8"))["properties"]["prometheusRule"]
    for name, bounds in schema["properties"]["thresholds"]["properties"].items():
        assert bounds["minimum"] <= DEFAULTS[snake(name)] <= bounds["maximum"], name
    # At the last bound of a histogram its quantile stays, so a higher threshold would never be met.
    (waits,) = (m for m in METRICS if m.name == "stream_scorer_event_to_propensity_seconds")
    highest = max(bound for bound in waits.buckets if math.isfinite(bound))
    most = schema["properties"]["thresholds"]["properties"]["propensitySeconds"]["maximum"]
    assert most < highest


def test_the_runbook_names_the_thresholds_of_each_alert() -> None:
    runbook = (ROOT / "docs" / "how-to" / "runbook.md").read_text(encoding="utf-8")
    for threshold, (alert, *_) in MOVED.items():
        (section,) = re.findall(rf"^### StreamScorer{alert}$(.*?)^\*\*See", runbook, re.M | re.S)
        assert f"`{threshold}`" in re.findall(r"^Thresholds?: (.*)\.$", section, re.M)[0]


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("event_wait_seconds = 60", "event_wait_seconds: 60: there is no such threshold: see"),
        ("events_wait_seconds = '60'", "events_wait_seconds: '60': give a number from 1 to 604800"),
        ("events_wait_seconds = true", "events_wait_seconds: True: give a number from 1 to"),
        ("feature_psi = 0", "feature_psi: 0: give a number from 0.01 to 100"),
        ("feature_psi = nan", "feature_psi: nan: give a number from"),
        ("propensity_seconds = 20000", "propensity_seconds: 20000: give a number from 0.01 to"),
        ("job = 3", "job: 3: give a text of one line"),
        ("job = ", "it is not TOML: "),
    ],
)
def test_a_wrong_threshold_is_refused_and_nothing_is_written(
    tmp_path: Path, line: str, words: str
) -> None:
    own, alerts = tmp_path / "thresholds.toml", tmp_path / "alerts.yml"
    own.write_text(line)
    command = [sys.executable, ROOT / "deploy" / "prometheus" / "render_alerts.py", own, alerts]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, alerts.exists()) == (2, False)
    assert words in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_file_of_thresholds_that_is_absent_is_said(capsys, tmp_path: Path) -> None:
    assert render_alerts.main([str(tmp_path / "absent.toml")]) == 2
    assert "absent.toml: it can't be read: No such file" in capsys.readouterr().err


def rule(call: Callable[..., Any], *options: str) -> Any:
    """The spec of the PrometheusRule that the chart makes."""
    sets = [
        word for option in ("prometheusRule.enabled=true", *options) for word in ("--set", option)
    ]
    command = render_command(CHART / "ci" / "smallest-values.yaml", *sets)
    return only(objects_of(call("helm", *command).stdout), "PrometheusRule")["spec"]


def test_the_chart_renders_what_the_file_does(call: Callable[..., Any], tmp_path: Path) -> None:
    assert rule(call) == yaml.safe_load(render_alerts.ALERTS.read_text(encoding="utf-8"))
    names = {snake(name): name for name in re.findall(r"\w+", (CHART / "values.yaml").read_text())}
    chosen = {
        "enabled": True,
        "job": "members-.*",
        "runbook": "https://w/r",
        "thresholds": {names[name]: value for name, value in CHANGED.items()},
    }
    # JSON is YAML. Helm's --set takes a number with a point as text.
    own = tmp_path / "values.json"
    own.write_text(dumps({"prometheusRule": chosen}))
    smallest = CHART / "ci" / "smallest-values.yaml"
    printed = call("helm", *render_command(smallest, "--values", str(own))).stdout
    texts = {**DEFAULTS, **CHANGED, "job": "members-.*", "runbook": "https://w/r"}
    rendered = yaml.safe_load(render_alerts.rendered(TEMPLATE, texts))
    assert only(objects_of(printed), "PrometheusRule")["spec"] == rendered


def test_alerts_know_the_members_of_their_release(call: Callable[..., Any]) -> None:
    for options, job in (
        ((), "scorer-stream-scorer"),
        # Under a name without the chart's, and so without what alerts look for by default.
        (("nameOverride=shop",), "scorer-shop"),
        (("fullnameOverride=propensities",), "propensities"),
    ):
        groups = rule(call, "serviceMonitor.enabled=true", *options)["groups"]
        asked = {one["alert"]: one["expr"] for g in groups for one in g["rules"] if "alert" in one}
        assert asked["StreamScorerMemberUnreachable"] == f'up{{job=~"{job}"}} == 0'
        members = f'{{namespace="shop", job="{job}"}}'
        assert asked["StreamScorerAbsent"] == f"absent(stream_scorer_alive{members})"
