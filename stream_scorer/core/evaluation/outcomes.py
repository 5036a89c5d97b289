"""What came of scores of the past: which can be judged yet, and who then acted."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.labels.as_of import KnownEvents, Moments
from stream_scorer.core.labels.labels import (
    LabelCollector,
    LabelledRows,
    LabelRule,
    dense_labels,
    latest_horizon_end_ms,
)


def rows_to_judge(known: KnownEvents, moments: Moments, horizon_ms: int) -> Int64:
    """Positions (J,) int64 of the moments whose horizon is over by the end of the events."""
    until_ms = latest_horizon_end_ms(int(known.events.occurred_at_ms.max()))
    return np.flatnonzero(moments.as_of_ms + horizon_ms <= until_ms)


def acted_within_horizon(
    rule: LabelRule, known: KnownEvents, moments: Moments, categories: tuple[str, ...]
) -> Bool:
    """(M, N) whether the customer of each moment did anything in `rule` with each category."""
    collector = LabelCollector(rule, categories)
    collector.add(known.events)
    ids = [known.customer_ids[c] for c in moments.customer.tolist()]
    no_features = sparse.csr_matrix((len(ids), 0))
    labels = collector.labels(ids, moments.as_of_ms)
    rows = LabelledRows(ids, moments.as_of_ms, no_features, *labels)
    # Labels number the collector's own categories, so that all of them are wanted in that order.
    found: Bool = dense_labels(rows, np.arange(len(categories))) > 0
    return found
