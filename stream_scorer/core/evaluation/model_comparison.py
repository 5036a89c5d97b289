"""What `models compare` returns: whether a challenger is better than the active model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import (
    JudgedRows,
    MetricDifference,
    ModelComparison,
    compare_models,
    compare_unpaired,
)
from stream_scorer.core.evaluation.metrics import QualityMetrics
from stream_scorer.core.events.batch import Bool
from stream_scorer.core.events.refused import Refusal
from stream_scorer.result import Result

KEYS = {"from_time": "from", "to_time": "to"}  # `from` is a word of Python's
ACTIVE: Final = "active"
CHALLENGER: Final = "challenger"
UNDECIDED: Final = "undecided"


@dataclass(frozen=True)
class ComparedModel(Result):
    """One of the two models on the judged rows that it answers for.

    rows, customers: how many these are. not_held_back: its training's labels reach into the scored
    time, so its figures flatter.
    """

    path: str
    model_version: str
    not_held_back: bool
    rows: int
    customers: int
    metrics: QualityMetrics


@dataclass(frozen=True)
class ComparisonScope(Result):
    """Which scores were compared.

    mode: "shadow" or "canary". from_time, to_time: ISO 8601; scoring times are from the first on,
    before the second. every: how often customers were scored. rows: all scores; judged: those whose
    horizon is over; pending: those that wait for it, the last of them until pending_until, ISO 8601
    (None: none waits). categories: those that both models have, which alone are compared;
    only_active, only_challenger: how many one of them has alone. dead_letters: records left out, by
    reason; refusals: the same with example and remedy. ignored_events: of customers who are to be
    ignored.
    """

    mode: str
    from_time: str
    to_time: str
    every: str
    events: int
    rows: int
    judged: int
    pending: int
    pending_until: str | None
    categories: int
    only_active: int
    only_challenger: int
    horizon_ms: int
    dead_letters: Mapping[str, int]
    refusals: tuple[Refusal, ...]
    ignored_events: int

    def as_json(self) -> dict[str, Any]:
        """The fields, with "from" and "to" for the two times."""
        return {KEYS.get(name, name): value for name, value in super().as_json().items()}


@dataclass(frozen=True)
class ComparedModels(ComparisonScope):
    """Which of two models is better.

    models: "active" and "challenger": with a shadow both on all judged rows, with a canary each on
    those of the customers that it serves. paired: whether both are on the same rows. differences:
    challenger minus active, with 95 % intervals. on_all_rows: with a canary the paired differences
    over all judged rows, which are narrower, but do not see what serving a model does to customers;
    None with a shadow, where differences are these. better: "active", "challenger" or "undecided",
    by the interval of the log loss. more_customers: about how many more a difference of this size
    needs in order to be seen; None where it is seen, or can't be estimated.
    """

    models: Mapping[str, ComparedModel]
    paired: bool
    differences: ModelComparison
    on_all_rows: ModelComparison | None
    better: str
    more_customers: int | None
    seconds: float

    @classmethod
    def of(
        cls,
        scope: ComparisonScope,
        about: Mapping[str, tuple[str, str, bool]],
        judged: JudgedPair,
    ) -> ComparedModels:
        """All measures. about: path, version and not_held_back of each model. seconds: 0 so far."""
        rows = judged.by_model()
        all_rows = compare_models(
            judged.challenger.scores, judged.active.scores, judged.active.acted,
            judged.active.customer,
        )  # fmt: skip
        paired = judged.canary is None
        differences = all_rows if paired else compare_unpaired(rows[CHALLENGER], rows[ACTIVE])
        better = better_model(differences.log_loss)
        customers = len(np.unique(judged.active.customer))
        return cls(
            **vars(scope),
            models={
                name: ComparedModel(
                    *about[name],
                    len(of.acted),
                    len(np.unique(of.customer)),
                    metrics.summary(of.scores, of.acted),
                )
                for name, of in rows.items()
            },
            paired=paired,
            differences=differences,
            on_all_rows=None if paired else all_rows,
            better=better,
            more_customers=(
                more_customers(differences.log_loss, customers) if better == UNDECIDED else None
            ),
            seconds=0.0,
        )


@dataclass(frozen=True)
class JudgedPair:
    """Both models on the same J judged rows. canary (J,): whether the challenger serves the row's
    customer; None in the shadow, where nobody is served by it."""

    active: JudgedRows
    challenger: JudgedRows
    canary: Bool | None

    def by_model(self) -> dict[str, JudgedRows]:
        """The rows that each model answers for: all in the shadow, else of those it serves."""
        if self.canary is None:
            return {ACTIVE: self.active, CHALLENGER: self.challenger}
        return {
            ACTIVE: self.active.only(~self.canary),
            CHALLENGER: self.challenger.only(self.canary),
        }


def better_model(log_loss: MetricDifference) -> str:
    """By the interval of challenger minus active: a lower log loss is better."""
    if log_loss.low is None or log_loss.high is None:
        return UNDECIDED
    if log_loss.high < 0:
        return CHALLENGER
    return ACTIVE if log_loss.low > 0 else UNDECIDED


def more_customers(log_loss: MetricDifference, customers: int) -> int | None:
    """About how many more customers would make the interval narrower than its estimate.

    The width of an interval falls with the square root of the number of customers. None where the
    estimate is 0 or not defined.
    """
    estimate, low, high = log_loss.difference, log_loss.low, log_loss.high
    if not estimate or low is None or high is None:
        return None
    needed = customers * ((high - low) / 2 / abs(estimate)) ** 2
    return max(math.ceil(needed) - customers, 1)
