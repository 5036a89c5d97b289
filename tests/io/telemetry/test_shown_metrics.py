"""Metrics as Prometheus reads them, and the list of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics import MetricWrapperBase

import stream_scorer
from stream_scorer.core.events.batch import DeadLetter, Reason
from stream_scorer.core.events.customer_rates import ExtremeRate
from stream_scorer.core.features.ignored_values import IgnoredCount
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.exposition import exposition
from stream_scorer.io.telemetry.metric import OPEN
from stream_scorer.io.telemetry.metric_list import (
    METRICS,
    OWN_METRICS,
    PROCESS,
    STAGES,
    exposed_series,
)
from stream_scorer.io.telemetry.metrics import Metrics
from stream_scorer.io.telemetry.supervisor_metrics import SupervisorMetrics


def read(metrics: Metrics) -> dict[str, float]:
    _, text = exposition(metrics.registry, "")
    lines = text.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_counters_of_known_labels_begin_at_zero_so_that_the_first_count_is_an_increase() -> None:
    found = read(Metrics())
    for family in OWN_METRICS:
        if family.kind == "counter" and OPEN not in family.labels.values():
            series = [name for name in found if re.match(rf"{family.exposed_name}(\{{|$)", name)]
            assert len(series) == prod(map(len, family.labels.values())), family.name
            assert {found[name] for name in series} == {0}


def test_a_batch_is_counted_once() -> None:
    metrics = Metrics()
    dead_letter = DeadLetter("t", 0, 0, -1, Reason.UNDECODABLE, "", None, None)
    report = BatchReport(
        records=10, applied=7, duplicates=2, customers=5, propensities=5,
        dead_letters=[dead_letter], seconds={"poll": 0.5},
        ignored=[IgnoredCount("category_id", "unknown_word", 4, "brot")],
        waited_seconds=np.array([0.2, 0.25, 5000.0, 1e6]),
        foreign_keys=3, split_customers=4, refused_writes=5, too_old=6, ignored_events=8,
        erased_events=9, extreme_customers=[ExtremeRate("c", 0, 99)],
    )  # fmt: skip
    metrics.observe(report)
    found = read(metrics)
    assert found['stream_scorer_events_total{outcome="applied"}'] == 7
    assert found['stream_scorer_events_total{outcome="duplicate"}'] == 2
    assert found['stream_scorer_dead_letters_total{reason="undecodable"}'] == 1
    ignored = 'stream_scorer_ignored_values_total{field="category_id",problem="unknown_word"}'
    assert found[ignored] == 4
    assert found['stream_scorer_stage_seconds_sum{stage="poll"}'] == 0.5
    assert found["stream_scorer_batch_customers_sum"] == 5
    assert found["stream_scorer_propensities_total"] == 5
    assert found['stream_scorer_events_total{outcome="too_old"}'] == 6
    assert found['stream_scorer_events_total{outcome="ignored_customer"}'] == 8
    assert found['stream_scorer_events_total{outcome="forgotten_customer"}'] == 9
    for name, count in (
        ("foreign_keys", 3), ("split_customers", 4), ("refused_writes", 5), ("extreme_customers", 1)
    ):  # fmt: skip
        assert found[f"stream_scorer_{name}_total"] == count
    waits = "stream_scorer_event_to_propensity_seconds"
    assert found[f'{waits}_bucket{{le="0.1"}}'] == 0
    assert found[f'{waits}_bucket{{le="0.25"}}'] == 2
    assert found[f'{waits}_bucket{{le="14400.0"}}'] == 3
    assert (found[f'{waits}_bucket{{le="+Inf"}}'], found[f"{waits}_count"]) == (4, 4)
    assert found[f"{waits}_sum"] == 1_005_000.45


def test_lag_of_a_partition_given_up_is_no_longer_shown() -> None:
    metrics = Metrics()
    metrics.observe_lag({("t", 0): 3, ("t", 1): 4}, {("t", 0): 1.5, ("t", 1): 2.5}, 2)
    metrics.observe_lag({("t", 1): 5, ("t", 2): 6}, {("t", 1): 3.5}, 3)
    found = read(metrics)
    lag = {k: v for k, v in found.items() if "consumer_lag" in k}
    assert lag == {
        'stream_scorer_consumer_lag{partition="1",topic="t"}': 5.0,
        'stream_scorer_consumer_lag{partition="2",topic="t"}': 6.0,
        'stream_scorer_consumer_lag_seconds{partition="1",topic="t"}': 3.5,
    }
    assert found["stream_scorer_partitions"] == 3


def test_a_scrape_in_the_middle_of_an_update_lacks_no_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads between two steps of it sees every partition and the model."""
    metrics, seen = Metrics(), list[set[str]]()

    def show() -> None:
        metrics.observe_lag({("t", 0): 3, ("t", 1): 4}, {("t", 0): 1.5, ("t", 1): 2.5}, 2)
        metrics.observe_model("m1", "f", "1")

    show()
    every = {name for name in read(metrics) if "consumer_lag" in name or "build_info" in name}
    assert len(every) == 5
    for step in (
        MetricWrapperBase.labels, MetricWrapperBase.clear, MetricWrapperBase.remove, Gauge.set,
    ):  # fmt: skip

        def watched(self: object, *arguments: object, step: Callable[..., object] = step) -> object:
            found = step(self, *arguments)
            seen.append(set(read(metrics)))
            return found

        owner = Gauge if step is Gauge.set else MetricWrapperBase
        monkeypatch.setattr(owner, step.__name__, watched)
    show()
    monkeypatch.undo()
    assert len(seen) > len(every)
    assert all(every <= names for names in seen)


