"""Reports in a real Chromium: for those who see little, at night, and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_scorer.core.evaluation.evaluation import Evaluation, ScoredRows
from stream_scorer.core.evaluation.judged_task import JudgedTask, TrainedOn
from stream_scorer.core.evaluation.model_card import CardLabels
from stream_scorer.reports import evaluation
from tests.browser.conftest import SIZES
from tests.browser.likeness import FOLDER, MOST_CHANGED, changed_share

pytestmark = pytest.mark.browser

LOOKS = [("desktop", "light"), ("desktop", "dark"), ("phone", "light")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an evaluation with every part: two baselines, a warning, marks of all kinds."""
    draw = np.random.default_rng(3)
    truth = draw.beta(1, 9, (600, 12)).astype(np.float32)
    acted = draw.random(truth.shape) < truth
    prior = np.broadcast_to(truth.mean(axis=0), truth.shape)
    ours = np.clip(truth * draw.uniform(0.8, 1.2, truth.shape), 1e-4, 0.99).astype(np.float32)
    rows = ScoredRows(
        {"model": ours, "prior": prior, "logistic": truth}, acted, np.arange(600) // 2, 0, 9
    )
    found = Evaluation.of(
        rows, [f"category {i}" for i in range(12)], model="models/spring", model_version="v",
        notes=[], not_held_back=True,
        task=JudgedTask(
            CardLabels("category_id", (("purchase",),), 14.0), "2026-03-01T00:00:00Z",
            "2026-03-08T00:00:00Z", 300, float(acted.mean()),
        ),
        trained=TrainedOn(
            900, "2026-01-01T00:00:00Z", "2026-02-22T00:00:00Z", "2026-03-08T00:00:00Z", 18,
            ("bought: number of purchase events",),
        ),
    )  # fmt: skip
    page = tmp_path_factory.mktemp("report") / "quality.html"
    evaluation.write(page, found, rows)
    return page


@pytest.fixture(params=LOOKS, ids="-".join)
def opened(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    """The report on such a screen; page.asked: what it wanted to load besides itself."""
    size, scheme = request.param
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    with closing(browser.new_context(viewport=viewport, color_scheme=scheme)) as context:
        page = context.new_page()
        page.asked, page.look = [], f"{size}-{scheme}"
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(report.as_uri())
        yield page


def test_a_report_has_no_fault_for_axe_and_loads_nothing_from_elsewhere(
    opened: Any, report: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - of an extra

    assert opened.asked == [report.as_uri()]
    for fold in opened.query_selector_all("summary"):
        fold.click()
    found = Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.evaluate(sideways) == 0


def test_a_report_looks_as_it_did(opened: Any) -> None:
    # After a change that is meant to show: the cells of the new screenshot (`likeness.cells_of`).
    stored = FOLDER / f"report-{opened.look}.png"
    assert changed_share(opened.screenshot(), stored) <= MOST_CHANGED


def test_plots_have_the_colours_of_the_scheme(opened: Any) -> None:
    ink = opened.evaluate("getComputedStyle(document.querySelector('figure > svg text')).fill")
    dark = opened.look.endswith("dark")
    lightness = sum(map(int, ink.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (lightness > 3 * 128) == dark
