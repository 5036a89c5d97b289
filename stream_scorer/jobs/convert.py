"""`stream-scorer models convert`: the network of an artefact as one ONNX file.

The file is for programs that read ONNX; our own engine `onnx` needs none. Before it is written ONNX
Runtime scores the artefact's golden batch with it, as training did to 1e-5. Where a model has no
golden batch, drawn rows are compared with the native engine's scores.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from stream_scorer.atomic import write_file
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ArtefactError, InputError, cannot_write
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, open_engine
from stream_scorer.model.engines.golden import NO_GOLDEN_BATCH, TOLERANCE, check_golden_batch
from stream_scorer.result import Result
from stream_scorer.storage.places import Place

ONNX = "onnx"
DRAWN_ROWS, DRAWN_ENTRIES = 64, 100


@dataclass(frozen=True)
class ConvertedModel(Result):
    """file: what was written, of so many bytes. golden_batch: whether it was compared with the
    scores that training stored, else with the native engine's of drawn rows.
    """

    model: str
    model_version: str
    file: str
    bytes: int
    sha256: str
    golden_batch: bool


def convert(model: Place, to: str, out: Place) -> ConvertedModel:
    """Write `model` to the new file `out` in the format `to`; nothing where its scores differ.

    Raises InputError, ArtefactError, and ConfigError where the packages are not installed.
    """
    if to != ONNX:
        raise InputError("--to", to, f"the only format is {ONNX}")
    if out.exists():
        raise InputError("--out", out, "already exists; choose another path or delete it")
    loaded = artefact.load(model)
    from stream_scorer.model import onnx_file  # noqa: PLC0415 - of an extra
    from stream_scorer.model.engines.onnx import OnnxEngine  # noqa: PLC0415

    content = onnx_file.to_bytes(loaded)
    engine = OnnxEngine(loaded, content=content)
    golden_batch = check_golden_batch(engine, loaded)
    if not golden_batch:
        _compare_drawn_rows(engine, loaded)
    try:
        write_file(out, content)
    except OSError as error:
        raise InputError("--out", out, cannot_write(error)) from None
    return ConvertedModel(
        str(model), loaded.manifest.model_version, str(out), len(content),
        hashlib.sha256(content).hexdigest(), golden_batch,
    )  # fmt: skip


def in_words(found: ConvertedModel) -> list[str]:
    """What was written, for people."""
    lines = [
        f"{found.file}: {found.bytes:,} bytes, model version {found.model_version}; scores as "
        f"{'training stored them' if found.golden_batch else 'the native engine does'}, to "
        f"{TOLERANCE:g}",
        f"SHA-256 {found.sha256}",
    ]
    return lines if found.golden_batch else [*lines, f"{found.model}: {NO_GOLDEN_BATCH}"]


def _compare_drawn_rows(engine: Engine, loaded: artefact.Artefact) -> None:
    columns = loaded.layout.columns
    entries = min(DRAWN_ENTRIES, columns)
    draw = np.random.default_rng(0)
    rows = sparse.random(DRAWN_ROWS, columns, entries / columns, "csr", np.float32, draw)
    native, layout = open_engine(loaded, "native"), loaded.layout
    if layout.contrasts:
        rows.data[np.isin(rows.indices, layout.trend)] = 0  # days come with the table
        flat = np.zeros((1, layout.contrasts, layout.vocabulary), np.float32)
        for one in (engine, native):
            one.use_trend(TrendTable(0, flat))
    difference = engine.score(rows) - native.score(rows)
    worst = float(np.abs(difference).max())
    if not worst <= TOLERANCE:
        found = f"ONNX Runtime and the native engine differ by up to {worst:.2g}"
        remedy = f"{found} (allowed: {TOLERANCE:g}), so nothing was written; report this"
        raise ArtefactError("model", loaded.path, remedy)
