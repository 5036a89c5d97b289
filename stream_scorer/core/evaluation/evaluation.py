"""What `evaluate` returns: one model against its baselines, on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream_scorer.core.evaluation import metrics
from stream_scorer.core.evaluation.intervals import ModelComparison, compare_models
from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.core.evaluation.metrics import QualityMetrics, defined
from stream_scorer.core.events.batch import Bool, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.result import Result

MODEL = "model"  # the name of the evaluated model beside those of the baselines


@dataclass(frozen=True)
class ScoredRows:
    """R rows with their outcome. by_model: (R, N) float32 probability of acting at all, of `MODEL`
    first and then of each baseline; acted (R, N): whether they did; customer (R,): whose row it is;
    first_ms, last_ms: moments of the earliest row and of the latest; weight (R,): how many rows
    each stands for, None: 1.
    """

    by_model: Mapping[str, Float32]
    acted: Bool
    customer: Int64
    first_ms: int
    last_ms: int
    weight: Float32 | None = None

    @property
    def baselines(self) -> dict[str, Float32]:
        """Those of by_model that are not the model."""
        return {name: p for name, p in self.by_model.items() if name != MODEL}


@dataclass(frozen=True)
class BaselineInCategory(Result):
    """A baseline on one category; None where a metric is not defined."""

    log_loss: float | None
    auc: float | None


@dataclass(frozen=True)
class EvaluatedCategory(Result):
    """The model on one category; None where a metric is not defined.

    positives: rows whose customer acted on it. recall_at_10: the share of them that has the
    category among its ten most probable.
    """

    category_id: str
    positives: int
    log_loss: float | None
    auc: float | None
    average_precision: float | None
    recall_at_10: float | None
    ece: float | None
    baselines: Mapping[str, BaselineInCategory]


@dataclass(frozen=True)
class Evaluation(Result):
    """How good a model is on labelled rows, and how much better than simple baselines.

    model: its path. rows, categories: how many were scored; all measures count rows by their
    weights. categories_scored: those with positives
    and negatives, which alone have an AUC. metrics: of the model; a metric that is not defined is
    None. baselines: their metrics, by name: "prior" gives every customer each category's share in
    the training rows, "logistic" is one logistic regression for each category. intervals: the model
    minus each baseline, with 95 % intervals. per_category: in the model's order of categories.
    notes: what the reader should know, in words. task: what was judged. trained: what the model
    was trained on. not_held_back: its training's labels reach into the scored time, so its figures
    flatter.
    """

    model: str
    model_version: str
    rows: int
    categories: int
    categories_scored: int
    metrics: QualityMetrics
    baselines: Mapping[str, QualityMetrics]
    intervals: Mapping[str, ModelComparison]
    per_category: tuple[EvaluatedCategory, ...]
    notes: tuple[str, ...]
    task: JudgedTask
    trained: TrainedOn
    not_held_back: bool

    @classmethod
    def of(
        cls,
        scored: ScoredRows,
        categories: Sequence[str],
        *,
        model: str,
        model_version: str,
        notes: Sequence[str],
        task: JudgedTask,
        trained: TrainedOn,
        not_held_back: bool,
    ) -> Evaluation:
        """All measures of these scores; categories (N,) names their columns."""
        ours, acted, weight = scored.by_model[MODEL], scored.acted, scored.weight
        return cls(
            model=model,
            model_version=model_version,
            rows=len(acted),
            categories=len(categories),
            categories_scored=metrics.categories_scored(acted),
            metrics=metrics.summary(ours, acted, weight),
            baselines={
                name: metrics.summary(p, acted, weight) for name, p in scored.baselines.items()
            },
            intervals={
                name: compare_models(ours, p, acted, scored.customer, weight)
                for name, p in scored.baselines.items()
            },
            per_category=_per_category(scored, categories),
            notes=tuple(notes),
            task=task,
            trained=trained,
            not_held_back=not_held_back,
        )


def _per_category(scored: ScoredRows, categories: Sequence[str]) -> tuple[EvaluatedCategory, ...]:
    ours, acted, weight = scored.by_model[MODEL], scored.acted, scored.weight
    log_loss = metrics.category_log_loss(ours, acted, weight)
    auc = metrics.category_auc(ours, acted, weight)
    average_precision = metrics.category_ap(ours, acted, weight)
    recall = metrics.category_recall_at_k(ours, acted, metrics.TOP_K, weight)
    ece = metrics.category_ece(ours, acted, weight)
    positives = acted.sum(axis=0)
    baselines = _baselines_by_category(scored)
    return tuple(
        EvaluatedCategory(
            category_id=category,
            positives=int(positives[n]),
            log_loss=defined(log_loss[n]),
            auc=defined(auc[n]),
            average_precision=defined(average_precision[n]),
            recall_at_10=defined(recall[n]),
            ece=defined(ece[n]),
            baselines={name: of[n] for name, of in baselines.items()},
        )
        for n, category in enumerate(categories)
    )


def _baselines_by_category(scored: ScoredRows) -> dict[str, list[BaselineInCategory]]:
    """By name of the baseline: N parts, in the order of the columns."""
    return {
        name: [
            BaselineInCategory(defined(log_loss), defined(auc))
            for log_loss, auc in zip(
                metrics.category_log_loss(p, scored.acted, scored.weight),
                metrics.category_auc(p, scored.acted, scored.weight),
                strict=True,
            )
        ]
        for name, p in scored.baselines.items()
    }
