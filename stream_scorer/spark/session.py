"""A Spark session for the command line, and Spark's errors in one line.

Under spark-submit everything comes from there. Otherwise Spark starts in this process with the
master that is given, by default local[*]. Workers run this interpreter unless PYSPARK_PYTHON names
another, which must have this package.
"""

# ruff: noqa: PLC0415 - pyspark is an extra

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_scorer.errors import ConfigError, Halt, InputError, SnapshotError, Unavailable

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL = "local[*]"
# In one process driver and executors share a heap, where Spark's own default is tight.
LOCAL_CONF = {
    "spark.driver.memory": "3g",
    "spark.driver.host": "127.0.0.1",
    # Nobody from outside shall reach a driver that runs for one command.
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}


@contextmanager
def session(master: str | None = None, conf: Sequence[str] = ()) -> Iterator[SparkSession]:
    """A session, stopped afterwards. conf: "key=value" of Spark's settings.

    Raises ConfigError where pyspark or Java is missing or a setting is not one, and Unavailable
    where the master does not answer.
    """
    given = dict(_setting(text) for text in conf)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    _check_installed(submitted)
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("stream-scorer")
    settings = {
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
    }
    if master is not None or not submitted:
        builder = builder.master(master or LOCAL)
        if (master or LOCAL).startswith("local"):
            settings |= LOCAL_CONF
    for key, value in (settings | given).items():
        builder = builder.config(key, value)
    try:
        spark = builder.getOrCreate()
    except (PySparkException, _java_error()) as error:
        where = master or "the master that spark-submit names"
        remedy = "check --master and --conf, and that the master runs and has room for one more job"
        raise Unavailable(
            f"Spark did not start at {where}: {_reason(str(error))}", remedy
        ) from None
    try:
        yield spark
    finally:
        spark.stop()


@contextmanager
def errors_in_one_line(what: str, path: object) -> Iterator[None]:
    """What Spark raises in here becomes one line that names `path`.

    InputError for what a worker refused, SnapshotError for a file that can't be read, else Halt.
    """
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, _java_error()) as error:
        text = str(error)
        # An error of ours in a Python worker arrives as text inside a Java exception: its last line
        # counts.
        ours = re.findall(r"^(?:.*: )?stream_scorer\.errors\.\w+: (.+)$", text, re.M)
        if ours:
            refused = InputError(what, path, ours[-1])
            refused.args = (ours[-1],)  # which names field, value and remedy already
            raise refused from None
        # Spark names the file only in the text.
        unread = re.search(r"FAILED_READ_FILE.*?file\s+(\S+?)\.?\s", text)
        if unread:
            remedy = "can't be read, though it was whole when the job began; copy it again"
            raise SnapshotError("snapshot", unread[1], remedy) from None
        raise Halt(f"{what} {path}: {_reason(text)}") from None


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.startswith("spark."):
        raise ConfigError("--conf", text, "write spark.SOMETHING=VALUE")
    return key, value


def _check_installed(submitted: bool) -> None:
    if find_spec("pyspark") is None:
        remedy = "PySpark is not installed: pip install 'stream-scorer[spark]'"
        raise ConfigError("--engine", "spark", remedy)
    java_home = os.environ.get("JAVA_HOME")
    found = (Path(java_home) / "bin/java").exists() if java_home else shutil.which("java")
    if not submitted and not found:
        raise ConfigError("JAVA_HOME", java_home, "Spark needs Java 17; install it, or set this")


def _java_error() -> Any:
    from py4j.protocol import Py4JError

    return Py4JError


def _reason(text: str) -> str:
    """The last cause in a Java stack trace, else its error, else the first line."""
    for pattern in (r"^\s*Caused by: (.+)$", r"^: (.+)$", r"^\s*(\S.*)$"):
        found: list[str] = re.findall(pattern, text, re.M)
        if found:
            return found[0] if pattern.endswith(r"(\S.*)$") else found[-1]
    return "no reason given"
