"""Each example runs to its end, as a newcomer starts it; and the plain reader keeps the newest."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from confluent_kafka import Producer

from stream_scorer.core.avro.propensity_encoder import PRECISIONS, PropensityEncoder
from stream_scorer.core.avro.schemas import parsed, schema_json
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.jobs.init import init
from stream_scorer.jobs.replay import rebuild
from stream_scorer.settings.tree import Settings

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SCHEMA = EXAMPLES.parent / "schemas" / "category_propensities.avsc"
SCHEMA_FLOAT16 = SCHEMA.with_name("category_propensities_float16.avsc")
TOPIC = "category-propensities"
FAST = {"STREAM_SCORER__TRAINING__MIN_STEPS": "60", "STREAM_SCORER__TRAINING__EPOCHS": "1"}


def run(name: str, *arguments: str, cwd: Path, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the starter `shop` lies."""
    made = tmp_path_factory.mktemp("examples")
    init(made / "shop")
    return made


def test_every_example_is_listed_and_tested_here() -> None:
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+\.py)\)", readme)) == programs
    assert set(re.findall(r'"(\w+\.py)"', Path(__file__).read_text(encoding="utf-8"))) == programs


def test_features_in_a_notebook(folder: Path) -> None:
    said = run("features_in_a_notebook.py", cwd=folder)
    assert "customers, " in said
    assert re.search(r"^  \w+(@\w+)?\[category_id=\w+\] = \d+\.\d+$", said, re.M)
    assert re.search(r"money, halved every 90 days: \d+\.\d\d, later \d+\.\d\d\n$", said)


@pytest.fixture(scope="module")
def trained(folder: Path) -> str:
    """What the training example prints; it leaves a model."""
    return run("train_on_own_rows.py", cwd=folder, **FAST)


def test_training_on_own_rows(trained: str) -> None:
    assert "12 categories, 2 classes), trained on" in trained
    probabilities = [float(p) for p in re.findall(r"^  \w+: (0\.\d+)$", trained, re.M)]
    assert len(probabilities) == 3
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.usefixtures("trained")
def test_scoring_from_a_store(folder: Path) -> None:
    settings = Settings.load(folder / "shop" / "stream_scorer.toml", environment={})
    with EmbeddedRedis() as server:
        redis = settings.redis.model_copy(update={"url": server.url})
        here = settings.model_copy(update={"redis": redis})
        rebuild(here, [folder / "shop" / "events"], "filled")
        said = run(
            "score_from_store.py", "customer-003", "nobody", "customer-007", cwd=folder,
            STREAM_SCORER__REDIS__URL=server.url, STREAM_SCORER__STORE__NAMESPACE="filled",
            STREAM_SCORER__MODEL__PATH="shop/own_model",
        )  # fmt: skip
    lines = said.splitlines()
    assert [line.split(":")[0] for line in lines] == ["customer-003", "nobody", "customer-007"]
    assert lines[1] == "nobody: unknown"
    assert re.search(r"as of 2026-\d\d-\d\dT[\d:.]+Z \w+ 0\.\d+, \w+ 0\.\d+, \w+ 0\.\d+$", lines[0])


def record(customer: str, offset: int, as_of: int, version: str, partition: int = 0) -> Any:
    return {
        "customer_id": customer, "as_of": as_of, "scored_at": 9, "model_version": version,
        "fingerprint": "0" * 16,
        "source": {"topic": "events", "partition": partition, "offset": offset},
        "propensities": [{"category_id": "tea", "class": 1, "probability": 0.5}],
        "probabilities": None,
    }  # fmt: skip


def avro(row: Any, prefix: bytes) -> bytes:
    stream = BytesIO()
    stream.write(prefix)
    fastavro.schemaless_writer(stream, parsed("category_propensities"), row)
    return stream.getvalue()


class Registry(BaseHTTPRequestHandler):
    """Knows the schema of id 258."""

    def do_GET(self) -> None:
        found = self.path.split("?")[0] == "/schemas/ids/258"
        body = {"schema": schema_json("category_propensities")} if found else {"message": "none"}
        content = json.dumps(body).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_plain_reader_keeps_the_newest_record(tmp_path: Path, registry: str) -> None:
    """Over both frames, tombstones, repeats, and older records that come late."""
    entries = PropensityEncoder(["bread", "tea"], 2, "all", "0" * 16)
    in_full, halved = (
        entries.encode_all(
            [name], np.array([5]), 9, [("events", 0)], np.zeros(1, np.int32), np.array([1]),
            np.array([[0.25, 0.75]], np.float32), precision,
        )[0]
        for name, precision in ((b"full", PRECISIONS[0]), (b"halved", PRECISIONS[1]))
    )  # fmt: skip
    single, confluent = in_full[:10], b"\x00\x00\x00\x01\x02"
    sent = [
        ("full", in_full),
        ("halved", halved),
        ("late", avro(record("late", 7, 50, "newest"), single)),
        ("late", avro(record("late", 6, 60, "older"), confluent)),
        ("refreshed", avro(record("refreshed", 7, 50, "event"), single)),
        ("refreshed", avro(record("refreshed", 7, 80, "newest"), confluent)),
        ("refreshed", avro(record("refreshed", 7, 70, "earlier refresh"), single)),
        ("gone", avro(record("gone", 1, 1, "x"), single)),
        ("gone", None),
        ("back", avro(record("back", 9, 9, "forgotten"), single)),
        ("back", None),
        ("back", avro(record("back", 2, 2, "newest"), single)),
        ("moved", avro(record("moved", 9, 9, "before"), single)),
        ("moved", avro(record("moved", 0, 10, "newest", partition=5), single)),
        ("filed", avro(record("filed", -1, 70, "refresh of files", partition=-1), single)),
        ("filed", avro(record("filed", 3, 60, "newest"), single)),
        ("filed", avro(record("filed", -1, 80, "late refresh of files", partition=-1), single)),
    ]
    with EmbeddedKafka() as kafka:
        kafka.create(TOPIC)
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for key, value in sent:
            producer.produce(TOPIC, value, key)
        assert producer.flush(20) == 0
        said = run(
            "consume_propensities.py", kafka.bootstrap_servers, TOPIC, str(SCHEMA),
            str(SCHEMA_FLOAT16), "--registry", registry, cwd=tmp_path,
        )  # fmt: skip
    newest = {row["customer_id"]: row for row in map(json.loads, said.splitlines())}
    assert list(newest) == ["back", "filed", "full", "halved", "late", "moved", "refreshed"]
    assert newest["full"]["probabilities"] == [0.25, 0.75]
    assert newest["halved"]["probabilities_float16"] == [0.25, 0.75]
    assert newest["late"]["as_of"] == "1970-01-01T00:00:00.050000+00:00"
    assert newest["late"]["propensities"] == record("", 0, 0, "")["propensities"]
    for customer in ("late", "refreshed", "back", "moved", "filed"):
        assert newest[customer]["model_version"] == "newest", customer


def test_the_plain_reader_does_not_import_the_package() -> None:
    tree = ast.parse((EXAMPLES / "consume_propensities.py").read_text(encoding="utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert "fastavro" in names
    assert not any(name.startswith("stream_scorer") for name in names)
