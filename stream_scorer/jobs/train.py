"""`stream-scorer train`: labelled snapshots into a model artefact.

Snapshots are checked byte by byte and against the config before training starts; they are then read
a shard at a time. The share of rows that acted on each category, the prior, goes into the manifest:
`evaluate` measures the model against it. A few rows and their scores go into the artefact's golden
batch: whoever is about to serve the model compares them with scores of its own. The model's card
says what it was made of, what was left out, and how good it is on the validation rows; what was
left out is also part of the result. What the rows and their scores looked like goes into the
artefact's reference: `run` compares with it what it scores.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from stream_scorer.core.evaluation.model_card import CardSource
from stream_scorer.core.evaluation.training_data import (
    NO_CUSTOMER,
    KindedRows,
    LeftOutCategory,
)
from stream_scorer.core.features.ignored_values import UNKNOWN_WORD
from stream_scorer.core.labels.sampled_moments import CUTOFF
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ArtefactError
from stream_scorer.io.files.labelled_snapshots import open_labelled, samples_of
from stream_scorer.io.files.snapshot_info import LeftOut
from stream_scorer.io.files.snapshots import Shards
from stream_scorer.model import artefact
from stream_scorer.model.engines.card import RowsOfCard, card_of
from stream_scorer.model.engines.golden import golden_batch_of
from stream_scorer.model.engines.reference import reference_for
from stream_scorer.model.trained_moments import REMEDY, moments_it_lacks, trained_moments
from stream_scorer.model.trend_span import trend_span_warning
from stream_scorer.progress import progress
from stream_scorer.reports import model_card
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place

NAMED = 10  # categories of those left out that the text lists
OTHER_RULE = "its labels follow another rule than [labels] in the config; replay again"


@dataclass(frozen=True)
class Trained(Result):
    """The new artefact. validation_log_loss: None without validation snapshots. left_out: by
    snapshot, what its events lacked when it was made; only of snapshots that lacked any.
    event_rows, quiet_rows: of `rows`, those just after events and those where a refresh scores; the
    others stand at cut-offs. warning: what will be scored although no row was like it, with the
    remedy. trend_warning: that the rows lie too close together for the shop's trend, with the
    remedy. categories_left_out: entries of the vocabulary that the model does not know, since fewer
    than min_customers training customers acted on them; labels_left_out: labels of rows that are of
    these. columns: of the features; columns_without_value: in which no training row has a value;
    features_without_value: those of which no column has. rows_without_weight: of `rows`, those that
    weigh 0, and so teach nothing. customers: whose rows they are. averaged_seeds: the model is the
    mean of so many networks. erased_rows: of the snapshots, validation included, that were left out
    since their customers were forgotten on request; kinds of rows are counted with them. samples:
    of training snapshots that are of a sample of customers, by path, of which share.
    """

    model: str
    model_version: str
    rows: int
    categories: int
    validation_log_loss: float | None
    seconds: float
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    event_rows: int = 0
    warning: str | None = None
    trend_warning: str | None = None
    quiet_rows: int = 0
    customers: int = 0
    min_customers: int = 1
    categories_left_out: tuple[LeftOutCategory, ...] = ()
    labels_left_out: int = 0
    columns: int = 0
    columns_without_value: int = 0
    features_without_value: tuple[str, ...] = ()
    rows_without_weight: int = 0
    averaged_seeds: int = 1
    erased_rows: int = 0
    samples: Mapping[str, str] = field(default_factory=dict)


def train(
    settings: Settings, snapshots: Sequence[Place], out: Place, *, validation: Sequence[Place] = ()
) -> Trained:
    """Train on `snapshots` and write the new directory `out`.

    validation: later snapshots, to stop by and to calibrate on. Raises ArtefactError where `out`
    exists or can't be written, SnapshotError and FingerprintMismatch for unfit snapshots.
    """
    from stream_scorer.model import training, training_loop  # noqa: PLC0415 - imports MXNet

    started = time.monotonic()
    # Before the work, which may take long.
    if out.exists():
        raise ArtefactError("--out", out, "already exists; choose another path or delete it")
    space, rule = settings.feature_space(), settings.label_rule()
    erased = settings.erased_customers
    shards = open_labelled(snapshots, space.fingerprint, rule, OTHER_RULE, erased)
    held_out = None
    if validation:
        held_out = open_labelled(validation, space.fingerprint, rule, OTHER_RULE, erased)
    trend = shards.trend()
    validation_trend = None if held_out is None else held_out.trend()
    steps = 0
    with progress("training") as meter:

        def report_step(step: training_loop.Progress) -> None:
            nonlocal steps
            steps = step.step
            meter.at(steps, step.steps)

        model = training.train(
            shards, held_out, space, rule, settings.training, report_step,
            trend=trend, validation_trend=validation_trend,
        )  # fmt: skip
        meter.at(steps, steps)  # fewer than planned where it stopped early
    # Snapshots that do not say it are of a version that wrote rows as of cut-offs alone.
    found = [m for m in (snapshot.info.row_moments for snapshot in shards.snapshots) if m]
    event_rows = sum(moments.event_rows for moments in found)
    quiet_rows = sum(moments.quiet_rows for moments in found)
    rows = int(model.training["rows"])
    of_training = _rows_of_card(shards, trend)
    of_validation = None if held_out is None else _rows_of_card(held_out, validation_trend)
    with progress("model card") as meter:
        least = settings.training.min_customers
        card, prior = card_of(model, of_training, of_validation, least)
        reference = reference_for(
            model, card, of_training, of_validation, *_events_of_training(shards)
        )
        meter.at(1, 1)
    about = {
        # Kinds of rows are counted by the manifests, which know of no row that is left out here.
        **trained_moments(max(rows - event_rows - quiet_rows, 0), event_rows, quiet_rows),
        "snapshots": [str(path.resolve()) for path in snapshots],
        "validation_snapshots": [str(path.resolve()) for path in validation],
        "prior": prior.tolist(),
    }
    # Of validation where there is any: rows that the parameters were not fitted to.
    golden = golden_batch_of(model, held_out or shards, validation_trend or trend)
    manifest = artefact.save(model, out, about, golden, model_card.writer(card), reference)
    loss = model.metrics.get("validation_log_loss")
    lacks = moments_it_lacks(about, refreshes=settings.refresh.every_ms > 0)
    return Trained(
        model=str(out),
        model_version=manifest.model_version,
        rows=rows,
        categories=len(model.category_index),
        validation_log_loss=None if loss is None or math.isnan(loss) else float(loss),
        seconds=round(time.monotonic() - started, 3),
        left_out={
            str(snapshot.path): snapshot.info.left_out
            for one in (shards, held_out)
            for snapshot in (one.snapshots if one else ())
            if snapshot.info.left_out != LeftOut()
        },
        event_rows=event_rows,
        warning=None if lacks is None else f"{lacks}; {REMEDY}",
        trend_warning=trend_span_warning(space, shards.weeks_ms()),
        quiet_rows=quiet_rows,
        customers=card.training.customers,
        min_customers=card.min_customers,
        erased_rows=sum(
            snapshot.erased_rows
            for one in (shards, held_out)
            for snapshot in (one.snapshots if one else ())
        ),
        categories_left_out=card.left_out,
        labels_left_out=card.labels_left_out,
        columns=card.columns,
        columns_without_value=card.columns_without_value,
        features_without_value=card.features_without_value,
        rows_without_weight=card.training.without_weight,
        averaged_seeds=int(model.training["averaged_seeds"]),
        samples=samples_of(shards),
    )


def in_words(trained: Trained) -> list[str]:
    """The result for people."""
    loss = trained.validation_log_loss
    words = (
        f"model {trained.model_version} to {trained.model}: {trained.categories:,} "
        f"categories from {trained.rows:,} rows in {trained.seconds:.0f} s"
    )
    if trained.averaged_seeds > 1:
        words += f", the mean of {trained.averaged_seeds} networks"
    left_out = [
        f"{snapshot}: {line.strip()}"
        for snapshot, lacking in trained.left_out.items()
        for line in lacking.in_words()
    ]
    return [
        words if loss is None else f"{words}, validation log loss {loss:.4f}",
        *left_out,
        *_left_out_in_words(trained),
        *(f"warning: {text}" for text in (trained.warning, trained.trend_warning) if text),
    ]


def _left_out_in_words(trained: Trained) -> list[str]:
    """What training did not use of its rows: a line for each kind of it."""
    lines = []
    few = [c for c in trained.categories_left_out if c.reason != NO_CUSTOMER]
    nobody = [c for c in trained.categories_left_out if c.reason == NO_CUSTOMER]
    of = len(trained.categories_left_out) + trained.categories
    if few:
        named = _first([f"{c.category_id} ({c.customers:,})" for c in few])
        lines.append(
            f"left out {len(few):,} of {of:,} categories, on which fewer than "
            f"{trained.min_customers:,} training customers acted (training.min_customers), with "
            f"{trained.labels_left_out:,} labels: {named}"
        )
    least = trained.min_customers
    lines += [
        f"{snapshot}: rows of {share} of customers, who alone count for training.min_customers: "
        f"{least:,} of them are about {float(least / Fraction(share)):,.0f} of all"
        for snapshot, share in trained.samples.items()
    ]
    if nobody:
        named = _first([c.category_id for c in nobody])
        words = "on which no training customer acted"
        lines.append(f"left out {len(nobody):,} of {of:,} categories, {words}: {named}")
    if trained.features_without_value:
        named = _first(list(trained.features_without_value))
        lines.append(f"no training row has a value of these features: {named}")
    if trained.columns_without_value:
        lines.append(
            f"no training row has a value in {trained.columns_without_value:,} of "
            f"{trained.columns:,} columns, so the model learned nothing about these; usual where "
            "columns are hashed (buckets) or values are rare"
        )
    if trained.rows_without_weight:
        lines.append(f"{trained.rows_without_weight:,} training rows weigh 0 and teach nothing")
    if trained.erased_rows:
        lines.append(
            f"{trained.erased_rows:,} rows left out: their customers were forgotten on request"
        )
    return lines


def _first(names: Sequence[str]) -> str:
    """The first `NAMED`, how many more there are, and where these are listed."""
    more = len(names) - NAMED
    rest = f" and {more:,} more (the model's card.json has all)" if more > 0 else ""
    return ", ".join(names[:NAMED]) + rest


def _rows_of_card(shards: Shards, trend: TrendTable | None) -> RowsOfCard:
    sources = [
        CardSource(
            str(snapshot.path.resolve()), snapshot.rows,
            sum(refusal.records for refusal in snapshot.info.left_out.refusals),
            sum(ignored.events for ignored in snapshot.info.left_out.ignored_values),
            snapshot.info.left_out.ignored_events,
            snapshot.info.customer_sample.in_manifest,
        )
        for snapshot in shards.snapshots
    ]  # fmt: skip
    cutoffs_ms: list[int] = []
    for snapshot in shards.snapshots:
        found = snapshot.info.row_moments
        cutoffs_ms += snapshot.manifest["as_of_ms"] if found is None else found.cutoffs_ms
    return RowsOfCard(lambda: _kinded(shards), sources, cutoffs_ms, trend)


def _events_of_training(
    shards: Shards,
) -> tuple[dict[str, float] | None, dict[str, float] | None]:
    """The share of events of each type, and by field that of events with an unknown word; None
    where not every snapshot says which events it was made of."""
    types, unknown = defaultdict[str, float](float), defaultdict[str, float](float)
    for snapshot in shards.snapshots:
        if snapshot.info.event_types is None:
            return None, None
        # Beside those of another share, the events of a sample stand for those of all customers.
        stands_for = snapshot.info.customer_sample.stands_for
        for name, count in snapshot.info.event_types.items():
            types[name] += count * stands_for
        for value in snapshot.info.left_out.ignored_values:
            if value.problem == UNKNOWN_WORD:
                unknown[value.field] += value.events * stands_for
    events = sum(types.values())
    if not events:
        return None, None
    shares = [{name: n / events for name, n in sorted(c.items())} for c in (types, unknown)]
    return shares[0], shares[1]


def _kinded(shards: Shards) -> Iterator[KindedRows]:
    """Every shard with the kinds of its moments."""
    for snapshot in shards.snapshots:
        said = snapshot.info.row_moments
        for rows in snapshot.shards():
            # Snapshots that do not say it are of a version that wrote rows as of cut-offs alone.
            at_cutoffs = np.full(len(rows), CUTOFF, np.uint8)
            yield KindedRows(rows, at_cutoffs if said is None else said.kinds(rows.as_of_ms))
