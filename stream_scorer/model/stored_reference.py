"""The reference that an artefact holds: what live rows and scores are compared with."""

from __future__ import annotations

from stream_scorer.core.drift.reference import DriftReference
from stream_scorer.errors import ArtefactError
from stream_scorer.manifests import MAX_BYTES, parse_json
from stream_scorer.model.artefact import REFERENCE_FILE, Artefact, read_listed
from stream_scorer.model.manifest import TRAIN_AGAIN

NO_REFERENCE = (
    "it has no reference.json, since an earlier release or a program of your own made it: what its "
    "training rows looked like is not known, so drift of features and scores is not measured; "
    "`train` stores one"
)


def stored_reference(loaded: Artefact) -> DriftReference | None:
    """What training's rows and scores looked like; None where the artefact was made without it.

    Raises ArtefactError where the file is missing, altered, or of another model.
    """
    if REFERENCE_FILE not in loaded.manifest.files:
        return None
    content = read_listed(loaded.path, loaded.manifest, REFERENCE_FILE, MAX_BYTES)
    try:
        raw = parse_json(content)
        return DriftReference.from_json(raw, loaded.feature_space(), loaded.layout.categories)
    except ValueError as error:
        remedy = f"{error}; {TRAIN_AGAIN}"
        raise ArtefactError("model", loaded.path / REFERENCE_FILE, remedy) from None
