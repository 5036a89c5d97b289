"""Metrics as the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def exposition(
    registry: CollectorRegistry, accept: str, names: Sequence[str] = ()
) -> tuple[str, bytes]:
    """The content type and the text. accept: the header of the request, which may ask for
    OpenMetrics; names: only series of these names, all where there are none."""
    encode, content_type = choose_encoder(accept)
    chosen = registry.restricted_registry(names) if names else registry
    return content_type, encode(chosen)
