"""What the metrics of this process show at one moment, by name, for those who summarise them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry


@dataclass(frozen=True)
class Readings:
    """values: by series (with its suffix, as `_total`) and by its labels in order of their names,
    the value."""

    values: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]

    @classmethod
    def of(cls, registry: CollectorRegistry) -> Readings:
        """As of now; about a millisecond."""
        values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in registry.collect():
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                values.setdefault(sample.name, {})[labels] = sample.value
        return cls(values)

    def value(self, series: str, **labels: str) -> float | None:
        """None where there is no such series, or nothing was measured yet (NaN)."""
        found = self.values.get(series, {}).get(tuple(sorted(labels.items())))
        return None if found is None or found != found else found  # noqa: PLR0124 - NaN

    def count(self, series: str, **labels: str) -> int:
        """The value as a whole number, 0 where there is none."""
        return round(self.value(series, **labels) or 0)

    def total(self, series: str) -> float:
        """The sum over all labels."""
        return sum(self.values.get(series, {}).values())

    def by_label(self, series: str, label: str) -> dict[str, float]:
        """By value of one label, the sum over the others."""
        found: dict[str, float] = {}
        for labels, value in self.values.get(series, {}).items():
            name = dict(labels).get(label, "")
            found[name] = found.get(name, 0.0) + value
        return found

    def labels(self, series: str) -> list[dict[str, str]]:
        """The labels of each series of this name."""
        return [dict(labels) for labels in self.values.get(series, {})]

    def buckets(self, histogram: str) -> tuple[tuple[float, float], ...]:
        """Upper bound and number of observations up to it, ascending; the sum over all labels."""
        found = self.by_label(f"{histogram}_bucket", "le")
        return tuple(sorted((float(bound), count) for bound, count in found.items()))
