"""The compose files: Compose reads them, nothing is reached from another machine, and what they
mount into Prometheus and Grafana is there and right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "containers"))
from launch import AbsentError, compose_command

pytestmark = pytest.mark.deploy

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILES = ("compose.yml", "compose.observability.yml")
PROVISIONING = DEPLOY / "grafana" / "provisioning"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of both files, as Compose understands them."""
    try:
        command = compose_command()
    except AbsentError as absent:
        if os.environ.get("CI") == "true":
            pytest.fail(str(absent), pytrace=False)
        pytest.skip(str(absent))
    named = [word for file in FILES for word in ("-f", str(DEPLOY / file))]
    done = subprocess.run([*command, *named, "config"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout)["services"])


def test_all_services_are_there(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", "redis", "topics", "scorer", "prometheus", "grafana"}


def test_nothing_is_reached_from_another_machine(services: dict[str, Any]) -> None:
    published = {name: s.get("ports", []) for name, s in services.items()}
    assert published["grafana"]
    assert published["prometheus"]
    for name, ports in published.items():
        for port in ports:
            # Of the program and of the plug-in: text or a table.
            host = port.rsplit(":", 2)[0] if isinstance(port, str) else port["host_ip"]
            assert host == "127.0.0.1", name


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    for name in ("prometheus", "grafana"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        for mount in service["volumes"]:
            source = mount.split(":")[0] if isinstance(mount, str) else mount["source"]
            if "/" in source:
                assert list(Path(source).iterdir()), source
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "an image without a version"


def test_prometheus_reads_its_config_and_the_alerts(call: Callable[..., Any]) -> None:
    said = call("promtool", "check", "config", "--lint=all", "--lint-fatal",
                DEPLOY / "prometheus" / "prometheus.yml").stdout  # fmt: skip
    assert "1 rule files found" in said
    assert "SUCCESS" in said


def test_prometheus_asks_where_the_scorer_answers(services: dict[str, Any]) -> None:
    (job,) = read(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in services
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert f"STREAM_SCORER__TELEMETRY__PORT={port}\n" in dockerfile


def test_grafana_finds_its_source_and_its_dashboards(services: dict[str, Any]) -> None:
    (source,) = read(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    scraped = read(DEPLOY / "prometheus" / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = read(PROVISIONING / "dashboards" / "stream-scorer.yml")["providers"]
    folder = provider["options"]["path"]
    environment = services["grafana"]["environment"]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == folder
    assert json.loads((DEPLOY / "grafana" / "dashboards" / home.name).read_text())["panels"]
    # Whoever comes may look and no more.
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
