"""The manifests for those who have no Helm are what the chart says, and Kubernetes accepts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rendered_chart import (
    KUBERNETES_VERSIONS,
    ROOT,
    Object,
    environment_of,
    objects_of,
    only,
    pods,
    problems,
)

from stream_scorer.settings.tree import Settings

pytestmark = pytest.mark.deploy

MANIFESTS = ROOT / "deploy" / "kubernetes"
# What a pod may mount where the standard "restricted" holds.
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def kustomization() -> Object:
    (found,) = objects_of((MANIFESTS / "kustomization.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    """All objects that `kubectl apply -k` makes."""
    texts = [
        (MANIFESTS / name).read_text(encoding="utf-8") for name in kustomization()["resources"]
    ]
    return [found for text in texts for found in objects_of(text)]


def test_they_are_what_the_chart_renders(tool, tmp_path: Path) -> None:
    tool("helm")
    subprocess.run([sys.executable, MANIFESTS / "render.py", tmp_path], check=True)
    rendered = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert len(rendered) > 5
    for name, text in rendered.items():
        there = (MANIFESTS / name).read_text(encoding="utf-8")
        assert there == text, f"{name}: run `make manifests`"
    known = {*rendered, "namespace.yaml", "values.yaml"}
    assert {path.name for path in MANIFESTS.glob("*.yaml")} == known, "a file that is left over"


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_is_what_kubernetes_expects(objects: list[Object], version: str, tool) -> None:
    for found in objects:
        assert problems(found, version, tool("go")) == [], found["kind"]
        if found["kind"] != "Namespace":
            assert found["metadata"]["namespace"] == kustomization()["namespace"]


def test_nothing_is_left_of_helm(objects: list[Object]) -> None:
    for found in objects:
        metadata = found["metadata"]
        marks = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
        assert not [mark for mark in marks if "helm" in mark], found["kind"]
        assert "app.kubernetes.io/managed-by" not in marks


def test_pods_pass_the_standard_that_their_namespace_asks_for(objects: list[Object]) -> None:
    labels = only(objects, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(objects):
        for volume in pod["volumes"]:
            assert volume.keys() - {"name"} <= RESTRICTED_VOLUMES, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name


def test_their_config_is_one(objects: list[Object], tmp_path: Path) -> None:
    pod = only(objects, "StatefulSet")["spec"]["template"]["spec"]
    (volume,) = (v for v in pod["volumes"] if v["name"] == "config")
    config = only(objects, "ConfigMap")
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    file = tmp_path / "stream_scorer.toml"
    file.write_text(config["data"]["stream_scorer.toml"])
    settings = Settings.load(file, environment=environment_of(pod["containers"][0]))
    assert settings.kafka.bootstrap_servers == "kafka.kafka.svc:9092"
    assert settings.feature_space().width > 0
