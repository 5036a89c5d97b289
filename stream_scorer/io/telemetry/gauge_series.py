"""Gauges whose labels come and go: partitions, models, blocks of features."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Gauge


def show_only(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """These values by labels from now on, and no others of this gauge.

    Nothing is cleared first: another thread may read it meanwhile, and a series that one scrape
    lacks ends every alert that is about it.
    """
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
    names = list(gauge._labelnames)
    for family in gauge.collect():
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in names)
            if labels not in values:
                gauge.remove(*labels)
