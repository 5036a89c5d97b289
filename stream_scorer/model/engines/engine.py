"""What every engine is, and the choice of one: that which the settings name.

MXNet and ONNX Runtime are imported only where they are chosen, so that the rest works without them.
"""

# ruff: noqa: PLC0415 - an engine's module is imported when it is chosen

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, Protocol, get_args, runtime_checkable

from scipy import sparse

from stream_scorer.core.features.state import Float32
from stream_scorer.core.propensities import Entries, PublishPolicy, select
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError
from stream_scorer.model.artefact import Artefact

EngineName = Literal["mxnet", "native", "onnx"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PACKAGES: dict[EngineName, tuple[str, ...]] = {
    "mxnet": ("mxnet",), "native": (), "onnx": ("onnx", "onnxruntime"),
}  # fmt: skip


class Engine(Protocol):
    """Scores (B, F) float32 CSR to (B, N, C) float32; N `categories`, C `classes`.

    use_trend gives the shop's trend from then on, for models that have it; others ignore it.
    """

    categories: tuple[str, ...]
    classes: int
    model_version: str
    fingerprint: int

    def use_trend(self, table: TrendTable) -> None: ...
    def score(self, matrix: sparse.csr_matrix) -> Float32: ...
    def warm_up(self, batch_rows: int) -> None: ...


@runtime_checkable
class ChoosingEngine(Engine, Protocol):
    """An engine that finds what is published without writing every score out."""

    def score_chosen(self, matrix: sparse.csr_matrix, policy: PublishPolicy) -> Entries: ...


def score_chosen(engine: Engine, matrix: sparse.csr_matrix, policy: PublishPolicy) -> Entries:
    """What of the scores of (B, F) float32 CSR is published, by mode top_k or threshold.

    It is the same, bit for bit, whether the engine chooses or its scores are chosen from. Raises as
    the engine's `score`.
    """
    if isinstance(engine, ChoosingEngine):
        return engine.score_chosen(matrix, policy)
    return select(engine.score(matrix), policy)


def engine_name(given: str) -> EngineName:
    """`given`, if it names an engine; else raises InputError."""
    if given in ENGINES:
        return given
    raise InputError("model engine", given, f"choose {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")


def engines_here() -> tuple[EngineName, ...]:
    """The engines whose packages are installed; MXNet has no wheel for every machine, and ONNX
    Runtime is an extra."""
    return tuple(name for name in ENGINES if all(find_spec(p) is not None for p in PACKAGES[name]))


def open_engine(artefact: Artefact, name: EngineName, threads: int | None = None) -> Engine:
    """The engine `name` on a checked artefact.

    threads: of native and onnx, None for as many as this process has cores; MXNet takes
    OMP_NUM_THREADS. Raises ConfigError where the engine's packages can't be imported, and
    ArtefactError where the symbol, which MXNet scores, is not that of the manifest's network, or
    where the network is too large for ONNX.
    """
    if name == "native":
        from stream_scorer.model.engines.native import NativeEngine

        return NativeEngine(artefact, threads)
    if name == "onnx":
        from stream_scorer.model.engines.onnx import OnnxEngine

        return OnnxEngine(artefact, threads)
    from stream_scorer.model.engines.mxnet import MxnetEngine

    return MxnetEngine(artefact)
