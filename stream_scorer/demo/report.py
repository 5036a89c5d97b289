"""What the demo reports: counts, speed, and how good the published propensities were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from stream_scorer.core.avro.propensity_encoder import PublishedPropensities
from stream_scorer.core.evaluation import metrics
from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.core.freshness import newest_rows
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, dense_labels
from stream_scorer.result import Result

QUALITY = ("log_loss", "macro_auc", "recall_at_10")


@dataclass(frozen=True)
class TrainingCost(Result):
    """Rows that were learnt from, and how long it took."""

    rows: float
    seconds: float


@dataclass(frozen=True)
class CategoryProbability(Result):
    """The probability that a customer acts on a category within the horizon."""

    category_id: str
    probability: float


@dataclass(frozen=True)
class CustomerExample(Result):
    """A customer's most probable categories, best first."""

    customer_id: str
    top: tuple[CategoryProbability, ...]


@dataclass(frozen=True)
class DemoResult(Result):
    """The demo's figures. stages: seconds in each. quality, prior: metrics of what was published.

    accounted_for: every published event was applied, skipped or dead-lettered. propensities_judged:
    published records whose horizon ended before the data does; quality is empty where there are
    none.
    """

    events: int
    applied: int
    duplicates: int
    dead_letters: int
    accounted_for: bool
    customers_scored: int
    propensities_published: int
    micro_batches: int
    events_per_second: float
    streaming_seconds: float
    consumer_lag: int
    latency_ms: Mapping[str, float]
    stages: Mapping[str, float]
    quality: Mapping[str, float]
    prior: Mapping[str, float]
    propensities_judged: int
    training: TrainingCost
    customers: tuple[CustomerExample, ...]


def latency_ms(
    published: PublishedPropensities, read_at_ms: list[int], sent_ms: dict[tuple[int, int], int]
) -> dict[str, float]:
    """p50 and p99 from when an event was sent until its propensities were read back.

    sent_ms: of each event, by input partition and offset.
    """
    sources = zip(published.partition.tolist(), published.offset.tolist(), strict=True)
    waited = np.array(read_at_ms) - np.array([sent_ms[source] for source in sources])
    p50, p99 = np.percentile(waited, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}


def judge(
    published: PublishedPropensities,
    labels: LabelCollector,
    category_index: Int64,
    prior: Float64,
    known_until_ms: int,
    horizon_ms: int,
) -> tuple[int, dict[str, float], dict[str, float]]:
    """Published probabilities against what was bought after them, and the prior's figures.

    Only records whose horizon ended before the data does count: how many, their metrics, and those
    of `prior` (N,), the share of training rows that acted on each category.
    """
    as_of = published.as_of_ms + 1  # what happened at the as-of time is known, not foreseen
    rows = np.flatnonzero(as_of + horizon_ms <= known_until_ms)
    if not len(rows) or published.probabilities is None:
        return 0, {}, {}
    ids = [published.customer_ids[i] for i in rows.tolist()]
    found = labels.labels(ids, as_of[rows])
    empty = LabelledRows(ids, as_of[rows], None, *found)
    bought = dense_labels(empty, category_index) > 0
    of_prior = np.broadcast_to(prior.astype(np.float32), bought.shape)
    return len(rows), _quality(published.probabilities[rows], bought), _quality(of_prior, bought)


def _quality(probabilities: Float32, bought: Bool) -> dict[str, float]:
    """The metrics of `QUALITY`; NaN where one is not defined."""
    values = (
        metrics.log_loss(probabilities, bought),
        metrics.macro_auc(probabilities, bought),
        metrics.recall_at_k(probabilities, bought, metrics.TOP_K),
    )
    return dict(zip(QUALITY, values, strict=True))


def examples_of(
    published: PublishedPropensities, categories: tuple[str, ...], customers: int = 3, top: int = 5
) -> tuple[CustomerExample, ...]:
    """The newest propensities of the customers that were published last, best first."""
    if published.probabilities is None:
        return ()
    p = published
    newest = newest_rows(p.customer_ids, p.partition, p.offset, p.as_of_ms)
    chosen = list(newest.items())[: -customers - 1 : -1]
    examples = []
    for customer, row in chosen:
        best = np.argsort(-published.probabilities[row], kind="stable")[:top]
        pairs = [(categories[i], round(float(published.probabilities[row, i]), 3)) for i in best]
        examples.append(CustomerExample(customer, tuple(CategoryProbability(*p) for p in pairs)))
    return tuple(examples)


def show(outcome: DemoResult, console: Console) -> None:
    """The figures for a person."""
    console.print()
    console.print(
        f"[bold]{outcome.events:,}[/] events in {outcome.streaming_seconds:.1f} s: "
        f"[bold]{outcome.events_per_second:,.0f} events/s[/]; {outcome.applied:,} applied, "
        f"{outcome.duplicates:,} duplicates, {outcome.dead_letters:,} dead letters"
    )
    console.print(
        f"{outcome.customers_scored:,} customers scored in {outcome.micro_batches:,} "
        f"micro-batches, {outcome.propensities_published:,} propensity records published and read "
        f"back; consumer lag at the end {outcome.consumer_lag}"
    )
    if outcome.latency_ms:
        console.print(
            f"from event to published propensity: p50 {outcome.latency_ms['p50']:.0f} ms, "
            f"p99 {outcome.latency_ms['p99']:.0f} ms (at full speed, events queue)"
        )
    stages = Table(title="where the time went", title_justify="left")
    for name in ("stage", "seconds", "share"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    total = sum(outcome.stages.values()) or 1.0
    for name, seconds in outcome.stages.items():
        stages.add_row(name, f"{seconds:.2f}", f"{seconds / total:.0%}")
    console.print(stages)
    if outcome.quality:
        lower = 1 - outcome.quality["log_loss"] / outcome.prior["log_loss"]
        how = "below" if lower > 0 else "above"
        console.print(
            f"[bold]the model's log loss is {abs(lower) * 100:.0f} % {how} the prior's[/] (each "
            "category's share, the same for everybody), on purchases that it had not seen"
        )
        quality = Table(
            title=f"{outcome.propensities_judged:,} published records against the 14 days that "
            "followed",
            title_justify="left",
        )
        for name in ("", "model", "prior"):
            quality.add_column(name, justify="right" if name else "left")
        for name in QUALITY:
            quality.add_row(name, f"{outcome.quality[name]:.4f}", f"{outcome.prior[name]:.4f}")
        console.print(quality)
    for customer in outcome.customers:
        words = ", ".join(f"{t.category_id.lower()} {t.probability:.0%}" for t in customer.top)
        console.print(f"customer {customer.customer_id}: {words}")
