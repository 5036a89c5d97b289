"""deploy/ as it stands: its image builds, and events published into the Kafka of its compose file
come out as propensities of its scorer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launch
import numpy as np
import pytest
from runners import free_port
from scipy import sparse
from servers import KafkaServer

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.model import artefact, training
from stream_scorer.model.spec import TrainingOptions
from stream_scorer.settings.tree import Settings

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "deploy" / "stream_scorer.toml"
CUSTOMERS = 50
ANSWER_SECONDS = 120

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1200),
    # MXNet asks scipy for a name that it moved.
    pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning"),
]


@dataclass
class Stack:
    """The compose file's services, up."""

    command: list[str]
    environment: dict[str, str]

    @property
    def kafka(self) -> KafkaServer:
        return KafkaServer(f"127.0.0.1:{self.environment['KAFKA_PORT']}")

    def compose(self, *words: str) -> str:
        """Run docker compose; its output, both streams."""
        done = subprocess.run(
            [*self.command, "-f", str(ROOT / "deploy" / "compose.yml"), *words],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def get(self, path: str) -> str:
        """What the scorer answers. Raises HTTPError for another status than 200."""
        url = f"http://127.0.0.1:{self.environment['METRICS_PORT']}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for deploy/stream_scorer.toml, from made-up rows: what it says means nothing."""
    settings = Settings.load(CONFIG)
    space = settings.feature_space()
    categories = len(space.vocabularies["category_id"])
    rows = 200
    random = np.random.default_rng(7)
    labels = random.random((rows, categories)) < 0.4
    made = LabelledRows(
        customer_ids=[f"customer-{i}" for i in range(rows)],
        as_of_ms=np.full(rows, 1_700_000_000_000, np.int64),
        matrix=sparse.random(
            rows, space.width, density=0.01, format="csr", dtype=np.float32, random_state=7
        ),
        label_indptr=np.r_[0, labels.sum(axis=1).cumsum()].astype(np.int64),
        label_category=np.nonzero(labels)[1].astype(np.uint32),
        label_class=np.ones(int(labels.sum()), np.uint8),
    )
    options = TrainingOptions(min_customers=1, epochs=1, min_steps=1)
    trained = training.train([made], None, space, settings.label_rule(), options)
    path = tmp_path_factory.mktemp("deploy") / "model"
    artefact.save(trained, path)
    return path


@pytest.fixture(scope="module")
def stack(model: Path, have: Callable[[Callable[[], Any]], Any]) -> Iterator[Stack]:
    command = have(launch.compose_command)
    subprocess.run(["bash", str(ROOT / "tests" / "images" / "build"), "scorer"], check=True)
    stack = Stack(
        command,
        {
            "COMPOSE_PROJECT_NAME": f"test-{uuid.uuid4().hex[:8]}",
            "KAFKA_PORT": str(free_port()),
            "REDIS_PORT": str(free_port()),
            "METRICS_PORT": str(free_port()),
            "STREAM_SCORER_MODEL": str(model),
            "KAFKA_IMAGE": launch.image("STREAM_SCORER_TEST_KAFKA_IMAGE"),
            "REDIS_IMAGE": launch.image("STREAM_SCORER_TEST_REDIS_IMAGE"),
        },
    )
    try:
        try:
            stack.compose("up", "-d", "--no-build")
        except AssertionError as error:
            pytest.fail(f"{error}\n{stack.compose('logs', 'topics', 'scorer')}")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "10")


