"""Which metrics and labels an expression of PromQL asks for, beside those that /metrics has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import promql_parser

from stream_scorer.io.telemetry.metric_list import exposed_series

# Labels that Prometheus adds to every series.
SCRAPED = {"job", "instance"}


def selectors(node: Any) -> Iterator[Any]:
    """Every selection of a metric in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for part in _parts(node):
        yield from selectors(part)


def wrong_names(
    expression: str,
    more: Mapping[str, tuple[str, ...]] | None = None,
    scraped: Collection[str] = frozenset(SCRAPED),
) -> list[str]:
    """Metrics and labels of the expression that neither /metrics has nor `more`, labels by the
    name of a series; scraped: labels that every series has."""
    known, wrong = {**exposed_series(), **(more or {})}, []
    parsed = promql_parser.parse(expression)
    for selector in selectors(parsed):
        labels = {matcher.name for matcher in selector.matchers.matchers}
        if selector.name not in known:
            wrong.append(str(selector.name))
        elif not labels <= {*known[selector.name], *scraped}:
            wrong.append(f"{selector.name}: {sorted(labels)}")
    for labels, aggregation in _grouped(parsed):
        for selector in selectors(aggregation):
            if not labels <= {*known.get(selector.name, ()), *scraped}:
                wrong.append(f"{selector.name} by {sorted(labels)}")
    return wrong


def _grouped(node: Any) -> Iterator[tuple[set[str], Any]]:
    """The labels by which each aggregation groups, with the aggregation."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        yield set(node.modifier.labels), node
    for part in _parts(node):
        yield from _grouped(part)


def _parts(node: Any) -> Iterator[Any]:
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for part in inner if isinstance(inner, list) else [inner]:
            if part is not None:
                yield part
