"""The model artefact: a directory with a symbol, parameters and a manifest.

    model-symbol.json   the network, in MXNet's format: input `data` (B, F), output (B, N, C)
    model-0000.params   its parameters, in MXNet's format (params_file.py)
    golden-batch.params a few rows and their scores (golden_batch.py), where training stored them
    card.json           the model's card (core/evaluation/model_card.py), where training wrote one
    card.html           the same as a page
    reference.json      what training's rows and scores looked like (core/drift/reference.py), where
                        training stored it
    manifest.json       what they are for (manifest.Manifest), and the SHA-256 of the others

A directory appears under its name whole or not at all (atomic.py). Loading checks every byte
against the manifest before anything is used, and then what the parts say against each other: right
checksums are no proof that they belong together. Nothing is pickled, so loading runs no code of the
artefact. MXNet is not needed to read or write one.

The golden batch, the card and the reference change no score, so they are no part of the model's
version, and whoever only scores needs them not: `load` leaves them alone, `golden_batch` and `card`
read them, and `stored_reference` (stored_reference.py).
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_scorer.atomic import NewFolder
from stream_scorer.core.drift.reference import DriftReference
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import MALFORMED, FeatureSpace
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import (
    ArtefactError,
    ConfigError,
    FingerprintMismatch,
    cannot_read,
    cannot_write,
)
from stream_scorer.manifests import MAX_BYTES, checksum, parse_json, read_file
from stream_scorer.model import golden_batch as golden_batches
from stream_scorer.model import params_file, symbol_file
from stream_scorer.model.manifest import FORMAT, TRAIN_AGAIN, Manifest
from stream_scorer.model.spec import Layout, NetworkSpec
from stream_scorer.storage.places import Place
from stream_scorer.storage.uploads import UNFINISHED, UNFINISHED_REMEDY

SYMBOL_FILE = "model-symbol.json"
PARAMS_FILE = "model-0000.params"
GOLDEN_FILE = "golden-batch.params"
CARD_JSON, CARD_HTML = "card.json", "card.html"
REFERENCE_FILE = "reference.json"
MANIFEST_FILE = "manifest.json"
# Those that scoring needs.
FILES = (MANIFEST_FILE, SYMBOL_FILE, PARAMS_FILE)
VERSION_DIGITS = 16


@dataclass(frozen=True)
class TrainedModel:
    """A model before it is saved. parameters: as `Layout.shapes`, float32."""

    space: FeatureSpace
    labels: LabelRule
    category_index: Int64
    network: NetworkSpec
    parameters: Mapping[str, npt.NDArray[np.float32]]
    symbol_json: str
    calibration: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artefact:
    """A checked artefact. parameters: as `Layout.shapes`, float32, read-only."""

    path: Place
    manifest: Manifest
    layout: Layout
    parameters: Mapping[str, npt.NDArray[np.float32]]
    symbol_json: str

    @property
    def fingerprint(self) -> int:
        """Of the feature declaration that it was trained on."""
        return int(self.manifest.fingerprint, 16)

    def feature_space(self) -> FeatureSpace:
        """The feature declaration that it was trained on."""
        return FeatureSpace.from_declaration(self.manifest.features)


def unsaved(model: TrainedModel) -> Artefact:
    """`model` as an engine takes it, before it is saved. It has no path and no checksums."""
    layout = Layout.of(model.space, model.labels, model.category_index)
    parameters = {
        name: np.asarray(model.parameters[name], np.float32)
        for name in layout.shapes(model.network)
    }
    manifest = _manifest(model, {}, {})
    return Artefact(Path("(not saved)"), manifest, layout, parameters, model.symbol_json)


def save(
    model: TrainedModel,
    path: Place,
    training: Mapping[str, Any] | None = None,
    golden: golden_batches.GoldenBatch | None = None,
    card: Callable[[str], tuple[bytes, bytes]] | None = None,
    reference: DriftReference | None = None,
) -> Manifest:
    """Write `model` to the new directory `path`, whole or not at all; its manifest.

    training: more facts about the training data, for people. golden: rows, and their scores by this
    model. card: of the model's version, the card's JSON and its page. reference: what live rows and
    scores are compared with. Raises ArtefactError where `path` exists or can't be written.
    """
    if path.exists():
        raise ArtefactError("model", path, "already exists; choose another path or delete it")
    layout = Layout.of(model.space, model.labels, model.category_index)
    # In the layout's order, so that the same parameters are the same bytes and so the same version.
    ordered = {name: model.parameters[name] for name in layout.shapes(model.network)}
    contents = {
        SYMBOL_FILE: model.symbol_json.encode(),
        PARAMS_FILE: params_file.write(ordered),
    }
    if golden is not None:
        contents[GOLDEN_FILE] = golden_batches.to_bytes(golden)
    if reference is not None:
        contents[REFERENCE_FILE] = (json.dumps(reference.as_json()) + "\n").encode()
    manifest = _manifest(model, {n: _sha256(c) for n, c in contents.items()}, training or {})
    if card is not None:
        contents[CARD_JSON], contents[CARD_HTML] = card(manifest.model_version)
        manifest = replace(manifest, files={n: _sha256(c) for n, c in contents.items()})
    raw = manifest.to_dict()
    # Sorted keys and ASCII are part of the format: the Java reader computes the checksum from this
    # text without its white space.
    text = json.dumps({**raw, "checksum": checksum(raw)}, indent=1, sort_keys=True)
    contents[MANIFEST_FILE] = (text + "\n").encode()
    try:
        with NewFolder(path) as folder:
            for name, content in contents.items():
                (folder.work / name).write_bytes(content)
            folder.publish()
    except OSError as error:
        raise ArtefactError("model", path, cannot_write(error)) from None
    return manifest


def load(path: Place, expected_fingerprint: int | None = None) -> Artefact:
    """Read and check the artefact in `path`.

    Raises ArtefactError where something is missing, altered or from the future, and
    FingerprintMismatch where it was trained on other features than `expected_fingerprint`.
    """
    manifest = _read_manifest(path)
    layout = _layout(path, manifest)
    shapes = _shapes(path, manifest, layout)
    # Read once: what is parsed below are the bytes that were checked, even if a file is replaced
    # meanwhile.
    symbol = read_listed(path, manifest, SYMBOL_FILE, symbol_file.MAX_BYTES)
    content = read_listed(path, manifest, PARAMS_FILE, params_file.most_bytes(shapes))
    wanted = None if expected_fingerprint is None else f"{expected_fingerprint:016x}"
    if wanted is not None and wanted != manifest.fingerprint:
        remedy = (
            f"this configuration's features have {wanted}: use the model's own features, or replay "
            "into a new namespace and train on its snapshots"
        )
        raise FingerprintMismatch(f"model {path}: fingerprint", manifest.fingerprint, remedy)
    parameters = _parameters(path, manifest, shapes, content)
    try:
        symbol_file.check(symbol, layout, manifest.network)
    except symbol_file.SymbolFileError as error:
        remedy = f"{error}; train the model again"
        raise ArtefactError("model", path / SYMBOL_FILE, remedy) from None
    return Artefact(path, manifest, layout, parameters, symbol.decode())


def golden_batch(loaded: Artefact) -> golden_batches.GoldenBatch | None:
    """The artefact's golden batch; None where it was made without one.

    Raises ArtefactError where the file is missing, altered, or of another model.
    """
    manifest, path = loaded.manifest, loaded.path
    if GOLDEN_FILE not in manifest.files:
        return None
    most_bytes = golden_batches.most_bytes(loaded.layout)
    content = read_listed(path, manifest, GOLDEN_FILE, most_bytes)
    try:
        return golden_batches.from_bytes(content, loaded.layout)
    except params_file.ParamsFileError as error:
        raise ArtefactError("model", path / GOLDEN_FILE, f"{error}; {TRAIN_AGAIN}") from None


def card(loaded: Artefact) -> dict[str, Any] | None:
    """What the artefact's card says; None where it was made without one. Its page is read as well.

    Raises ArtefactError where a file is missing or altered, or the card is of another model.
    """
    manifest, path = loaded.manifest, loaded.path
    if CARD_JSON not in manifest.files and CARD_HTML not in manifest.files:
        return None
    content = read_listed(path, manifest, CARD_JSON, MAX_BYTES)
    read_listed(path, manifest, CARD_HTML, MAX_BYTES)
    try:
        said = parse_json(content)
    except ValueError as error:
        raise ArtefactError("model", path / CARD_JSON, f"{error}; {TRAIN_AGAIN}") from None
    of = said.get("model_version") if isinstance(said, dict) else None
    if not isinstance(said, dict) or of != manifest.model_version:
        remedy = f"it is not the card of model {manifest.model_version}; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / CARD_JSON, remedy)
    return said


def model_version(path: Place) -> str:
    """The version that the manifest in `path` says; its other files are not read.

    Raises ArtefactError.
    """
    return _read_manifest(path).model_version


def manifest_sha256(path: Place) -> str:
    """SHA-256 of the manifest's bytes in `path`, which hold those of all other files.

    Raises ArtefactError.
    """
    return _sha256(_read(path / MANIFEST_FILE, MAX_BYTES))


def _manifest(model: TrainedModel, files: dict[str, str], training: Mapping[str, Any]) -> Manifest:
    words = model.space.vocabularies[model.labels.by]
    unnamed = Manifest(
        format=FORMAT,
        model_version="",
        fingerprint=model.space.fingerprint_hex,
        features=model.space.declaration(),
        categories=tuple(words[i] for i in model.category_index.tolist()),
        category_index=tuple(model.category_index.tolist()),
        labels=model.labels,
        classes=model.labels.classes,
        network=model.network,
        training={**model.training, **training},
        versions=_code_versions(),
        metrics=dict(model.metrics),
        calibration=dict(model.calibration),
        files=files,
    )
    return replace(unnamed, model_version=_version(unnamed))


def _version(manifest: Manifest) -> str:
    """A hash of all that changes a score or its meaning."""
    raw = manifest.to_dict()
    names = ("format", "fingerprint", "categories", "category_index", "labels", "network", "files")
    meaning = {name: raw[name] for name in names}
    meaning["files"] = {name: manifest.files[name] for name in FILES if name in manifest.files}
    text = json.dumps(meaning, sort_keys=True)
    return _sha256(text.encode())[:VERSION_DIGITS]


def _code_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("stream-scorer", "mxnet", "numpy", "scipy"):
        try:
            versions[package] = version(package)
        # MXNet need not be installed to save an artefact.
        except PackageNotFoundError:
            continue
    return versions


def _layout(path: Place, manifest: Manifest) -> Layout:
    """What the network answers, checked against the rest of the manifest."""
    try:
        # The checksum finds damage, not a manifest that was edited and given a new one. So what its
        # parts say is compared.
        space = FeatureSpace.from_declaration(manifest.features)
        index = np.array(manifest.category_index, np.int64)
        layout = Layout.of(space, manifest.labels, index)
        words = space.vocabularies[manifest.labels.by]
        if min(manifest.category_index, default=0) < 0:
            raise IndexError(f"category_index has {min(manifest.category_index)}")
        named = tuple(words[i] for i in manifest.category_index)
    except MALFORMED as error:
        remedy = f"contradicts itself: {error}; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / MANIFEST_FILE, remedy) from None
    if manifest.classes != manifest.labels.classes:
        classes = f"classes is {manifest.classes}, its labels have {manifest.labels.classes}"
        remedy = f"contradicts itself: {classes}; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / MANIFEST_FILE, remedy)
    if space.fingerprint_hex != manifest.fingerprint or named != manifest.categories:
        remedy = f"features, categories and fingerprint do not belong together; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / MANIFEST_FILE, remedy)
    if not named or len(set(named)) != len(named):
        remedy = f"its categories are none, or one stands twice; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / MANIFEST_FILE, remedy)
    return layout


def _shapes(path: Place, manifest: Manifest, layout: Layout) -> dict[str, tuple[int, ...]]:
    try:
        return layout.shapes(manifest.network)
    except ConfigError as error:
        remedy = f"contradicts itself: {error}; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / MANIFEST_FILE, remedy) from None


def _parameters(
    path: Place, manifest: Manifest, shapes: Mapping[str, tuple[int, ...]], content: bytes
) -> dict[str, npt.NDArray[np.float32]]:
    """The parameters, checked against the network's shapes and the manifest."""
    where = path / PARAMS_FILE
    try:
        parameters = params_file.read(content)
    except params_file.ParamsFileError as error:
        raise ArtefactError("model", where, f"{error}; train the model again") from None
    found = {name: array.shape for name, array in parameters.items()}
    if found != shapes:
        odd = sorted(n for n in {*found, *shapes} if found.get(n) != shapes.get(n))[0]
        if odd not in shapes:
            problem = f"it has a parameter {odd[:60]!r}, which the network has not"
        elif odd not in found:
            problem = f"it has no {odd}"
        else:
            problem = f"{odd} has the shape {_shape(found[odd])}, not {_shape(shapes[odd])}"
        raise ArtefactError("model", where, f"{problem}; train the model again")
    for name, array in parameters.items():
        if not np.isfinite(array).all():
            remedy = f"{name} has values that are not finite numbers; train the model again"
            raise ArtefactError("model", where, remedy)
    # The symbol takes categories from the parameters and the native engine from the manifest, so
    # where they differ the two would score different categories under the same names.
    stored = parameters.get("category_index")
    if stored is not None and stored.tolist() != list(manifest.category_index):
        remedy = "category_index is not the manifest's; train the model again"
        raise ArtefactError("model", where, remedy)
    return parameters


