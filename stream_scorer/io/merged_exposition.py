"""The metrics of several processes as one text, each series with the process that it is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from stream_scorer.io.exposition import exposition

LABEL = "process"


def merged_exposition(
    own: CollectorRegistry, texts: Mapping[str, str], accept: str, names: Sequence[str] = ()
) -> tuple[str, bytes]:
    """The content type and the text: of `own`, and of `texts` with the label `process`.

    texts: by process its metrics as OpenMetrics text. accept, names: as of `exposition`.
    """
    together = CollectorRegistry(auto_describe=True)  # `names` are looked up in what is described
    together.register(_Families(list(own.collect())))
    together.register(_Families(_labelled(texts)))
    return exposition(together, accept, names)


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _labelled(texts: Mapping[str, str]) -> list[Metric]:
    families: dict[str, Metric] = {}
    for process, text in texts.items():
        parsed: Iterable[Metric] = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for family in parsed:
            into = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type, family.unit)
            )
            into.samples += [
                sample._replace(labels={**sample.labels, LABEL: process})
                for sample in family.samples
            ]
    return list(families.values())
