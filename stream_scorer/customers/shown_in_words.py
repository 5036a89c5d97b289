"""Customers who were looked up, as lines of text for people."""

from __future__ import annotations

from collections.abc import Sequence

from stream_scorer.customers.shown import CustomerShown, ShownColumn, ShownCustomers, ShownSource


def shown_in_words(found: ShownCustomers) -> list[str]:
    """Each customer, then what is not as it should be."""
    lines = []
    for one in found.customers:
        lines += _customer(one, found)
    if not found.namespace_known:
        lines.append(
            f"namespace {found.namespace} holds nothing: no event was ever read into it; see "
            "whether store.namespace and redis.url are those of the members that run"
        )
    if found.model_problem:
        lines.append(f"no propensities by the model that should serve: {found.model_problem}")
    return lines


def not_known_in_words(customer_id: str, namespace: str, erased_until: str | None) -> str:
    """A sentence for a customer of whom nothing is stored."""
    if erased_until is not None:
        return (
            f"customer {customer_id}: erased on request in namespace {namespace}; nothing up to "
            f"{erased_until} counts any more, and there has been no event since"
        )
    return (
        f"customer {customer_id}: not known in namespace {namespace}; no event of this id was read "
        "into it, or its record was deleted"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells under their heads, two blanks before each line."""
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    return [f"  {'  '.join(map(str.ljust, row, widths))}".rstrip() for row in (head, *rows)]


def duration_in_words(seconds: float) -> str:
    """Such as "3.2 days"."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if abs(seconds) >= length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"


def _customer(one: CustomerShown, found: ShownCustomers) -> list[str]:
    if not one.found:
        return [not_known_in_words(one.customer_id, found.namespace, one.erased_until)]
    lines = [
        f"customer {one.customer_id} in namespace {found.namespace}",
        f"  as of {one.as_of}; newest event {one.newest_event}, "
        f"{duration_in_words(one.age_seconds or 0.0)} before",
        f"  record of {one.record_bytes:,} bytes, {_kept(one)}",
        *(f"  events up to {_source(source)}" for source in one.sources),
    ]
    if one.erased_until is not None:
        lines.append(f"  erased on request: nothing up to {one.erased_until} counts any more")
    if one.forgotten:
        lines.append(
            "  forgotten: silent for longer than store.time_to_live_seconds, so the next event "
            "begins a new record and no propensities are computed from this one"
        )
    if one.propensities:
        lines.append(f"  propensities by model {one.model_version}:")
        rows = [(f"{p.probability:.4f}", p.category_id, p.action) for p in one.propensities]
        lines += [f"  {line}" for line in table(("probability", "category", "action"), rows)]
    lines.append(f"  vector: {len(one.columns):,} columns")
    if one.columns:
        rows_of = [
            (c.words, c.value_in_words, f"{c.model_value:,.5g}", _moment(c)) for c in one.columns
        ]
        head = ("what", "value", "model sees", "newest event")
        lines += [f"  {line}" for line in table(head, rows_of)]
    return lines


def _kept(one: CustomerShown) -> str:
    if not one.expiry_known:
        return "whose expiry this Redis user may not ask for (PTTL)"
    if one.expires_in_seconds is None:
        return "which Redis keeps for ever"
    return (
        f"which Redis deletes in {duration_in_words(one.expires_in_seconds)}; forgotten from "
        f"{one.forgotten_from} on"
    )


def _source(source: ShownSource) -> str:
    topic = source.topic or f"event files, or another topic (hash {source.topic_hash})"
    return f"{topic}, partition {source.partition}, offset {source.offset:,}"


def _moment(column: ShownColumn) -> str:
    if column.newest_event is None and column.first_event is not None:
        return f"first {column.first_event}"
    return column.newest_event or ""