def shown(registry: CollectorRegistry) -> dict[str, set[str]]:
    """Labels by the name of each series that /metrics has now."""
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def show_everything(metrics: Metrics) -> None:
    """Give every metric that has labels a series."""
    for metric in metrics.registry._collector_to_names:
        if isinstance(metric, MetricWrapperBase) and metric._labelnames:
            metric.labels(*metric._labelnames)


def test_every_series_is_declared_and_every_declared_series_is_shown() -> None:
    metrics = Metrics()
    show_everything(metrics)
    supervisor = SupervisorMetrics()
    supervisor.restarted(1)
    supervisor.up(1, is_up=True)
    found, declared = shown(metrics.registry) | shown(supervisor.registry), exposed_series()
    assert found.keys() == declared.keys()
    for name, labels in declared.items():
        assert found[name] == set(labels), name


def test_a_metric_has_the_kind_and_the_meaning_that_are_declared() -> None:
    # The client library has its own words for its own metrics.
    declared = {family.name: (family.kind, family.meaning) for family in OWN_METRICS}
    families = {f.name: (f.type, f.documentation) for f in Metrics().registry.collect()}
    assert {name: families[name] for name in declared} == declared
    kinds = {family.name: family.kind for family in PROCESS}
    assert {name: families[name][0] for name in kinds} == kinds


def test_names_are_of_base_units() -> None:
    """As Prometheus has them: what is measured has its unit in its name, counts have none."""
    for family in OWN_METRICS:
        in_name = {unit for unit in ("seconds", "bytes") if unit in family.name.split("_")}
        assert in_name == ({family.unit} & {"seconds", "bytes"}), family.name
        assert bool(family.buckets) == (family.kind == "histogram")
        assert list(family.buckets) == sorted(set(family.buckets))
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket", "_created"))


def test_a_name_is_declared_once() -> None:
    names = [family.name for family in METRICS]
    assert sorted(names) == sorted(set(names))


def test_a_stage_of_a_batch_is_a_declared_label_value() -> None:
    """Those that the code measures, as written there."""
    package = Path(stream_scorer.__file__).parent
    sources = [*package.glob("live/*.py"), *package.glob("past/*.py")]
    measured = {
        stage
        for source in sources
        for stage in re.findall(r"\bstage\(\"(\w+)\"\)", source.read_text(encoding="utf-8"))
    }
    assert measured | {"poll"} == set(STAGES)


def test_the_process_and_python_are_shown_too() -> None:
    found = read(Metrics())
    assert found["process_resident_memory_bytes"] > 1e6
    assert found['python_gc_collections_total{generation="2"}'] >= 0


def test_declaring_a_metric_as_another_kind_is_an_error() -> None:
    with pytest.raises(TypeError, match="declared as a counter, not as a gauge"):
        Metrics()._gauge("stream_scorer_events")
