"""Writes the dashboards as the JSON that Grafana reads, into the folder given, by default
dashboards/ beside this file: `python deploy/grafana/generate.py`. It needs the extra `deploy`."""

from __future__ import annotations

import sys
from pathlib import Path

import model_quality
import operations
from grafana_foundation_sdk.cog.encoder import JSONEncoder


def write(folder: Path) -> None:
    """Write one file for each dashboard, named as the module that describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder = JSONEncoder(indent=2, sort_keys=True)
    for name, board in (
        ("operations", operations.operations(model_quality.UID)),
        ("model_quality", model_quality.model_quality(operations.UID)),
    ):
        text = encoder.encode(board) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards")
