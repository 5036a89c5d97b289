"""The Helm chart rendered, and what its objects are validated against."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate.utils as kubernetes
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "stream-scorer"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
# The oldest that Chart.yaml allows, and a new one.
KUBERNETES_VERSIONS = ("1.29.0", "1.37.0")
# Modules of Go that hold the definitions of kinds that Kubernetes itself does not have: module,
# version, folder and the start of each file's name. The proxy of Go has them, with checksums.
DEFINITIONS = (
    ("github.com/kedacore/keda/v2", "v2.16.1", "config/crd/bases", "keda.sh_scaledobjects"),
    (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.79.2",
        "example/prometheus-operator-crd",
        "monitoring.coreos.com_",
    ),
)

Object = dict[str, Any]


def render_command(values: Path | None, *options: str) -> list[str]:
    """The words after `helm` that print the objects of the chart for these values."""
    chosen = [] if values is None else ["--values", str(values)]
    fixed = ["--namespace", "shop", "--kube-version", KUBERNETES_VERSIONS[0]]
    return ["template", "scorer", str(CHART), *fixed, *chosen, *options]


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a plain `=` is text, where PyYAML knows no such value."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


def objects_of(printed: str) -> list[Object]:
    """The objects of YAML documents, without empty ones."""
    return [found for found in yaml.load_all(printed, Loader=_Loader) if found]


def only(objects: list[Object], kind: str, name_ends: str = "") -> Object:
    """The one object of that kind whose name ends so."""
    (found,) = (o for o in named(objects, kind) if o["metadata"]["name"].endswith(name_ends))
    return found


def named(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The name and the pod's spec of every object that makes pods."""
    for found in objects:
        template = found.get("spec", {}).get("template")
        if template is not None:
            yield f"{found['kind']}/{found['metadata']['name']}", template["spec"]


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every container and init container, with the name of its object."""
    for name, pod in pods(objects):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{name}/{container['name']}", container


def environment_of(container: Object) -> dict[str, str]:
    """Its variables, with references to others replaced; a field of the pod is "(field)"."""
    variables: dict[str, str] = {}
    for variable in container["env"]:
        text = variable.get("value", "(field)")
        for name, value in variables.items():
            text = text.replace(f"$({name})", value)
        variables[variable["name"]] = text
    return variables


@functools.cache
def definitions(go: str) -> Mapping[tuple[str, str], Object]:
    """Strict schemas of KEDA's kinds and of the Prometheus operator's, by API version and kind."""
    schemas = {}
    for module, version, folder, start in DEFINITIONS:
        asked = subprocess.run(
            [go, "mod", "download", "-json", f"{module}@{version}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stdout + asked.stderr
        for file in (Path(json.loads(asked.stdout)["Dir"]) / folder).glob(f"{start}*.yaml"):
            (definition,) = objects_of(file.read_text(encoding="utf-8"))
            spec = definition["spec"]
            for served in spec["versions"]:
                key = (f"{spec['group']}/{served['name']}", spec["names"]["kind"])
                schemas[key] = _strict(served["schema"]["openAPIV3Schema"])
    return schemas


def _strict(schema: Any) -> Any:
    """The schema, where a property that it does not name is an error."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _strict(part) for name, part in schema.items()}
    # `metadata` has no properties here: Kubernetes knows them.
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        changed["additionalProperties"] = schema.get("x-kubernetes-preserve-unknown-fields", False)
    return changed


def problems(found: Object, kubernetes_version: str, go: str) -> list[str]:
    """What is wrong with an object by the schema of its kind."""
    schema = definitions(go).get((found["apiVersion"], found["kind"]))
    if schema is not None:
        wrong = jsonschema.Draft202012Validator(schema).iter_errors(found)
        return [f"{error.json_path}: {error.message}" for error in wrong]
    try:
        kubernetes.validate(found, kubernetes_version, strict=True)
    except kubernetes.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    return []
