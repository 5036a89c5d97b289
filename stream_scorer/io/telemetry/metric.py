"""What a metric is: name, kind, meaning and labels, and the series that Prometheus reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["", "seconds", "bytes", "ratio"]
# Label values that are not known beforehand: topics, partitions, model versions and the like. Each
# has few values in one process.
OPEN: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricFamily:
    """One metric as declared.

    name: without `_total` and the other suffixes of its series. labels: by name the values that it
    can have, `OPEN` where they are not known beforehand. unit: of the values, "" where they are
    counts. buckets: upper bounds of a histogram, ascending, without infinity. has_created: whether
    the client library also shows since when the metric is counted.
    """

    name: str
    kind: Kind
    meaning: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit: Unit = ""
    buckets: tuple[float, ...] = ()
    has_created: bool = True

    @property
    def exposed_name(self) -> str:
        """The name that a page about it shows: of a counter with `_total`."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def series(self) -> dict[str, tuple[str, ...]]:
        """Names of labels by the name of each series that /metrics has of it."""
        own = tuple(self.labels)
        created = {f"{self.name}_created": own} if self.has_created else {}
        if self.kind == "gauge":
            return {self.name: own}
        if self.kind == "counter":
            return {f"{self.name}_total": own} | created
        return {
            f"{self.name}_bucket": (*own, "le"), f"{self.name}_sum": own,
            f"{self.name}_count": own,
        } | created  # fmt: skip


def counter(name: str, meaning: str, unit: Unit = "", **labels: tuple[str, ...]) -> MetricFamily:
    """A number that only grows while the process runs."""
    return MetricFamily(name, "counter", meaning, labels, unit)


def gauge(name: str, meaning: str, unit: Unit = "", **labels: tuple[str, ...]) -> MetricFamily:
    """A number as it is now."""
    return MetricFamily(name, "gauge", meaning, labels, unit)


def histogram(
    name: str, meaning: str, buckets: tuple[float, ...], unit: Unit = "", **labels: tuple[str, ...]
) -> MetricFamily:
    """How often a value lay below each of `buckets`."""
    return MetricFamily(name, "histogram", meaning, labels, unit, buckets)
