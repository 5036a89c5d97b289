"""Artefacts whose golden batch was exchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from stream_scorer.manifests import checksum
from stream_scorer.model import artefact
from stream_scorer.model.golden_batch import GoldenBatch, to_bytes


def with_other_golden(
    path: Path, change: Callable[[GoldenBatch], GoldenBatch]
) -> artefact.Artefact:
    """The artefact with another golden batch, and a manifest that is right about it."""
    loaded = artefact.load(path)
    batch = artefact.golden_batch(loaded)
    assert batch is not None
    content = to_bytes(change(batch))
    (path / artefact.GOLDEN_FILE).write_bytes(content)
    file = path / artefact.MANIFEST_FILE
    raw = json.loads(file.read_text())
    raw.pop("checksum")
    raw["files"][artefact.GOLDEN_FILE] = artefact._sha256(content)
    file.write_text(json.dumps({**raw, "checksum": checksum(raw)}))
    return artefact.load(path)
