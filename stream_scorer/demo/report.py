"""What the demo reports: counts, speed, and how good the published propensities were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stream_scorer.core.avro.propensity_encoder import PublishedPropensities
from stream_scorer.core.evaluation import metrics
from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, dense_labels

QUALITY = ("log_loss", "macro_auc", "recall_at_10")


@dataclass
class Outcome:
    """The demo's figures; `as_json` is the contract of the command line."""

    published_events: int = 0
    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    customers_scored: int = 0
    propensities_published: int = 0
    micro_batches: int = 0
    streaming_seconds: float = 0.0
    consumer_lag: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    prior: dict[str, float] = field(default_factory=dict)
    judged: int = 0
    training: dict[str, float] = field(default_factory=dict)
    customers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def accounted_for(self) -> bool:
        """Every published event was applied, skipped or dead-lettered."""
        return self.published_events == self.applied + self.duplicates + self.dead_letters

    def as_json(self) -> dict[str, Any]:
        """One object with the keys that others read, and more."""
        seconds = max(self.streaming_seconds, 1e-9)
        return {
            "events": self.published_events,
            "applied": self.applied,
            "duplicates": self.duplicates,
            "dead_letters": self.dead_letters,
            "accounted_for": self.accounted_for,
            "customers_scored": self.customers_scored,
            "propensities_published": self.propensities_published,
            "micro_batches": self.micro_batches,
            "events_per_second": self.published_events / seconds,
            "streaming_seconds": self.streaming_seconds,
            "consumer_lag": self.consumer_lag,
            "latency_ms": self.latency_ms,
            "stages": self.stages,
            "quality": self.quality,
            "prior": self.prior,
            "propensities_judged": self.judged,
            "training": self.training,
            "customers": self.customers,
        }


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
    ours = metrics.summary(published.probabilities[rows], bought)
    base = metrics.summary(np.broadcast_to(prior.astype(np.float32), bought.shape), bought)
    return len(rows), {k: ours[k] for k in QUALITY}, {k: base[k] for k in QUALITY}


def in_words(
    published: PublishedPropensities, categories: tuple[str, ...], customers: int = 3, top: int = 5
) -> list[dict[str, Any]]:
    """The newest propensities of the customers that were published last, best first."""
    if published.probabilities is None:
        return []
    chosen: dict[str, int] = {}
    for row in range(len(published.customer_ids) - 1, -1, -1):
        chosen.setdefault(published.customer_ids[row], row)
        if len(chosen) == customers:
            break
    listing = []
    for customer, row in chosen.items():
        best = np.argsort(-published.probabilities[row], kind="stable")[:top]
        pairs = [(categories[i], round(float(published.probabilities[row, i]), 3)) for i in best]
        listing.append(
            {
                "customer_id": customer,
                "top": [{"category_id": c, "probability": p} for c, p in pairs],
            }
        )
    return listing


def show(outcome: Outcome, console: Console) -> None:
    """The figures for a person."""
    o = outcome.as_json()
    console.print()
    console.print(
        f"[bold]{o['events']:,}[/] events in {o['streaming_seconds']:.1f} s: "
        f"[bold]{o['events_per_second']:,.0f} events/s[/]; {o['applied']:,} applied, "
        f"{o['duplicates']:,} duplicates, {o['dead_letters']:,} dead letters"
    )
    console.print(
        f"{o['customers_scored']:,} customers scored in {o['micro_batches']:,} micro-batches, "
        f"{o['propensities_published']:,} propensity records published and read back; "
        f"consumer lag at the end {o['consumer_lag']}"
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
        quality = Table(
            title=f"{outcome.judged:,} published records against the 14 days that followed",
            title_justify="left",
        )
        for name in ("", "model", "prior"):
            quality.add_column(name, justify="right" if name else "left")
        for name in QUALITY:
            quality.add_row(name, f"{outcome.quality[name]:.4f}", f"{outcome.prior[name]:.4f}")
        console.print(quality)
    for customer in outcome.customers:
        words = ", ".join(
            f"{t['category_id'].lower()} {t['probability']:.0%}" for t in customer["top"]
        )
        console.print(f"customer {customer['customer_id']}: {words}")
