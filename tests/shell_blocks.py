"""The shell blocks of the documents, as a reader would type them.

A comment before each block says where it runs: `<!-- runs: TIER -->`, where TIER is plain
(no server), containers (real Kafka and Redis) or spark; or `<!-- runs: never: REASON -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([*DOCS.glob("tutorial/*.md"), *DOCS.glob("how-to/*.md")])
FIRST = DOCS / "tutorial" / "first-events.md"
TIERS = {"plain", "containers", "spark"}
# The sample is small, and what a page shows does not depend on how long the model was trained.
SHORT_TRAINING = {
    "STREAM_SCORER__TRAINING__MIN_STEPS": "60",
    "STREAM_SCORER__TRAINING__EPOCHS": "1",
    "STREAM_SCORER__TRAINING__AVERAGE_SEEDS": "1",
}


class Block(NamedTuple):
    """tier and reason are empty where the page does not say where the block runs."""

    tier: str
    reason: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    marked = re.compile(
        r"(?:<!-- runs: (\w+)(?:: (.+?))? -->\n)?^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL
    )
    found = marked.findall(page.read_text(encoding="utf-8"))
    return [Block(tier, reason, text) for tier, reason, text in found]


def pages_of(tier: str) -> list[Path]:
    """The pages with a block of this tier; the first tutorial is run before any other page."""
    return [p for p in PAGES if p != FIRST and any(b.tier == tier for b in blocks(p))]


def run(page: Path, tier: str, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a page's blocks of one tier in `folder`, in one shell that stops at the first failure."""
    script = "".join(block.text for block in blocks(page) if block.tier == tier)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, capture_output=True, text=True, timeout=800, check=False,
        env={**os.environ, **SHORT_TRAINING, **(environment or {}), "PATH": programs},
    )  # fmt: skip
    assert ran.returncode == 0, f"{page.name}:\n{script}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout + ran.stderr


def make_shop(folder: Path) -> Path:
    """The folder that the first tutorial leaves: sample events, snapshots, a model."""
    run(FIRST, "plain", folder)
    return folder / "shop"