def inspect(container: str, form: str) -> str:
    asked = ["docker", "inspect", "--format", form, container]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def publish(stack: Stack, events: Path) -> dict[str, object]:
    """`stream-scorer publish` on this machine, into the compose file's Kafka."""
    program = Path(sys.executable).parent / "stream-scorer"
    bootstrap = {"STREAM_SCORER__KAFKA__BOOTSTRAP_SERVERS": stack.kafka.bootstrap}
    done = subprocess.run(
        [program, "publish", events, "-c", CONFIG, "--json"],
        env={**os.environ, **bootstrap},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_compose_file_runs_the_images_that_the_tests_run() -> None:
    compose = (ROOT / "deploy" / "compose.yml").read_text()
    for variable, name in launch.named_images().items():
        assert f"${{{variable.removeprefix('STREAM_SCORER_TEST_')}:-{name}}}" in compose


def test_published_events_come_out_as_propensities(stack: Stack, tmp_path: Path) -> None:
    settings = Settings.load(CONFIG)
    events = tmp_path / "events.jsonl"
    with events.open("w") as file:
        for i in range(4 * CUSTOMERS):
            event = {
                "event_id": f"event-{i}",
                "customer_id": f"customer-{i % CUSTOMERS}",
                "event_type": ["view", "click", "cart", "purchase"][i // CUSTOMERS],
                "category_id": settings.vocabularies["category_id"][i % 4],
                "value": 2.5,
                "occurred_at": f"2026-01-0{1 + i // CUSTOMERS}T12:00:00Z",
            }
            file.write(json.dumps(event) + "\n")
    assert publish(stack, events)["published"] == 4 * CUSTOMERS

    expected = {f"customer-{i}" for i in range(CUSTOMERS)}
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        records = stack.kafka.read_topic(settings.kafka.output_topic)
        newest = {record.key().decode(): record.value() for record in records}
        if newest.keys() >= expected:
            break
        if time.monotonic() > deadline:
            pytest.fail(f"{len(newest)} customers scored\n{stack.compose('logs', 'scorer')}")
    published = decode_propensities(list(newest.values()))
    assert set(published.customer_ids) == expected
    assert stack.kafka.end_offsets(settings.kafka.dead_letter_topic) == {0: 0}


def test_the_scorer_serves_its_metrics_and_is_healthy(stack: Stack) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    applied = f'stream_scorer_events_total{{outcome="applied"}} {float(4 * CUSTOMERS)}'
    while applied not in stack.get("/metrics"):
        if time.monotonic() > deadline:
            pytest.fail(stack.get("/metrics"))
    container = stack.compose("ps", "-q", "scorer").strip()
    form = "{{.State.Health.Status}} {{.Config.User}}"
    while not (state := inspect(container, form)).startswith("healthy"):
        if time.monotonic() > deadline:
            pytest.fail(f"{state}\n{stack.compose('logs', 'scorer')}")
    assert state == "healthy 10001:10001"
    for path in ("/healthz", "/readyz"):
        assert json.loads(stack.get(path))["ok"] is True, path
    # They were compiled when the image was built.
    assert "compiling kernels" not in stack.compose("logs", "scorer")


def test_the_image_lists_every_package_that_is_in_it(stack: Stack) -> None:
    program = (
        "import importlib.metadata as m, json, pathlib; print(json.dumps([json.loads(pathlib.Path("
        "'/usr/share/stream-scorer/sbom.json').read_text()), "
        "{d.name.lower(): d.version for d in m.distributions()}]))"
    )
    bill, installed = json.loads(
        stack.compose("exec", "-T", "scorer", "python", "-c", program).splitlines()[-1]
    )
    assert bill["bomFormat"] == "CycloneDX"
    own = bill["metadata"]["component"]
    listed = {part["name"].lower(): part["version"] for part in [*bill["components"], own]}
    assert listed == installed
    assert listed["numpy"].startswith("1.")
    container = stack.compose("ps", "-q", "scorer").strip()
    label = inspect(container, '{{index .Config.Labels "sbom.cyclonedx.path"}}')
    assert label == "/usr/share/stream-scorer/sbom.json"


def test_a_refresh_and_the_status_of_models_are_asked_for_in_the_container(stack: Stack) -> None:
    def ask(*words: str) -> dict[str, Any]:
        config = "/etc/stream-scorer/stream_scorer.toml"
        program = ("exec", "-T", "scorer", "stream-scorer")
        said = stack.compose(*program, *words, "-c", config, "--json")
        # Compose gives both streams, so what stderr says stands beside it.
        (found,) = (line for line in said.splitlines() if line.startswith("{"))
        return dict(json.loads(found))

    (member,) = ask("models", "status")["members"]
    assert member["state"] == "serving"
    assert ask("refresh")["unfinished"] == []
