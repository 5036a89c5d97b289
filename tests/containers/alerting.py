"""A real Prometheus that scrapes members and evaluates our alerts, with time that runs faster.

Rules are about minutes and hours; a test has seconds. So every duration of the rules, `for`, ranges
and offsets, is divided by `FASTER`, and so is the time for which Prometheus takes a series to be
there: a minute is a second. Expressions and thresholds stay as they are.
"""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import launch
from runners import ServerProcess, free_port

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "alerts.yml"
FASTER = 60
LEAST_RANGE_SECONDS = 3  # of a rate: three scrapes
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
START_SECONDS = 30.0
POLL_SECONDS = 0.2


def faster(rules: str) -> str:
    """The rules with every duration divided by `FASTER`."""

    def shorter(match: re.Match[str]) -> str:
        seconds = int(match["number"]) * SECONDS[match["unit"]] / FASTER
        if match["before"].startswith("["):
            seconds = max(seconds, LEAST_RANGE_SECONDS)
        return f"{match['before']}{round(seconds)}s"

    duration = r"(?P<before>\[|\bfor: |\boffset )(?P<number>\d+)(?P<unit>[smhd])\b"
    return re.sub(duration, shorter, rules)


class Prometheus:
    """Scrapes each of `ports` of each job once a second from the moment it is started."""

    def __init__(self, directory: Path, jobs: Mapping[str, Sequence[int]]) -> None:
        program = shutil.which("prometheus")
        if program is None:
            raise launch.AbsentError("no prometheus; .ci/run shows how it is unpacked")
        (directory / "rules.yml").write_text(faster(RULES.read_text(encoding="utf-8")))
        scrapes = [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
            for job, ports in jobs.items()
        ]
        self._members = sum(len(ports) for ports in jobs.values())
        # JSON is YAML.
        config = {
            "global": {
                "scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s",
            },
            "rule_files": ["rules.yml"],
            "scrape_configs": scrapes,
        }  # fmt: skip
        (directory / "prometheus.yml").write_text(json.dumps(config))
        self._port = free_port()
        self._process = ServerProcess(
            [
                program, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{self._port}",
                f"--query.lookback-delta={300 // FASTER}s",
            ],
            directory,
        )  # fmt: skip

    def start(self) -> None:
        """Returns when it has scraped every member: what is counted before is no increase."""
        self._process.start()
        until = time.monotonic() + START_SECONDS
        while self._scraped() < self._members:
            if time.monotonic() > until or not self._process.running():
                raise AssertionError(self._process.log_tail())
            time.sleep(POLL_SECONDS)

    def _scraped(self) -> int:
        """How many members it has metrics of; 0 where it does not answer yet."""
        try:
            found = self.ask("query", query="count(stream_scorer_alive)")["result"]
        except OSError:
            return 0
        return int(found[0]["value"][1]) if found else 0

    def remove(self) -> None:
        self._process.remove()

    def ask(self, what: str, **arguments: str) -> Any:
        """The data of its answer."""
        query = urllib.parse.urlencode(arguments)
        address = f"http://127.0.0.1:{self._port}/api/v1/{what}?{query}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)["data"]

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire now, with labels and annotations."""
        return [a for a in self.ask("alerts")["alerts"] if a["state"] == "firing"]

    def fired(self, job: str) -> set[str]:
        """Names of the alerts of a job that fired at any moment until now."""
        found = self.ask(
            "query", query=f'count_over_time(ALERTS{{alertstate="firing", job="{job}"}}[1h])'
        )
        return {series["metric"]["alertname"] for series in found["result"]}

    def wait_for(self, wanted: set[str], seconds: float) -> dict[str, dict[str, Any]]:
        """By name one of each of the wanted alerts, as it was when it fired first."""
        seen: dict[str, dict[str, Any]] = {}
        until = time.monotonic() + seconds
        while not wanted <= seen.keys():
            for alert in self.firing():
                seen.setdefault(alert["labels"]["alertname"], alert)
            assert time.monotonic() < until, (
                f"not within {seconds:.0f} s: {sorted(wanted - seen.keys())}; "
                f"there were {sorted(seen)}"
            )
            time.sleep(POLL_SECONDS)
        return {name: seen[name] for name in wanted}
