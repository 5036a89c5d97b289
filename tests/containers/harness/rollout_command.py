"""`stream-scorer rollout` as a process of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.member import ROOT, wait_until

STEP_SECONDS = 90.0


class RolloutCommand:
    """It may be killed and run again. config: of the new namespace's members."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._log = config.with_suffix(".rollout.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        self._log.write_bytes(b"")
        command = [sys.executable, "-m", "stream_scorer", "rollout", "-c", str(self._config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *options], cwd=ROOT, stdout=log, stderr=log)

    def says(self, text: str) -> None:
        """Returns when it has said so since its start."""

        def said() -> bool:
            assert self._process is not None
            if text in self._log.read_text():
                return True
            assert self._process.poll() is None, self._log.read_text()
            return False

        wait_until(f"rollout: {text}", said, STEP_SECONDS)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ended(self) -> int:
        """The exit status, once it has ended."""
        assert self._process is not None
        return self._process.wait(STEP_SECONDS)
