"""The card of a model: what it was made of, what was left out, how good it is, what it costs.

Everything in it is counted or measured elsewhere; here it gets its form. It holds no customer id
and no event. It says what is not known as well: without held-out rows there is no quality, since
figures of the rows that it was trained on would flatter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_scorer.core.evaluation.quality_by_part import Quality
from stream_scorer.core.evaluation.training_data import LeftOutCategory, MomentsOfKind, RowCounts
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.features.feature_words import feature_in_words
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.labels.labels import DAY_MS, LabelRule
from stream_scorer.result import Result

FORMAT = 1
NO_VALIDATION = (
    "There were no validation rows: training did not stop early, probabilities are not "
    "calibrated, and how good the model is was not measured. Train with --validation, or "
    "evaluate it on later snapshots."
)
CHOSEN_ON_VALIDATION = (
    "Training stopped where the validation rows were predicted best, and the calibration was "
    "fitted to them, so these figures flatter a little; those of stream-scorer evaluate on later "
    "snapshots do not."
)
KINDS_NOT_KNOWN = "Of which kind the moments of the validation rows are is not known."
MEAN_OF_SEEDS = (
    "The model is the mean of the logits of {seeds} networks that were trained with different "
    "seeds; the network that is named here computes them side by side."
)


@dataclass(frozen=True)
class CardLabels(Result):
    """What the model predicts: by: the field whose values are the categories. actions: groups of
    event types, from the least to the most wanted, which are the classes 1, 2, ...
    """

    by: str
    actions: tuple[tuple[str, ...], ...]
    horizon_days: float

    @classmethod
    def of(cls, rule: LabelRule) -> CardLabels:
        """In the words of the settings."""
        return cls(rule.by, rule.actions, rule.horizon_ms / DAY_MS)


@dataclass(frozen=True)
class CardSource(Result):
    """A snapshot. refused_records, ignored_values, ignored_events: what its events lacked when it
    was made: records, values of fields, and events of customers who were to be ignored.
    sample_customers: the share of customers that it is a sample of, null where it has everybody.
    """

    path: str
    rows: int
    refused_records: int
    ignored_values: int
    ignored_events: int
    sample_customers: str | None = None


@dataclass(frozen=True)
class CardRows(Result):
    """The rows of training or of validation.

    sources: the snapshots, none where rows were given in memory. first_as_of, last_as_of: the
    earliest and the latest moment. labels_until: before which moment the events of labels lie.
    cutoffs: of the rows at cut-offs. moments: by kind, empty where the kinds are not known.
    weight: the sum of all rows'. without_weight: rows that weigh 0, and so teach nothing.
    """

    sources: tuple[CardSource, ...]
    rows: int
    customers: int
    first_as_of: str
    last_as_of: str
    labels_until: str
    cutoffs: tuple[str, ...]
    moments: tuple[MomentsOfKind, ...]
    weight: float
    without_weight: int


@dataclass(frozen=True)
class CardFeature(Result):
    """A declared feature. without_value: of its columns, those in which no training row has a
    value, so that the model knows nothing of them.
    """

    name: str
    kind: str
    meaning: str
    columns: int
    without_value: int


@dataclass(frozen=True)
class CardCategory(Result):
    """A category of the model. positives: training rows that acted on it. share: of rows by their
    weights, which is the prior.
    """

    category_id: str
    positives: int
    share: float


@dataclass(frozen=True)
class ScoringCost(Result):
    """What scoring costs, measured by the native engine once: rows_of is "validation" or
    "training". machine: processor, cores of this process, and what else tells it apart.
    """

    engine: str
    rows: int
    batch_rows: int
    rows_of: str
    seconds: float
    customers_per_second: float
    machine: str


@dataclass(frozen=True)
class ModelCard(Result):
    """Everything that is known of a model. format: 1. written: when, ISO 8601 in UTC. network,
    calibration: as in the manifest. min_customers: so many training customers acted on each of
    `categories`; left_out are the other values of the vocabulary, labels_left_out the labels of
    training rows that are of these. columns_without_value: in which no training row has a value.
    quality: null without validation rows. scoring: null without rows. notes: what the reader should
    know.
    """

    format: int
    model_version: str
    written: str
    fingerprint: str
    labels: CardLabels
    network: Mapping[str, Any]
    calibration: str
    training: CardRows
    validation: CardRows | None
    min_customers: int
    features: tuple[CardFeature, ...]
    columns: int
    columns_without_value: int
    categories: tuple[CardCategory, ...]
    left_out: tuple[LeftOutCategory, ...]
    labels_left_out: int
    quality: Quality | None
    scoring: ScoringCost | None
    notes: tuple[str, ...]

    @property
    def features_without_value(self) -> tuple[str, ...]:
        """The names of features of which no training row has a value."""
        return tuple(f.name for f in self.features if f.without_value == f.columns)


def sample_notes(name: str, sources: Sequence[CardSource]) -> list[str]:
    """What the reader should know where the rows of `name` are of samples of customers."""
    shares = sorted({s.sample_customers for s in sources if s.sample_customers is not None})
    if not shares:
        return []
    note = (
        f"The {name} rows are of a sample of customers, {' and '.join(shares)} of them, whom a "
        "hash of the id chose: numbers of rows, customers and labels are the sample's. Shares and "
        "rates are those of all customers, but for chance."
    )
    if len({s.sample_customers for s in sources}) > 1:
        note += " Rows weigh by how many customers they stand for."
    return [note]


def card_rows(
    counts: RowCounts, sources: Sequence[CardSource], cutoffs_ms: Sequence[int], rule: LabelRule
) -> CardRows:
    """What the card says of rows that were counted."""
    return CardRows(
        sources=tuple(sources),
        rows=counts.rows,
        customers=counts.customers,
        first_as_of=moment_text(counts.first_ms),
        last_as_of=moment_text(counts.last_ms),
        labels_until=moment_text(counts.last_ms + rule.horizon_ms),
        cutoffs=tuple(moment_text(ms) for ms in sorted(set(cutoffs_ms))),
        moments=counts.moments,
        weight=counts.weight,
        without_weight=counts.without_weight,
    )


def card_features(space: FeatureSpace, column_rows: Int64) -> tuple[CardFeature, ...]:
    """Every declared feature; column_rows (F,): training rows with a value in each column."""
    found = []
    for number, feature in enumerate(space.features):
        blocks = [b for b in space.blocks if b.feature == number]
        rows = np.concatenate([column_rows[b.start : b.stop] for b in blocks])
        meaning = feature_in_words(feature)
        found.append(
            CardFeature(feature.name, feature.kind, meaning, len(rows), int((rows == 0).sum()))
        )
    return tuple(found)
