"""`stream-scorer run --processes`: a supervisor of several members, with one address for all."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from stream_scorer.io.merged_exposition import merged_exposition
from stream_scorer.io.telemetry.log_lines import log_to_stderr
from stream_scorer.io.telemetry.supervisor_metrics import SupervisorMetrics
from stream_scorer.live.stop import Stop
from stream_scorer.live.warming import compile_where_missing
from stream_scorer.processes.member import check_names
from stream_scorer.processes.member_process import MemberProcess
from stream_scorer.processes.supervisor import Supervisor
from stream_scorer.settings.tree import Settings
from stream_scorer.web.service import listening_service

log = logging.getLogger(__name__)


def supervise(settings: Settings, config: Path | None, processes: int, stop: Stop) -> int:
    """Keep so many members running until SIGTERM, SIGINT or `stop`; the exit status.

    config: the file that `settings` come from, which each member reads itself. Raises ConfigError.
    """
    check_names(settings, processes)
    log_to_stderr(settings.telemetry.log_level, settings.telemetry.log_format)
    command = [sys.executable, "-m", "stream_scorer", "run"]
    if config is not None:
        command += ["-c", str(config)]
    metrics = SupervisorMetrics()

    def start(number: int, now: float) -> MemberProcess:
        return MemberProcess(command, number, processes, now)

    def shown(accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        return merged_exposition(metrics.registry, supervisor.texts(), accept, names)

    supervisor = Supervisor(start, processes, stop, metrics, time.monotonic, random.random)
    status = 0
    with ExitStack() as closing, stop.on_signals(starting=True):
        web = listening_service(settings, version("stream-scorer"), supervisor, shown)
        if web is not None:
            closing.callback(web.close)
        compile_where_missing(log.info)  # here, where all cores are this process's
        stop.started(supervisor.kill)
        closing.callback(supervisor.kill)  # after an error of this process, too
        status = supervisor.run(time.sleep)
    return status
