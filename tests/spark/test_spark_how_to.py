"""The how-tos that need Spark, on a local one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import shell_blocks

pytestmark = pytest.mark.spark


def test_the_how_tos_run_as_they_are_written(installed: None, tmp_path: Path) -> None:
    shop = shell_blocks.make_shop(tmp_path)
    for page in shell_blocks.pages_of("spark"):
        shell_blocks.run(page, "spark", shop, {"PYSPARK_PYTHON": sys.executable, **os.environ})
    assert (shop / "scores-spark" / "_SUCCESS").exists()
