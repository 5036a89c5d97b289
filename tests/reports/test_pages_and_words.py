"""Pages and lines of text of results, also where nothing in them is defined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_scorer.core.evaluation.evaluation import Evaluation, ScoredRows
from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.reports import evaluation as page
from stream_scorer.reports.words import interval_in_words, metrics_in_words


def scored(acted: list[list[int]]) -> ScoredRows:
    ours = np.array([[0.9, 0.2], [0.3, 0.7]], np.float32)
    prior = np.full((2, 2), 0.5, np.float32)
    labels = np.array(acted, np.bool_)
    return ScoredRows({"model": ours, "prior": prior}, labels, np.array([0, 1]), 0)


def evaluated(rows: ScoredRows) -> Evaluation:
    return Evaluation.of(rows, ("soup", "tea"), model="m", model_version="v", notes=["a note"])


@pytest.mark.parametrize("acted", [[[1, 0], [0, 1]], [[0, 0], [0, 0]]], ids=["both", "nobody"])
def test_a_page_is_written_whatever_the_outcomes(acted: list[list[int]], tmp_path: Path) -> None:
    rows = scored(acted)
    found = evaluated(rows)
    page.write(tmp_path / "r.html", found, rows)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    assert f"{found.categories_scored} of them with both outcomes" in text
    assert "a note" in text


def test_the_table_has_a_line_for_each_metric_and_dashes_for_what_is_not_defined() -> None:
    found = evaluated(scored([[0, 0], [0, 0]]))
    lines = metrics_in_words({"model": found.metrics, **found.baselines})
    assert lines[0].split() == ["model", "prior"]
    assert len(lines) == 1 + len(found.metrics.as_json())
    assert lines[2].split() == ["macro_auc", "-", "-"]
    assert all(len(line) == len(lines[0]) for line in lines)


def test_an_interval_has_signs_and_as_many_digits_as_asked_for() -> None:
    found = MetricDifference(0.25, -0.5, 1.0)
    assert interval_in_words(found, 2) == "+0.25 (-0.50 to +1.00)"
    assert interval_in_words(MetricDifference(None, None, None), 2) == "-"
