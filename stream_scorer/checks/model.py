"""What `stream-scorer doctor` says of the model: whether there is one, can be scored here, and is
for this config; and for a shop that has none yet, how to get one."""

from __future__ import annotations

from collections.abc import Iterator

from stream_scorer.checks.finding import Finding
from stream_scorer.core.drift.reference import AFTER_EVENTS
from stream_scorer.core.features.space import DAY_MS
from stream_scorer.errors import ArtefactError, InputError, Unavailable
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import engines_here
from stream_scorer.model.stored_reference import stored_reference
from stream_scorer.model.trained_moments import REMEDY, moments_it_lacks
from stream_scorer.settings.tree import Settings


def model_findings(settings: Settings) -> Iterator[Finding]:
    """The engine, the model at model.path, and whether it is for this config."""
    engine = settings.model.engine
    if engine not in engines_here():
        remedy = 'set model.engine = "native": it gives the same scores'
        if engine == "onnx":
            remedy = f"pip install 'stream-scorer[onnx]', or {remedy}"
        yield Finding("engine", f"{engine} is not installed for this Python", remedy)
    path = settings.model.path
    try:
        if not path.exists() and not path.is_symlink():
            yield Finding("model", f"there is none at {path} yet", first_model(settings))
            return
        wanted = settings.feature_space().fingerprint if settings.features else None
        loaded = artefact.load(path, wanted)
    except InputError as error:
        yield Finding("model", f"{error.field}: {error.value}", error.remedy)
        return
    except Unavailable as error:  # of object storage
        yield Finding("model", error.found, error.remedy)
        return
    manifest = loaded.manifest
    found = f"version {manifest.model_version}, {len(manifest.categories)} categories"
    yield Finding("model", f"{found}, engine {engine}")
    if settings.features:
        yield from _labels(settings, loaded)
    yield from _reference(settings, loaded)
    lacks = moments_it_lacks(manifest.training, refreshes=settings.refresh.every_ms > 0)
    if lacks is not None:
        yield Finding("training rows", lacks, REMEDY, warning=True)


def _reference(settings: Settings, loaded: artefact.Artefact) -> Iterator[Finding]:
    """What drift is measured against, where it is measured."""
    if not settings.drift.one_in:
        return
    check = "reference of drift"
    try:
        reference = stored_reference(loaded)
    except ArtefactError as error:
        yield Finding(check, f"{error.field}: {error.value}", error.remedy)
        return
    if reference is None:
        yield Finding(
            check,
            "the model has no reference.json, so drift of features and scores is not measured, and "
            "no alert of it can fire",
            "train again with this release (`train SNAPSHOTS -c FILE --out DIR`), which stores it, "
            "and activate that model; or set drift.one_in = 0",
            warning=True,
        )
    elif AFTER_EVENTS not in (reference.rows_of, reference.scored_rows_of):
        yield Finding(
            check, "too few of its rows stand just after events, as live ones do, so that drift of "
            "features and scores is shown and not judged",
            "make the labelled rows with `replay --rows-at both`, or of a whole period, and train "
            "again", warning=True,
        )  # fmt: skip
    else:
        yield Finding(check, f"{reference.rows:,} rows, scores of {reference.scores_of}")


def first_model(settings: Settings) -> str:
    """How to get a model where there is none: one step a line."""
    horizon, path = settings.labels.horizon, settings.model.path
    return "\n".join(
        (
            "make one of past events, as files or in the input topic (EVENTS: paths, or `topic`):",
            "1. stream-scorer publish FILES -c FILE   (only where the events are not in Kafka yet)",
            "2. stream-scorer replay EVENTS -c FILE --out train --cutoffs TIME,TIME",
            "3. stream-scorer replay EVENTS -c FILE --out validation --cutoffs TIME",
            f"   (a TIME is such as 2026-11-02T00:00Z; each at least {horizon} before the newest "
            f"event, and that of step 3 at least {horizon} after the last one of step 2)",
            f"4. stream-scorer train train --validation validation -c FILE --out {path}",
            "then run. Members that run already get it by `stream-scorer models activate DIR "
            "-c FILE`. `stream-scorer init DIR` writes sample events to try all this with",
        )
    )


def _labels(settings: Settings, loaded: artefact.Artefact) -> Iterator[Finding]:
    """Whether the model predicts what [labels] says. Its categories are part of the fingerprint."""
    try:
        rule = settings.label_rule()
    except InputError:
        return  # said by the check of the features
    check, learnt = "model and [labels]", loaded.manifest.labels
    remedy = "train a model with this config, or set [labels] to what the model has learnt"
    for what, ours, theirs in (
        ("the field of the categories (labels.by)", rule.by, learnt.by),
        ("the actions (labels.actions)", rule.actions, learnt.actions),
        (
            "the horizon in days (labels.horizon)",
            rule.horizon_ms / DAY_MS,
            learnt.horizon_ms / DAY_MS,
        ),
    ):
        if ours != theirs:
            found = f"{what}: the model was trained for {_plain(theirs)}, the config has "
            yield Finding(check, f"{found}{_plain(ours)}", remedy)


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " < ".join("|".join(group) for group in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
