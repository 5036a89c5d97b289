"""A small shop with a config file, servers of this process, and a model of random parameters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.model import artefact
from stream_scorer.settings.tree import Settings
from tests.jobs.random_models import random_model

CONFIG = """
[kafka]
bootstrap_servers = "{kafka}"
delivery_timeout_ms = 5000
[redis]
url = "{redis}"
timeout_seconds = 1.0
[batch]
max_events = 200
max_age_ms = 50
[refresh]
every = ""
[publish]
mode = "all"
[model]
engine = "native"
[vocabularies]
category_id = ["soup", "bread", "milk", "tea"]
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["2d", "14d"]
[[features]]
name = "total"
half_lives = ["7d"]
"""


@pytest.fixture
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, kafka: EmbeddedKafka, redis_server: EmbeddedRedis) -> Path:
    """A config file that names these servers, beside the model that it names."""
    path = tmp_path / "scorer.toml"
    path.write_text(CONFIG.format(kafka=kafka.bootstrap_servers, redis=redis_server.url))
    settings = Settings.load(path, environment={})
    artefact.save(random_model(settings, 1), tmp_path / "model")
    return path
