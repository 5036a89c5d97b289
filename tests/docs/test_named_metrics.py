"""Metrics that documents name are metrics that a member shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_scorer.io.telemetry.metric_list import METRICS, exposed_series
from tests.docs.scripts import DOCS

PAGES = [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]
# Also by the name of the whole metric, as the reference has histograms.
NAMES = {*exposed_series(), *(family.exposed_name for family in METRICS)}
# In a page's words: all metrics of a kind, as `stream_scorer_drift_...`.
NAMED = re.compile(r"\bstream_scorer_[a-z_]*[a-z](?![a-z_.*]|/)")


def unknown(text: str) -> set[str]:
    """Names in `text` that no series has; a query of a file's rule may have colons instead."""
    return {name for name in NAMED.findall(text) if name not in NAMES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_is_named_exists(page: Path) -> None:
    assert not unknown(page.read_text(encoding="utf-8"))


def test_a_misspelt_name_is_found() -> None:
    assert unknown("`sum(stream_scorer_event_total)`") == {"stream_scorer_event_total"}
    assert not unknown("`sum(stream_scorer_events_total)`")