def _shape(shape: tuple[int, ...]) -> str:
    """(2, 3) as "2 x 3"."""
    return " x ".join(map(str, shape))


def _read_manifest(path: Place) -> Manifest:
    where = path / MANIFEST_FILE
    try:
        raw = parse_json(_read(where, MAX_BYTES))
    except ValueError as error:
        remedy = f"{error}; {TRAIN_AGAIN}"
        raise ArtefactError("model", where, remedy) from None
    # Before the checksum: a newer format may compute it in another way, and its remedy is to
    # upgrade.
    manifest = Manifest.from_dict(raw, str(where))
    if raw.pop("checksum", None) != checksum(raw):
        remedy = f"was altered after it was written; {TRAIN_AGAIN}"
        raise ArtefactError("model", where, remedy)
    return manifest


def read_listed(path: Place, manifest: Manifest, name: str, max_bytes: int) -> bytes:
    """A file's bytes, compared with the manifest's SHA-256. Raises ArtefactError."""
    if name not in manifest.files:
        remedy = f"the manifest does not list {name}; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / MANIFEST_FILE, remedy)
    content = _read(path / name, max_bytes)
    if _sha256(content) != manifest.files[name]:
        remedy = f"its SHA-256 is not the manifest's; {TRAIN_AGAIN}"
        raise ArtefactError("model", path / name, remedy)
    return content


def _read(path: Place, max_bytes: int) -> bytes:
    try:
        return read_file(path, max_bytes)
    except ValueError as error:
        raise ArtefactError("model", path, f"{error}; {TRAIN_AGAIN}") from None
    except FileNotFoundError:
        if not path.parent.exists():
            remedy = "there is no model; `stream-scorer doctor` says how to make the first one"
            raise ArtefactError("model", path.parent, remedy) from None
        if (path.parent / UNFINISHED).exists():
            raise ArtefactError("model", path.parent, UNFINISHED_REMEDY) from None
        if path.name == MANIFEST_FILE:
            remedy = f"is no model: it has no {MANIFEST_FILE}; name the folder that `train` wrote"
            if (path.parent / "_manifest.json").exists():
                remedy = "is a snapshot, and no model; give the model first, then snapshots"
            raise ArtefactError("model", path.parent, remedy) from None
        raise ArtefactError("model", path, f"is missing; {TRAIN_AGAIN}") from None
    except OSError as error:
        raise ArtefactError("model", path, cannot_read(error)) from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
