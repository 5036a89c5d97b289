"""`stream-scorer demo`: the whole loop on real events, on servers that it starts itself.

The consumer in the middle is the one of `run`: the same source, store, engine, sink and pipeline,
built from a config file in the same way.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from stream_scorer.core.avro.propensity_encoder import decode_propensities
from stream_scorer.core.events.batch import Float64
from stream_scorer.core.labels.labels import dense_labels
from stream_scorer.demo import scenario as scenes
from stream_scorer.demo.embedded import EmbeddedKafka, EmbeddedRedis
from stream_scorer.demo.live_page import LivePage
from stream_scorer.demo.report import DemoResult, TrainingCost, examples_of, judge, latency_ms, show
from stream_scorer.demo.traffic import EventPublisher, Reader
from stream_scorer.errors import Halt, InputError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.live.consumer import Consumer
from stream_scorer.live.loop import Totals
from stream_scorer.live.stop import Stop
from stream_scorer.model import artefact, training, training_loop
from stream_scorer.model.engines.card import card_of, in_memory
from stream_scorer.model.engines.golden import golden_batch_of
from stream_scorer.model.engines.reference import reference_for
from stream_scorer.progress import progress
from stream_scorer.reports import model_card

LEAD_BATCHES = 3  # how many micro-batches the publisher may be ahead of the consumer
TOPICS = ("customer-events", "category-propensities", "customer-events-dead-letters")
PARTITIONS = 4  # the mock cluster's own number


def demo(
    *,
    seconds: float | None = None,
    households: int | None = None,
    keep: Path | None = None,
    as_json: bool = False,
    web: bool = False,
    stop: Stop | None = None,
) -> bool:
    """Run it; whether every event was accounted for.

    seconds: stop publishing after this time; households: how many to use; keep: a new folder that
    keeps the event files, the config and the model, to carry on with on your own servers. web: show
    the status page, and keep it open afterwards until Ctrl-C or `stop`.
    """
    if keep is not None and keep.exists():
        raise InputError("--keep", keep, "it exists already; choose a folder that does not")
    logging.getLogger("librdkafka").setLevel(logging.ERROR)
    console = Console(stderr=as_json)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stream-scorer-")))
        if keep is not None:
            keep.mkdir(parents=True)
            folder = keep
        kafka, redis = stack.enter_context(EmbeddedKafka()), stack.enter_context(EmbeddedRedis())
        kafka.create(*TOPICS)
        console.print(f"embedded Kafka at {kafka.bootstrap_servers}, Redis at {redis.url}")
        console.print("loading the public 84.51° Complete Journey data ...")
        scene = scenes.prepare(folder, kafka.bootstrap_servers, redis.url, households)
        console.print(f"{len(scene.past):,} events to learn from, {len(scene.stream):,} to stream")
        prior, training_cost = _train(scene, folder / "model", console)
        consumer = stack.enter_context(Consumer(scene.settings))
        consumer.store.save(states := scenes.past_states(scene), np.arange(len(states)))
        if consumer.trend is not None:
            scenes.count_past(scene, consumer.trend)
        console.print(f"{len(states):,} customers' vectors of the past written to Redis; streaming")
        page = None
        if web:
            page = LivePage(scene, consumer, with_browser=not as_json)
            stack.callback(page.close)
            console.print(f"the status page is at {page.url}")
        outcome = _stream(
            scene, consumer, kafka.bootstrap_servers, seconds, prior, training_cost, console, page
        )
        if as_json:
            json.dump(outcome.as_json(), sys.stdout)
            print(flush=True)
        else:
            show(outcome, console)
        if page is not None:
            customer = outcome.customers[0].customer_id if outcome.customers else ""
            console.print(
                f"the status page stays at {page.url} until Ctrl-C"
                + (f"; a customer: {page.url}customers?id={customer}" if customer else "")
            )
            page.keep_open(stop or Stop())
    return outcome.accounted_for


@dataclass
class _Counts:
    """What the micro-batches did, added up."""

    totals: Totals = field(default_factory=Totals)
    customers: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    def add(self, report: BatchReport) -> None:
        if report.records:
            self.totals = self.totals.plus(report)
        self.customers += report.customers
        for stage, spent in report.seconds.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + spent


def _train(scene: scenes.Scenario, path: Path, console: Console) -> tuple[Float64, TrainingCost]:
    """Train on the past and write the artefact.

    (N,) the share of training rows that acted on each category, and what the training cost.
    """
    started = time.monotonic()
    rows, validation = scenes.training_rows(scene)
    trend = scenes.shop_trend(scene, [*rows, *validation])
    # By default the mean of three, which takes three times as long to train.
    options = replace(scene.settings.training, average_seeds=1)
    with progress("training (MXNet)", console=console) as meter:

        def report(step: training_loop.Progress) -> None:
            meter.at(step.step, step.steps)

        model = training.train(
            rows, validation, scene.space, scene.settings.label_rule(), options, progress=report,
            trend=trend, validation_trend=trend,
        )  # fmt: skip
        meter.at(1, 1)  # training may stop early
    of_training, of_validation = in_memory(rows, trend), in_memory(validation, trend)
    least = scene.settings.training.min_customers
    card, recorded_prior = card_of(model, of_training, of_validation, least)
    artefact.save(
        model, path, {"prior": recorded_prior.tolist()},
        golden=golden_batch_of(model, validation, trend),
        card=model_card.writer(card),
        reference=reference_for(model, card, of_training, of_validation),
    )  # fmt: skip
    acted = [dense_labels(part, model.category_index) > 0 for part in rows]
    cost = TrainingCost(float(sum(len(part) for part in rows)), time.monotonic() - started)
    console.print(
        f"trained on {cost.rows:,.0f} rows x {len(model.category_index)} categories "
        f"in {cost.seconds:.0f} s"
    )
    return np.asarray(np.concatenate(acted).mean(axis=0), np.float64), cost


def _consume(
    consumer: Consumer,
    publisher: EventPublisher,
    events: int,
    console: Console,
    page: LivePage | None,
) -> _Counts:
    """Step until all that was published is consumed."""
    counts = _Counts()
    with progress("streaming", events, console) as meter:
        while not publisher.finished.is_set() or counts.totals.records < publisher.published:
            report = consumer.pipeline.step()
            counts.add(report)
            if page is not None:
                page.observe(report)
                page.check()
            publisher.taken = counts.totals.records
            meter.at(counts.totals.records, events)
    return counts


def _stream(
    scene: scenes.Scenario, consumer: Consumer, servers: str, seconds: float | None,
    prior: Float64, training_cost: TrainingCost, console: Console, page: LivePage | None,
) -> DemoResult:  # fmt: skip
    kafka, lead = scene.settings.kafka, LEAD_BATCHES * scene.settings.batch.max_events
    reader = Reader(servers, kafka.output_topic, PARTITIONS)
    consumer.warm_up()
    consumer.join()
    while len(consumer.source.lag()) < PARTITIONS:
        consumer.pipeline.step()
    if page is not None:
        page.joined()
    started = time.monotonic()
    stop_at = None if seconds is None else started + seconds
    publisher = EventPublisher(
        servers, kafka.input_topic, scene.encoded, lead=lead, stop_at_s=stop_at
    )
    reader.start()
    publisher.start()
    counts = _consume(consumer, publisher, len(scene.encoded), console, page)
    seconds_taken = time.monotonic() - started
    if publisher.failed is not None:
        raise Halt(f"the demo could not publish its events: {publisher.failed}")
    totals = counts.totals
    reader.finish(totals.propensities)
    published = decode_propensities(reader.values)
    judged, quality, prior_quality = judge(
        published, scene.labels, np.array(consumer.served.model.manifest.category_index), prior,
        int(scene.stream.occurred_at_ms[-1]), scene.settings.label_rule().horizon_ms,
    )  # fmt: skip
    accounted = totals.applied + totals.duplicates + totals.dead_letters
    return DemoResult(
        events=publisher.published,
        applied=totals.applied,
        duplicates=totals.duplicates,
        dead_letters=totals.dead_letters,
        accounted_for=publisher.published == accounted,
        customers_scored=counts.customers,
        propensities_published=totals.propensities,
        micro_batches=totals.batches,
        events_per_second=publisher.published / max(seconds_taken, 1e-9),
        streaming_seconds=seconds_taken,
        consumer_lag=sum(consumer.source.lag().values()),
        latency_ms=latency_ms(published, reader.read_at_ms, publisher.sent_ms),
        stages=counts.stages,
        quality=quality,
        prior=prior_quality,
        propensities_judged=judged,
        training=training_cost,
        customers=examples_of(published, consumer.scoring.engine.categories),
    )
