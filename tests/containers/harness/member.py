"""One `stream-scorer run` process of a test, with its config, log and metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.stream import toml_features

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 120.0  # the first process may compile the kernels
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02
Sections = Mapping[str, Mapping[str, Any]]


class DeadlineError(AssertionError):
    """What was waited for did not come."""


def wait_until(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise DeadlineError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)
    return answer


class Member:
    """A consumer process. It may be started again after it ended."""

    def __init__(
        self,
        directory: Path,
        name: str,
        sections: Sections,
        sabotage: str | None = None,
        processes: int | None = None,
    ) -> None:
        """processes: as of `run --processes`."""
        self.name = name
        self.config = directory / f"{name}.toml"
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at_byte = 0
        self.asked_to_stop = False
        self.port = int(sections.get("telemetry", {}).get("port", 0))
        self.config.write_text(_toml(sections))
        launcher = str(Path(__file__).with_name("sabotage.py"))
        program = ["-m", "stream_scorer"] if sabotage is None else [launcher, sabotage]
        self._command = [sys.executable, *program, "run", "-c", str(self.config)]
        if processes is not None:
            self._command += ["--processes", str(processes)]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Member:
        assert not self.running()
        self.asked_to_stop = False
        self._started_at_byte = self._log.stat().st_size if self._log.exists() else 0
        more = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, **more},
            )  # fmt: skip
        return self

    @property
    def started(self) -> bool:
        return self._process is not None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask_to_stop(self) -> None:
        self.asked_to_stop = True
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def frozen(self) -> bool:
        """Whether it is suspended, by us or by itself."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0] == "T"

    def ended(self, seconds: float = STOP_SECONDS) -> int:
        """The exit status, once it has ended."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DeadlineError(f"{self.name} did not end:\n{self.log()[-3000:]}") from None

    def log(self) -> str:
        """What it wrote since its last start."""
        return self._log.read_bytes()[self._started_at_byte :].decode(errors="replace")

    def whole_log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def wait_for_log(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """The first match in what it wrote since its last start."""

        def find() -> re.Match[str] | None:
            found = re.search(pattern, self.log())
            if found is None and not self.running():
                raise DeadlineError(f"{self.name} ended without {pattern!r}:\n{self.log()[-3000:]}")
            return found

        try:
            found: re.Match[str] = wait_until(f"{self.name}: {pattern!r}", find, seconds)
        except DeadlineError as error:
            raise DeadlineError(f"{error}\n{self.log()[-3000:]}") from None
        return found

    def reading(self) -> None:
        """Returns when it has partitions and reads them."""
        self.wait_for_log("reading (again )?from")

    def totals(self) -> dict[str, int]:
        """What it says it did, after it stopped in good order."""
        found = re.search(r"stopped: (\{.*\})", self.log())
        assert found is not None, self.log()[-3000:]
        return dict(json.loads(found[1].replace("'", '"')))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the label sets that hold `labels`; 0 without an answer."""
        try:
            address = f"http://127.0.0.1:{self.port}/metrics"
            with urllib.request.urlopen(address, timeout=5) as page:
                text = page.read().decode()
        except OSError:
            return 0.0
        total = 0.0
        for line in text.splitlines():
            matched = re.fullmatch(rf"{name}(?:_total)?(\{{.*\}})? (\S+)", line)
            if matched and all(f'{k}="{v}"' in (matched[1] or "") for k, v in labels.items()):
                total += float(matched[2])
        return total

    def resident_bytes(self) -> int:
        """Its resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _toml(sections: Sections) -> str:
    lines = []
    for section, fields in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join([*lines, *toml_features()]) + "\n"
