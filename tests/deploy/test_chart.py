"""The Helm chart: Helm and the schemas of Kubernetes accept it, wrong values are refused with a
remedy, and its pods have no more rights than they need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rendered_chart import (
    CHART,
    KUBERNETES_VERSIONS,
    ROOT,
    VALUES,
    Object,
    containers,
    environment_of,
    named,
    objects_of,
    only,
    pods,
    problems,
    render_command,
)

from stream_scorer.live.stop import STOP_SECONDS
from stream_scorer.settings.tree import Settings
from stream_scorer.web.application import PROBE_OPERATIONS

pytestmark = pytest.mark.deploy

SMALLEST = CHART / "ci" / "smallest-values.yaml"
EVERYTHING = CHART / "ci" / "everything-values.yaml"

Render = Callable[..., list[Object]]


@pytest.fixture(scope="session")
def render(call) -> Render:
    """render(values, *options) -> the objects of the chart."""

    def printed(values: Path | None, *options: str) -> list[Object]:
        return objects_of(call("helm", *render_command(values, *options)).stdout)

    return printed


@pytest.fixture(scope="session")
def everything(render: Render) -> list[Object]:
    return render(EVERYTHING)


@pytest.fixture(scope="session")
def smallest(render: Render) -> list[Object]:
    return render(SMALLEST)


@pytest.fixture(scope="session", params=VALUES, ids=lambda path: path.stem)
def objects(request: pytest.FixtureRequest, render: Render) -> list[Object]:
    """What the chart makes of each file of values in its ci/."""
    return render(request.param)


def test_lint_finds_nothing(call) -> None:
    for values in VALUES:
        version = ("--kube-version", KUBERNETES_VERSIONS[0])
        call("helm", "lint", "--strict", CHART, "--values", values, *version)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_is_what_kubernetes_expects(objects: list[Object], version: str, tool) -> None:
    assert len(objects) >= 3
    for found in objects:
        assert problems(found, version, tool("go")) == [], found["kind"]


def test_a_wrong_object_is_noticed(everything: list[Object], tool) -> None:
    for kind in ("StatefulSet", "NetworkPolicy", "ScaledObject", "ServiceMonitor"):
        wrong = named(everything, kind)[0]
        wrong = {**wrong, "spec": {**wrong["spec"], "replicas_": 3}}
        assert "replicas_" in "".join(problems(wrong, KUBERNETES_VERSIONS[0], tool("go")))


def test_every_template_is_rendered(everything: list[Object], call) -> None:
    templates = {path.name for path in (CHART / "templates").glob("*.yaml")}
    printed = call("helm", *render_command(EVERYTHING)).stdout
    assert {name for name in templates if f"templates/{name}\n" in printed} == templates


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["replicas=2"], "Additional property replicas is not allowed"),
        (["resources.limits.gpu=1"], "Additional property gpu is not allowed"),
        (["replicaCount=many"], "replicaCount: Invalid type. Expected: integer, given: string"),
        (["telemetry.logLevel=loud"], 'must be one of the following: "debug", "info"'),
        (["telemetry.port=80"], "telemetry.port: Must be greater than or equal to 1024"),
        (["redis.url=http://redis"], "redis.url: Does not match pattern"),
        (["kafka.bootstrapServers=kafka"], "kafka.bootstrapServers: Does not match pattern"),
        (["model.path=../secrets"], "model.path: Does not match pattern"),
        (["settings.Top-K=3"], "Does not match pattern"),
        (
            ["secretFiles[0].setting=kafka.password"],
            "secretFiles.0.setting: Does not match pattern",
        ),
        (["terminationGracePeriodSeconds=5"], "Must be greater than or equal to 10"),
        (["config="], "config: (not set): give the config file, such as --set-file"),
        (["kafka.bootstrapServers="], "kafka.bootstrapServers: (not set): give the brokers"),
        (["redis.url="], "redis.url: (not set): give the address of Redis"),
        (["redis.url=redis://:word@redis:6379"], "name that in secretFiles with the setting redis"),
        (["redis.url=redis://redis:6379?password=word"], "redis.url: it has a password: take it"),
        (["fullnameOverride=1-shop"], "fullnameOverride: Does not match pattern"),
        (
            ["configFiles.stream_scorer\\.toml=a"],
            "configFiles: stream_scorer.toml: that is the config",
        ),
        (
            ["commonLabels.app\\.kubernetes\\.io/name=a"],
            "commonLabels: app.kubernetes.io/name: the chart sets this label itself: leave it out",
        ),
        (
            ["podLabels.app\\.kubernetes\\.io/instance=a"],
            "podLabels: app.kubernetes.io/instance: the",
        ),
        (
            [
                f"secretFiles[{n}].{part}"
                for n in (0, 1)
                for part in ("setting=redis.password_file", "secretName=a", "key=b")
            ],
            "secretFiles: redis.password_file: it is there twice: keep one of the two",
        ),
        (["model.source="], "model.source: (not set): say where the model comes from"),
        (["model.persistentVolumeClaim.claimName="], "name the claim that holds the model"),
        (["model.source=image"], "model.image.repository: (not set): name the image"),
        (
            ["model.source=image", "model.image.repository=models"],
            "model.image.tag: (not set): give the tag or the digest",
        ),
        (["model.source=volume"], "model.volume: (not set): give a volume as in a pod"),
        (["settings.redis\\.password=word"], "settings.redis.password: (secret)"),
        (["settings.kafka\\.client_id=a"], "settings.kafka.client_id: the chart sets it"),
        (
            ["kafka.inputPartitions=2"],
            "replicaCount: 3: is more than kafka.inputPartitions, 2; a member without",
        ),
        (["autoscaling.enabled=true"], "kafka.groupId: (not set): autoscaling needs it"),
    ],
)
def test_wrong_values_are_refused_with_a_remedy(call, options: list[str], words: str) -> None:
    sets = [word for option in options for word in ("--set", option)]
    said = call("helm", *render_command(SMALLEST, *sets), status=1).stderr
    assert words in said
    assert "word@" not in said
    assert "=word" not in said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("kafka.inputTopic=", "kafka.inputTopic: (not set): autoscaling needs it"),
        ("kafka.inputPartitions=0", "kafka.inputPartitions: (not set): autoscaling needs it"),
        ("autoscaling.maxReplicas=13", "13: is more than kafka.inputPartitions, 12"),
        ("autoscaling.minReplicas=13", "13: is more than kafka.inputPartitions, 12"),
        ("autoscaling.minReplicas=9", "9: is more than autoscaling.maxReplicas, 8"),
        ("autoscaling.fallbackReplicas=9", "9: is more than autoscaling.maxReplicas, 8"),
        ("autoscaling.minReplicas=0", "autoscaling.minReplicas: Must be greater than or equal to"),
    ],
)
def test_autoscaling_never_has_more_members_than_partitions(call, option: str, words: str) -> None:
    assert words in call("helm", *render_command(EVERYTHING, "--set", option), status=1).stderr


def test_autoscaling_goes_as_far_as_the_partitions(render: Render) -> None:
    objects = render(EVERYTHING, "--set", "autoscaling.maxReplicas=0")
    spec = only(objects, "ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 12)
    assert spec["fallback"]["replicas"] == 12
    assert spec["scaleTargetRef"]["name"] == only(objects, "StatefulSet")["metadata"]["name"]
    # What KEDA decides would be set back by the next upgrade.
    assert "replicas" not in only(objects, "StatefulSet")["spec"]


def test_pods_have_no_more_rights_than_they_need(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 10001, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any(pod.get(space) for space in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in pod["volumes"]), name
    for name, container in containers(objects):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["privileged"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name


def test_containers_are_bounded_and_their_images_pinned(objects: list[Object]) -> None:
    for name, container in containers(objects):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), f"{name}: {kind}"
        assert "@sha256:" in container["image"] or ":" in container["image"], name
        assert not container["image"].endswith(":latest"), name
    for name, pod in pods(objects):
        for volume in pod["volumes"]:
            if "emptyDir" in volume and volume["name"] != "scratch":
                assert "sizeLimit" in volume["emptyDir"], f"{name}: {volume['name']}"


def test_no_secret_is_in_the_environment(everything: list[Object]) -> None:
    container = only(everything, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    for variable in container["env"]:
        assert "secretKeyRef" not in variable.get("valueFrom", {}), variable["name"]
    environment = environment_of(container)
    mounted = "/run/secrets/stream-scorer/kafka.password_file"
    assert environment["STREAM_SCORER__KAFKA__PASSWORD_FILE"] == mounted
    (secrets,) = (
        volume["projected"]
        for volume in only(everything, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "secrets"
    )
    assert secrets["defaultMode"] == 0o440
    item = secrets["sources"][0]["secret"]["items"][0]
    assert item == {"key": "kafka-password", "path": "kafka.password_file"}


def test_a_member_keeps_its_name_through_restarts(objects: list[Object]) -> None:
    pod = only(objects, "StatefulSet")["spec"]["template"]["spec"]
    environment = environment_of(pod["containers"][0])
    assert environment["STREAM_SCORER__KAFKA__GROUP_INSTANCE_ID"] == "(field)"
    assert environment["STREAM_SCORER__KAFKA__CLIENT_ID"] == "(field)"
    (field,) = (v for v in pod["containers"][0]["env"] if "valueFrom" in v)
    assert field["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_probes_ask_what_the_program_answers(objects: list[Object]) -> None:
    (container,) = only(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    asked = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in asked.items()}
    assert paths == {"startup": "/readyz", "liveness": "/healthz", "readiness": "/readyz"}
    assert set(paths.values()) <= {operation.path for operation in PROBE_OPERATIONS}
    (port,) = container["ports"]
    assert {probe["httpGet"]["port"] for probe in asked.values()} == {port["name"]}
    # Longer than kernels take to be compiled.
    startup = asked["startup"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600


def test_a_member_has_the_time_that_its_stop_takes(objects: list[Object]) -> None:
    pod = only(objects, "StatefulSet")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= STOP_SECONDS + 2


def test_settings_of_the_chart_are_settings_of_the_program(
    everything: list[Object], tmp_path: Path
) -> None:
    container = only(everything, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    environment = environment_of(container)
    # Each mounted secret as a file of this test.
    mounted = {n: v for n, v in environment.items() if v.startswith("/run/secrets/stream-scorer/")}
    assert len(mounted) == 4
    for name, path in mounted.items():
        file = tmp_path / Path(path).name
        file.write_text("a secret of more than 16 characters\n".replace(" ", "-"))
        environment[name] = str(file)
    data = only(everything, "ConfigMap", "stream-scorer")["data"]
    for file_name, text in data.items():
        (tmp_path / file_name).write_text(text)
    config = tmp_path / Path(environment["STREAM_SCORER_CONFIG"]).name
    settings = Settings.load(config, environment=environment)
    assert settings.kafka.bootstrap_servers == "kafka-1:9093,kafka-2:9093"
    assert settings.kafka.input_partitions == 12
    assert settings.kafka.properties == {"client.rack": "eu-1a"}
    assert settings.kafka.client_id == settings.kafka.group_instance_id == "(field)"
    assert settings.store.time_to_live_seconds == 34_560_000
    assert settings.publish.top_k == 20
    assert settings.telemetry.port == container["ports"][0]["containerPort"]
    assert settings.vocabularies["category_id"] == ("bread", "wine")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert os.path.dirname(str(settings.model.path)) in mounts
    assert os.path.dirname(environment["STREAM_SCORER_CONFIG"]) in mounts


def test_containers_call_verbs_with_options_that_there_are(everything: list[Object]) -> None:
    called = {
        tuple(container["args"]) for _, container in containers(everything) if "args" in container
    }
    assert len(called) >= 2
    for words in called:
        # Arguments are read before the help is shown: an unknown one is an error.
        command = [sys.executable, "-m", "stream_scorer", *words, "--help"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr


def test_a_config_of_any_layout_arrives_as_it_is(render: Render, tmp_path: Path) -> None:
    for text in (
        "  [kafka]\n  client_id = ''\n\n\n",
        (ROOT / "deploy/stream_scorer.toml").read_text(),
    ):
        file = tmp_path / "config.toml"
        file.write_text(text)
        objects = render(SMALLEST, "--set-file", f"config={file}")
        for name in ("stream-scorer", "topics"):
            data = only(objects, "ConfigMap", name)["data"]
            assert data["stream_scorer.toml"].rstrip() == text.rstrip()


def test_another_config_makes_other_pods(render: Render, smallest: list[Object]) -> None:
    def mark(objects: list[Object]) -> str:
        template = only(objects, "StatefulSet")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    changed = render(SMALLEST, "--set", "config=[kafka]")
    assert mark(changed) != mark(smallest)
    assert mark(render(SMALLEST)) == mark(smallest)


def test_objects_find_the_pods_that_they_are_for(objects: list[Object]) -> None:
    labels = only(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    selectors = [only(objects, "StatefulSet")["spec"]["selector"]["matchLabels"]]
    service = only(objects, "Service", "stream-scorer")
    selectors.append(service["spec"]["selector"])
    selectors += [
        o["spec"]["selector"]["matchLabels"] for o in named(objects, "PodDisruptionBudget")
    ]
    selectors += [
        policy["spec"]["podSelector"]["matchLabels"]
        for policy in named(objects, "NetworkPolicy")
        if policy["metadata"]["name"].endswith("-scorer")
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
    marks = service["metadata"]["labels"]
    for monitor in named(objects, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= marks.items()


def test_only_prometheus_comes_in_and_nothing_else_is_reached(smallest: list[Object]) -> None:
    spec = only(smallest, "NetworkPolicy", "-scorer")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = spec["ingress"]
    monitoring = {"kubernetes.io/metadata.name": "monitoring"}
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": monitoring}}]
    assert [port["port"] for port in rule["ports"]] == [9108]
    reached = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    assert reached == {53, 9092, 9093, 6379}
    topics = only(smallest, "NetworkPolicy", "-topics")["spec"]
    assert topics["ingress"] == []
    assert {port["port"] for rule in topics["egress"] for port in rule["ports"]} == {53, 9092, 9093}


def test_members_reach_what_they_are_told_to_ask(render: Render) -> None:
    """Another port than the usual one needs no second mention."""
    options = [
        "kafka.bootstrapServers=a:9094\\,b:9095", "redis.url=rediss://scorer@redis:6390/1",
        "schemaRegistry.url=https://registry/subjects", "networkPolicy.traces.enabled=true",
    ]  # fmt: skip
    objects = render(SMALLEST, *(word for option in options for word in ("--set", option)))
    for component, ports in (
        ("-scorer", {53, 9092, 9093, 9094, 9095, 6379, 6390, 8081, 443, 4318}),
        ("-topics", {53, 9092, 9093, 9094, 9095}),
    ):
        spec = only(objects, "NetworkPolicy", component)["spec"]
        assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == ports


@pytest.mark.parametrize("release", ["shop", "stream-scorer", "my.shop", "x" * 53, "a" * 51 + "-b"])
def test_names_are_allowed_for_every_name_of_a_release(call, release: str) -> None:
    command = render_command(EVERYTHING)
    command[1] = release
    objects = objects_of(call("helm", *command).stdout)
    for found in objects:
        name = found["metadata"]["name"]
        # Of a service, the strictest; and a pod's ordinal or an image's tag must have room.
        assert re.fullmatch(r"[a-z]([-a-z0-9]{,61}[a-z0-9])?", name), name
        for text in found["metadata"]["labels"].values():
            assert len(text) <= 63
    # The label of a pod's revision is the name and a hash.
    assert len(only(objects, "StatefulSet")["metadata"]["name"]) + len("-5d4f8c7b9f") <= 63


def test_a_release_whose_name_no_service_may_have_is_refused(call) -> None:
    command = render_command(SMALLEST)
    command[1] = "1-shop"
    said = call("helm", *command, status=1).stderr
    assert "fullnameOverride: (not set): the name of a service begins with a letter" in said


def test_two_releases_of_one_namespace_share_nothing(call) -> None:
    names, selected = [], []
    for release in ("scorer", "other"):
        command = render_command(EVERYTHING)
        command[1] = release
        objects = objects_of(call("helm", *command).stdout)
        names.append({(found["kind"], found["metadata"]["name"]) for found in objects})
        selected.append(only(objects, "StatefulSet")["spec"]["selector"]["matchLabels"])
        # Prometheus takes the service's name as the job, by which alerts know a group.
        assert "jobLabel" not in only(objects, "ServiceMonitor")["spec"]
    assert not names[0] & names[1]
    assert selected[0] != selected[1]


def test_all_alerts_are_there(everything: list[Object]) -> None:
    written = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    rule = only(everything, "PrometheusRule")

    def names(spec: Object) -> list[str]:
        return [one["alert"] for g in spec["groups"] for one in g["rules"] if "alert" in one]

    assert names(rule["spec"]) == names(written)
    assert len(names(written)) > 10
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_the_status_page_is_asked_by_those_who_are_named(everything: list[Object]) -> None:
    deployment = only(everything, "Deployment", "-web")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    port = container["ports"][0]["containerPort"]
    assert container["args"] == ["web", "--host", "0.0.0.0", "--port", str(port)]
    environment = environment_of(container)
    # It joins no group, and its token is a file.
    assert "STREAM_SCORER__KAFKA__GROUP_INSTANCE_ID" not in environment
    assert environment["STREAM_SCORER__WEB__TOKEN_FILE"].startswith("/run/secrets/")
    assert only(everything, "Service", "-web")["spec"]["selector"].items() <= labels.items()
    # Members are not among the pods that the service of the page finds, and the reverse.
    members = only(everything, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert not only(everything, "Service", "-web")["spec"]["selector"].items() <= members.items()
    assert not only(everything, "StatefulSet")["spec"]["selector"]["matchLabels"].items() <= (
        labels.items()
    )
    spec = only(everything, "NetworkPolicy", "-web")["spec"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    ingress = {"kubernetes.io/metadata.name": "ingress"}
    (rule,) = spec["ingress"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": ingress}}]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 6380}


def test_topics_are_made_before_the_members_start(smallest: list[Object]) -> None:
    job = only(smallest, "Job")
    weights = {}
    for found in smallest:
        annotations = found["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
            weights[found["kind"]] = int(annotations["helm.sh/hook-weight"])
    assert weights == {"NetworkPolicy": -10, "ConfigMap": -10, "Job": 0}
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["topics", "create"]
    # All that the job needs is there before it: what is no hook comes later.
    pod = job["spec"]["template"]["spec"]
    (config,) = (v for v in pod["volumes"] if v["name"] == "config")
    assert config["configMap"]["name"] == only(smallest, "ConfigMap", "-topics")["metadata"]["name"]
    assert pod["serviceAccountName"] == "default"


def test_values_say_the_same_as_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(value: object, part: dict[str, object], path: str) -> None:
        assert part.get("description"), f"{path} has no description"
        properties = part.get("properties")
        if not isinstance(properties, dict):
            return
        assert part["additionalProperties"] is False, path
        assert isinstance(value, dict), path
        assert value.keys() <= properties.keys(), path
        for name, inner in value.items():
            compare(inner, properties[name], f"{path}.{name}")

    compare(values, schema, "values")
    assert schema["properties"].keys() - values.keys() == {"global"}
