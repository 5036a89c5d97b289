"""`stream-scorer backtest`: had this model been live, how good would its scores have been?

At each scoring time a customer is scored from what was known before it (core/labels/as_of.py); the
horizon is waited out, and what happened in it is the truth. A score whose horizon ends after the
events do is written but not judged. Scores one hour, day and week older than each judged one are
computed too, for what staleness would have cost; and where records came late, the judged ones from
what was known by arrival rather than occurrence, or the other way round. Memory: all events, about
150 bytes each, and 4 bytes for each row, category and model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stream_scorer.atomic import NewFolder
from stream_scorer.core.evaluation.backtest import (
    Backtest,
    BacktestedModel,
    BacktestScope,
    JudgedScores,
    KnownTheOtherWay,
    known_the_other_way,
)
from stream_scorer.core.evaluation.judged_task import JudgedTask
from stream_scorer.core.evaluation.outcomes import acted_within_horizon, rows_to_judge
from stream_scorer.core.evaluation.scoring_times import ScoringTimes
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.refused import (
    ignored_events_in_words,
    refused_as_cause,
    refused_in_words,
)
from stream_scorer.core.features.ignored_values import (
    IgnoredValue,
    IgnoredValues,
    ignored_in_words,
    ignored_values,
)
from stream_scorer.core.features.keys import EventColumns
from stream_scorer.core.labels.as_of import KnownEvents, Moments
from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import InputError
from stream_scorer.past.known_events import PastKnowledge, read_knowledge
from stream_scorer.past.scores import (
    PastModel,
    PastScores,
    load_models,
    older_moments,
    overlaps,
    prior_scores,
    score,
    trained_on,
    write_scores,
)
from stream_scorer.past.sources import MissingHistory
from stream_scorer.reports import backtest as backtest_page
from stream_scorer.reports import plots
from stream_scorer.reports.task import task_in_words
from stream_scorer.reports.words import (
    difference_in_words,
    interval_in_words,
    metrics_in_words,
)
from stream_scorer.settings.tree import Settings
from stream_scorer.storage.places import Place


def backtest(
    settings: Settings,
    sources: Sequence[str | Path],
    models: Sequence[Place],
    times: ScoringTimes,
    report_dir: Place,
    *,
    by_arrival: bool = False,
    missing_history: MissingHistory = "refuse",
) -> Backtest:
    """Score the past and write the new folder `report_dir`, whole or not at all.

    sources: as of `open_past`. models: one, or two to compare. by_arrival: an event is known from
    the time of its record on, rather than from its occurrence. missing_history: as of `open_past`.
    Raises InputError where `report_dir` exists or nothing can be judged, and what `open_past` and
    `load_models` raise.
    """
    started = time.monotonic()
    if report_dir.exists():
        raise InputError("--report", report_dir, "already exists; choose another path or delete it")
    plots.new_figure()  # report a missing matplotlib before the work
    loaded, categories = load_models(models)
    past = read_knowledge(settings, sources, by_arrival=by_arrival, missing_history=missing_history)
    moments = times.moments(past.known)
    rule = loaded["model"].loaded.manifest.labels
    rows = _rows_to_judge(past, moments, rule, times.to_ms)
    judged_moments = Moments(moments.customer[rows], moments.as_of_ms[rows])
    older = older_moments(past.known, judged_moments)
    scores = score(loaded, past.known, moments, older)
    judged = _judged(loaded, past.known, judged_moments, categories, scores, rows)
    scope = _scope(loaded, past, moments, times, judged)
    other = _other_way(loaded, past, judged_moments, judged)
    with NewFolder(report_dir) as folder:
        found = Backtest.of(scope, judged, categories, other, str(report_dir))
        for number, name in enumerate(loaded, start=1):
            path = folder.work / f"scores-{number}.parquet"
            write_scores(path, loaded[name], categories, past.known, moments, scores[name])
        _write_report(folder.work, found, judged)
        found = replace(found, seconds=round(time.monotonic() - started, 3))
        folder.publish()
    return found


def in_words(found: Backtest) -> list[str]:
    """The result for people."""
    names = backtest_page.names_of(found)
    lines = [
        *backtest_page.verdict(found),
        *(f"warning: {line}" for line in backtest_page.warnings(found)),
        f"{found.events:,} events; {found.rows:,} scores, {found.judged:,} judged, "
        f"{found.pending:,} whose horizon is not over; {found.seconds:.1f} s",
        f"judged: {task_in_words(found.task, found.judged, found.categories)}",
        *metrics_in_words(
            [(names.get(n, n), m) for n, m in backtest_page.metrics_of(found).items()]
        ),
    ]
    if found.intervals is not None:
        for metric, difference in found.intervals.by_metric().items():
            text = difference_in_words(metric, difference, 5)
            lines.append(f"{metric}, {' minus '.join(names.values())}: {text}")
    for age, cost in found.freshness["model"].items():
        lines.append(
            f"{names['model']}, log loss of a score {age} older, minus fresh: "
            f"{interval_in_words(cost, 5)}"
        )
    if found.known_otherwise is not None:
        lines += _late_events_in_words(found, found.known_otherwise, names)
    left_out = refused_in_words(found.refusals, found.refused)
    left_out += ignored_events_in_words(found.ignored_events)
    for values in found.ignored_values.values():
        left_out += [line for line in ignored_in_words(values) if line not in left_out]
    return [*lines, *left_out, f"report in {found.report}"]


def _late_events_in_words(
    found: Backtest, other: KnownTheOtherWay, names: Mapping[str, str]
) -> list[str]:
    return [
        f"late events: had they been known by {other.known_by} rather than {found.known_by}, "
        f"{other.rows_that_differ:,} of {found.judged:,} rows would differ",
        *(
            f"  {names[name]}, {metric}, by {other.known_by} minus by {found.known_by}: "
            f"{interval_in_words(difference, 5)}"
            for name, differences in other.intervals.items()
            for metric, difference in differences.by_metric().items()
        ),
    ]


def _rows_to_judge(past: PastKnowledge, moments: Moments, rule: LabelRule, to_ms: int) -> Int64:
    rows = rows_to_judge(past.known, moments, rule.horizon_ms)
    if not len(rows):
        cause = refused_as_cause(past.refused)
        remedy = f"no horizon is over by the end of the events; score earlier{cause}"
        raise InputError("--to", moment_text(to_ms), remedy)
    return rows


def _judged(
    models: Mapping[str, PastModel],
    known: KnownEvents,
    moments: Moments,
    categories: tuple[str, ...],
    scores: Mapping[str, PastScores],
    rows: Int64,
) -> JudgedScores:
    """moments: the judged ones of all; rows: their positions in `scores`."""
    rule = models["model"].loaded.manifest.labels  # two models are compared only if it is the same
    acted = acted_within_horizon(rule, known, moments, categories)
    return JudgedScores(
        models={name: of.fresh[rows] for name, of in scores.items()},
        baselines=prior_scores(models, acted.shape),
        acted=acted,
        customer=moments.customer.astype(np.int64),
        as_of_ms=moments.as_of_ms,
        customer_age_ms=moments.as_of_ms - known.first_ms[moments.customer],
        older={name: of.older for name, of in scores.items()},
    )


def _scope(
    models: Mapping[str, PastModel],
    past: PastKnowledge,
    moments: Moments,
    times: ScoringTimes,
    judged: JudgedScores,
) -> BacktestScope:
    rows, (judged_rows, categories) = len(moments.as_of_ms), judged.acted.shape
    first_ms = int(moments.as_of_ms.min())
    return BacktestScope(
        from_time=_iso(times.from_ms),
        to_time=_iso(times.to_ms),
        every=times.every_in_words,
        known_by=past.known_by,
        events=len(past.known.known_at_ms),
        customers=len(past.known.customer_ids),
        rows=rows,
        judged=judged_rows,
        pending=rows - judged_rows,
        categories=categories,
        horizon_ms=models["model"].loaded.manifest.labels.horizon_ms,
        late_events=past.late_events,
        dead_letters=past.refused.by_reason(),
        refused=tuple(past.refused.first),
        refusals=past.refused.refusals(),
        ignored_values={name: _ignored(model, past) for name, model in models.items()},
        ignored_events=past.refused.ignored_events,
        models={
            name: BacktestedModel(
                path=str(model.loaded.path),
                model_version=model.loaded.manifest.model_version,
                fingerprint=f"{model.loaded.fingerprint:016x}",
                not_held_back=overlaps(model, first_ms),
                trained=trained_on(model.loaded),
            )
            for name, model in models.items()
        },
        task=JudgedTask.of(
            models["model"].loaded.manifest.labels,
            (int(judged.as_of_ms.min()), int(judged.as_of_ms.max())),
            judged.customer,
            judged.acted,
        ),
    )


def _ignored(model: PastModel, past: PastKnowledge) -> tuple[IgnoredValue, ...]:
    space, rule = model.loaded.feature_space(), model.loaded.manifest.labels
    found = IgnoredValues()
    # A vocabulary that no feature of the model uses is not in its manifest.
    also = {f: types for f, types in rule.looks_at().items() if f in space.index}
    found.add(ignored_values(space, EventColumns(past.known.events), also))
    return found.found(space.vocabularies)


def _other_way(
    models: Mapping[str, PastModel], past: PastKnowledge, moments: Moments, judged: JudgedScores
) -> KnownTheOtherWay | None:
    """The judged scores, had late events been known the other way; None where none was late."""
    if past.known_otherwise is None:
        return None
    # The moments are those of the way that was asked for, so that rows can be compared one by one.
    # They hold numbers of customers, which are the same both ways: they follow from the ids.
    others = score(models, past.known_otherwise, moments, {})
    fresh = {name: of.fresh for name, of in others.items()}
    return known_the_other_way(past.otherwise_by, judged, fresh)


def _write_report(folder: Path, found: Backtest, judged: JudgedScores) -> None:
    """report.html and metrics.json."""
    backtest_page.write(folder / "report.html", found, judged)
    text = json.dumps(found.as_metrics_json(), indent=1) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")


def _iso(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms')}Z"
