"""Pages and lines of text of results, also where nothing in them is defined."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.dates import num2date

from stream_scorer.core.evaluation.evaluation import Evaluation, ScoredRows
from stream_scorer.core.evaluation.intervals import MetricDifference
from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.core.evaluation.model_card import CardLabels
from stream_scorer.reports import evaluation as page
from stream_scorer.reports import plots
from stream_scorer.reports.differences import cells
from stream_scorer.reports.verdict import doubts, outcome, shown_names
from stream_scorer.reports.words import interval_in_words, metrics_in_words

TASK = JudgedTask(
    CardLabels("category_id", (("view",), ("purchase",)), 14.0), "2026-03-01T00:00:00Z",
    "2026-03-08T00:00:00Z", 2, 0.25,
)  # fmt: skip
TRAINED = TrainedOn(
    900, "2026-01-01T00:00:00Z", "2026-02-22T00:00:00Z", "2026-03-08T00:00:00Z", 18,
    ("bought: number of purchase events",),
)  # fmt: skip


def scored(acted: list[list[int]]) -> ScoredRows:
    ours = np.array([[0.9, 0.2], [0.3, 0.7]], np.float32)
    prior = np.full((2, 2), 0.5, np.float32)
    labels = np.array(acted, np.bool_)
    return ScoredRows({"model": ours, "prior": prior}, labels, np.array([0, 1]), 0, 9)


def evaluated(rows: ScoredRows, *, flatters: bool = False) -> Evaluation:
    return Evaluation.of(
        rows, ("soup", "tea"), model="models/spring", model_version="v", notes=["a note"],
        task=TASK, trained=TRAINED, not_held_back=flatters,
    )  # fmt: skip


@pytest.mark.parametrize("acted", [[[1, 0], [0, 1]], [[0, 0], [0, 0]]], ids=["both", "nobody"])
def test_a_page_is_written_whatever_the_outcomes(acted: list[list[int]], tmp_path: Path) -> None:
    rows = scored(acted)
    found = evaluated(rows)
    page.write(tmp_path / "r.html", found, rows)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count('<svg role="img"') == 4
    assert f"{found.categories_scored} with both outcomes" in text
    assert "a note" in text
    for words in ("whether a customer will view or purchase", "14 days", "base rate",
                  "2026-03-01 00:00 UTC to 2026-03-08 00:00 UTC", "models/spring",
                  "bought: number of purchase events"):  # fmt: skip
        assert words in text, words


def test_the_table_has_a_line_for_each_metric_and_dashes_for_what_is_not_defined() -> None:
    found = evaluated(scored([[0, 0], [0, 0]]))
    lines = metrics_in_words([("model", found.metrics), *found.baselines.items()])
    assert lines[0].split() == ["model", "prior"]
    assert len(lines) == 1 + len(found.metrics.as_json())
    assert lines[2].split() == ["macro_auc", "-", "-"]
    assert all(len(line) == len(lines[0]) for line in lines)


def test_an_interval_has_signs_and_as_many_digits_as_asked_for() -> None:
    found = MetricDifference(0.25, -0.5, 1.0)
    assert interval_in_words(found, 2) == "+0.25 (-0.50 to +1.00)"
    assert interval_in_words(MetricDifference(None, None, None), 2) == "-"


def test_a_model_whose_training_saw_the_outcomes_is_never_called_better_without_a_warning() -> None:
    rows = scored([[1, 0], [0, 1]])
    fair, flattered = page.verdict(evaluated(rows)), page.verdict(evaluated(rows, flatters=True))
    assert fair[0].startswith("models/spring is better than the prior")
    assert flattered[0].startswith("models/spring looks better than the prior")
    assert "see the warning" in flattered[0]
    warnings = page.warnings(evaluated(rows, flatters=True))
    assert "its training's labels reach into the scored time" in warnings[0]
    assert "from 2026-03-08 00:00 UTC on" in warnings[0]
    assert not any("held back" in line for line in page.warnings(evaluated(rows)))


def test_few_customers_and_nobody_who_acted_are_warned_of() -> None:
    nobody = replace(evaluated(scored([[0, 0], [0, 0]])), task=replace(TASK, base_rate=0.0))
    said = " ".join(page.warnings(nobody))
    assert "only 2 customers were judged" in said
    assert "nobody acted" in said
    assert doubts(replace(TASK, customers=30)) == []


def test_better_and_worse_follow_from_the_interval_and_the_metric() -> None:
    lower, higher = MetricDifference(-0.2, -0.3, -0.1), MetricDifference(0.2, 0.1, 0.3)
    assert [outcome("log_loss", one) for one in (lower, higher)] == ["better", "worse"]
    assert [outcome("recall_at_10", one) for one in (lower, higher)] == ["worse", "better"]
    assert outcome("log_loss", MetricDifference(-0.1, -0.3, 0.0)) == "no difference shown"
    assert outcome("log_loss", MetricDifference(None, None, None)) is None


def test_a_mark_is_a_word_and_a_shape_and_not_a_colour_alone() -> None:
    drawn = "".join(map(str, cells("log_loss", MetricDifference(-0.2, -0.3, -0.1), 2)))
    assert "better" in re.sub("<[^>]*>", "", drawn)
    assert "▲" in drawn
    assert "−0.30 to −0.10" in drawn


def test_models_are_called_what_they_were_given_as() -> None:
    assert shown_names({"model": "models/a", "model 2": "models/b"}) == {
        "model": "models/a", "model 2": "models/b",
    }  # fmt: skip
    long = "/very/long/path/to/where/all/the/models/are/"
    assert shown_names({"model": f"{long}a", "model 2": f"{long}b"}) == {
        "model": "a", "model 2": "b",
    }  # fmt: skip
    assert shown_names({"model": "prior"}) == {"model": "model prior"}
    twice = shown_names({"model": f"{long}1/a", "model 2": f"{long}2/a"})
    assert twice == {"model": f"{long}1/a", "model 2": f"{long}2/a"}
    assert len(set(shown_names({"model": "a", "model 2": "a"}).values())) == 2


def test_ticks_are_at_moments_that_were_measured() -> None:
    day = 86_400_000
    _, axes = plots.new_figure()
    few = [day * k for k in (3, 5, 20)]
    plots.tick_moments(axes, few)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4 Jan", "6 Jan", "21 Jan"]
    _, axes = plots.new_figure()
    times = plots.tick_moments(axes, [day * k for k in range(25)])
    ticks = axes.get_xticks()
    assert len(ticks) <= plots.MOST_TICKS
    assert set(num2date(ticks)) <= set(times)


def test_a_plot_has_its_words_its_points_and_the_colours_of_the_page(tmp_path: Path) -> None:
    rows = scored([[1, 0], [0, 1]])
    page.write(tmp_path / "r.html", evaluated(rows), rows)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    figures = re.findall("<figure>.*?</figure>", text, re.DOTALL)
    assert len(figures) == 4
    for figure in figures:
        assert re.search(r'<svg role="img" aria-label="Plot: [^"]{20,}"', figure)
        assert "<table>" in figure
        drawn = figure[figure.index("<svg") : figure.index("</svg>")]
        assert "var(--ink)" in drawn
        assert not any(colour in drawn for colour in plots.VARIABLES)
