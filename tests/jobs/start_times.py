"""How long verbs take until they are ready, with compiled kernels in place, on embedded servers.

    python tests/jobs/start_times.py --runs 5 --out start_times.json

`run` is ready when it asks to join its group: settings, model, Redis and Kafka are checked by then,
every kernel is loaded and the model is bound. The other verbs are timed to their end. Of each the
median and the least are printed, as seconds of the wall clock and as CPU seconds (of all threads),
which other programs on the machine change less. Timings depend on the machine: nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.live.warming import compile_where_missing
from stream_scorer.model import artefact, inference_network
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.settings.tree import Settings

# As the benchmark's: 303 categories, pooled and hidden layers, micro-batches of 10,000 events.
CONFIG = """
[kafka]
bootstrap_servers = "{kafka}"
[redis]
url = "{redis}"
[batch]
max_events = 10000
[vocabularies]
category_id = {categories}
[[features]]
name = "bought"
by = ["category_id"]
half_lives = ["2d", "14d"]
[[features]]
name = "products"
by = ["product_id"]
half_lives = ["14d"]
buckets = 4096
[[features]]
name = "day"
kind = "calendar"
by = ["day_of_week"]
"""
CATEGORIES = 303
READY = "joining group"
VERBS = (("--help",), ("features",), ("models", "status"), ("namespaces", "list"))


def written(folder: Path, kafka: str, redis: str) -> Path:
    """A config file beside the model of random parameters that it names."""
    path = folder / "scorer.toml"
    names = json.dumps([f"category {i}" for i in range(CATEGORIES)])
    path.write_text(CONFIG.format(kafka=kafka, redis=redis, categories=names))
    settings = Settings.load(path, environment={})
    space, rule, spec = settings.feature_space(), settings.label_rule(), NetworkSpec((64, 32))
    index = np.arange(CATEGORIES)
    layout, draw = Layout.of(space, rule, index), np.random.default_rng(1)
    parameters = {
        name: draw.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in layout.shapes(spec).items()
    }
    symbol = inference_network.inference_symbol(layout, spec).tojson()
    artefact.save(
        artefact.TrainedModel(space, rule, index, spec, parameters, symbol), folder / "model"
    )
    return path


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until_ready(arguments: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds until `run` is ready."""
    started = time.monotonic()
    with subprocess.Popen(
        [*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        lines = []
        for line in process.stderr or ():
            lines.append(line)
            if READY in line:
                seconds, cpu = time.monotonic() - started, cpu_seconds(process.pid)
                # It has nothing yet that a stop would have to keep.
                process.send_signal(signal.SIGKILL)
                return seconds, cpu
        raise SystemExit("".join(lines))


def until_end(arguments: Sequence[str]) -> tuple[float, float]:
    """Wall and CPU seconds until a verb ends."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([*PROGRAM, *arguments], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.monotonic() - started, cpu


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    """Of several starts."""
    wall, cpu = zip(*times, strict=True)
    return {
        "wall_median": round(statistics.median(wall), 2), "wall_least": round(min(wall), 2),
        "cpu_median": round(statistics.median(cpu), 2), "cpu_least": round(min(cpu), 2),
    }  # fmt: skip


PROGRAM = (sys.executable, "-m", "stream_scorer")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    compile_where_missing()
    found: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedKafka() as kafka,
        EmbeddedRedis() as redis,
    ):
        kafka.create("customer-events", "category-propensities", "customer-events-dead-letters")
        config = written(Path(folder), kafka.bootstrap_servers, redis.url)
        for engine in ("native", "mxnet"):
            choice = {"STREAM_SCORER__MODEL__ENGINE": engine}
            times = [until_ready(("run", "-c", str(config)), choice) for _ in range(given.runs)]
            found[f"run ({engine})"] = summary(times)
        for verb in VERBS:
            options = () if verb == ("--help",) else ("-c", str(config))
            times = [until_end((*verb, *options)) for _ in range(given.runs)]
            found[" ".join(verb)] = summary(times)
    found["load average"] = os.getloadavg()[0]
    print(json.dumps(found, indent=2))
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
