"""The dashboards: generated from their programs, with metrics and labels that exist, and queries
that a real Prometheus answers with data."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from every_metric import Exposed
from queried_names import SCRAPED, selectors, wrong_names

pytestmark = pytest.mark.deploy

GRAFANA = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
START_SECONDS = 30

Panel = dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def panels(path: Path) -> list[Panel]:
    return [panel for panel in read(path)["panels"] if panel["type"] != "row"]


def queries(path: Path) -> list[str]:
    """Every expression of a dashboard, as Prometheus gets it."""
    found = [target["expr"] for panel in panels(path) for target in panel["targets"]]
    found += [a["expr"] for a in read(path)["annotations"]["list"]]
    return [as_sent(expression) for expression in found]


def as_sent(expression: str) -> str:
    """The expression with Grafana's variables replaced."""
    for name, value in (("$__rate_interval", "10s"), ("$job", ".*"), ("$instance", ".*")):
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def test_the_files_are_what_the_programs_write(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "generate.py", tmp_path], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in DASHBOARDS]
    for path in DASHBOARDS:
        remedy = "run `make manifests`"
        assert (tmp_path / path.name).read_text() == path.read_text(), remedy


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_metrics_and_labels_exist(path: Path) -> None:
    assert len(queries(path)) > 10
    for expression in queries(path):
        assert wrong_names(expression) == [], expression


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("sum(stream_scorer_lag)", ["stream_scorer_lag"]),
        ('stream_scorer_ready{member="a"}', ["stream_scorer_ready: ['member']"]),
        (
            "sum by (reason) (rate(stream_scorer_events_total[5m]))",
            ["stream_scorer_events_total by ['reason']"],
        ),
        ("sum by (outcome) (rate(stream_scorer_events_total[5m])) > 1", []),
    ],
)
def test_a_wrong_name_is_noticed(expression: str, wrong: list[str]) -> None:
    assert wrong_names(expression) == wrong


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_is_over_the_chosen_members(path: Path) -> None:
    for panel in panels(path):
        for target in panel["targets"]:
            parsed = promql_parser.parse(target["expr"].replace("$__rate_interval", "1m"))
            for selector in selectors(parsed):
                chosen = {matcher.name for matcher in selector.matchers.matchers}
                assert chosen >= SCRAPED, target["expr"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_side_by_side_and_say_what_they_show(path: Path) -> None:
    covered = set()
    titles = [panel["title"] for panel in read(path)["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in read(path)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in (
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ):
            assert cell not in covered, panel["title"]
            covered.add(cell)
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        names = [target["refId"] for target in panel["targets"]]
        assert len(set(names)) == len(names) > 0, panel["title"]
    # No hole: each row of panels is as wide as the page.
    for y in {y for _, y in covered}:
        assert len({x for x, at in covered if at == y}) == 24, f"{path.name}: a hole at y={y}"


def test_the_dashboards_link_to_each_other() -> None:
    uids = {read(path)["uid"] for path in DASHBOARDS}
    for path in DASHBOARDS:
        (link,) = read(path)["links"]
        assert link["url"].removeprefix("/d/") in uids - {read(path)["uid"]}


@pytest.fixture(scope="module")
def prometheus(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """ask(path, **parameters) -> the data that a Prometheus answers, which read every series."""
    folder = tmp_path_factory.mktemp("prometheus")
    with Exposed() as exposed, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"
            "scrape_configs:\n"
            "  - job_name: stream-scorer\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{exposed.port}']}}]\n"
        )
        log = (folder / "log").open("w")
        process = subprocess.Popen(
            [tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={address}"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip

        def ask(path: str, **parameters: str) -> Any:
            url = f"http://{address}{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]

        try:
            deadline = time.monotonic() + START_SECONDS
            # Rates need several values of each series.
            while exposed.scrapes < 5 and process.poll() is None:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield ask
        finally:
            process.terminate()
            process.wait()
            log.close()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_real_prometheus_answers_every_query_with_data(prometheus, path: Path) -> None:
    for panel in panels(path):
        for target in panel["targets"]:
            found = prometheus("/api/v1/query", query=as_sent(target["expr"]))["result"]
            assert found, f"{panel['title']}: no data for {target['expr']}"
            for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
                assert all(label in series["metric"] for series in found), panel["title"]
            # Lines of one legend could not be told apart.
            legends = [
                re.sub(r"{{(\w+)}}", lambda m: series["metric"][m[1]], target["legendFormat"])  # noqa: B023
                for series in found
                if panel["type"] == "timeseries"
            ]
            assert len(set(legends)) == len(legends), panel["title"]
    for annotation in read(path)["annotations"]["list"]:
        prometheus("/api/v1/query", query=as_sent(annotation["expr"]))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_the_choices_of_each_variable_are_there(prometheus, path: Path) -> None:
    asked = {}
    for variable in read(path)["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            parameters = {"match[]": as_sent(series)}
            asked[variable["name"]] = prometheus(f"/api/v1/label/{label}/values", **parameters)
    assert asked["job"] == ["stream-scorer"]
    assert len(asked["instance"]) == 1
