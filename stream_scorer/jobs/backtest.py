"""`stream-scorer backtest`: had this model been live, how good would its scores have been?

At each scoring time a customer is scored from what was known before it (core/moments.py); the
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
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.atomic import NewFolder
from stream_scorer.core.evaluation import backtest_metrics, metrics
from stream_scorer.core.evaluation.intervals import metric_intervals, plain
from stream_scorer.core.events.batch import NO_TIMESTAMP, Bool, Int64, concatenate_events
from stream_scorer.core.features.space import parse_duration_ms
from stream_scorer.core.labels.as_of import KnownEvents, Moments, after_events, at_cutoffs
from stream_scorer.core.labels.labels import LabelCollector, LabelledRows, dense_labels
from stream_scorer.errors import EventFileError, InputError
from stream_scorer.io.files.scores import ScoreWriter
from stream_scorer.past.scores import (
    AGES_MS,
    NAMES,
    PastModel,
    load_models,
    overlaps,
    prior_scores,
    score,
    stale_moments,
)
from stream_scorer.past.sources import (
    Refused,
    RefusedRecord,
    open_past,
    refused_in_words,
    valid_batches,
)
from stream_scorer.progress import progress
from stream_scorer.settings.tree import Settings

BATCH_RECORDS = 50_000
DAY_MS = 86_400_000
EVENT = "event"


@dataclass(frozen=True)
class When:
    """Scoring times: `cutoffs_ms`; or every duration, or after every event ("event"), from from_ms
    to to_ms. by_arrival: an event is known from its record's time on, not from its occurrence.
    """

    from_ms: int
    to_ms: int
    every: str
    cutoffs_ms: tuple[int, ...] = ()
    by_arrival: bool = False


def backtest(
    settings: Settings,
    sources: Sequence[str | Path],
    models: Sequence[Path],
    when: When,
    report_dir: Path,
) -> dict[str, Any]:
    """Write `report_dir`; the content of its metrics.json. Raises InputError."""
    started = time.monotonic()
    if report_dir.exists():
        raise InputError("--report", report_dir, "already exists; choose another path or delete it")
    from stream_scorer.reports import page  # noqa: PLC0415 - its matplotlib is an extra

    page.new_figure()  # report a missing matplotlib before the work
    chosen, categories = load_models(models)
    refused, late = Refused(), dict.fromkeys(AGES_MS, 0)
    known, otherwise = _known(settings, sources, when, refused, late)
    base = _moments(known, when)
    until_ms = int(known.events.occurred_at_ms.max()) + DAY_MS  # the last day may be cut short
    horizon_ms = chosen[0].loaded.manifest.labels.horizon_ms
    judged = np.flatnonzero(base.as_of_ms + horizon_ms <= until_ms)
    if not len(judged):
        remedy = "no horizon is over by the end of the events; score earlier"
        raise InputError("--to", np.datetime64(when.to_ms, "ms"), remedy)
    stale = stale_moments(known, base, judged)
    score(chosen, known, base, stale, len(categories))
    with NewFolder(report_dir) as folder:
        acted = _acted(chosen[0], known, base, judged, categories)
        report = {
            "from": _iso(when.from_ms), "to": _iso(when.to_ms),
            "every": "given cut-offs" if when.cutoffs_ms else when.every,
            "known_by": "arrival" if when.by_arrival else "occurred_at",
            "events": len(known.known_at_ms), "customers": len(known.customer_ids),
            "rows": len(base.as_of_ms), "judged": len(judged),
            "pending": len(base.as_of_ms) - len(judged),
            "categories": len(categories), "horizon_ms": horizon_ms,
            "late_events": late, "dead_letters": refused.by_reason(),
            "refused": [r.as_json() for r in refused.first],
            **_measured(chosen, known, base, judged, stale, acted, categories),
            "known_otherwise": _otherwise(chosen, otherwise, when, base, judged, acted),
        }  # fmt: skip
        _write(folder.work, report, chosen, known, base, judged, acted)
        report |= {"report": str(report_dir), "seconds": round(time.monotonic() - started, 3)}
        folder.publish()
    return report


def in_words(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    columns = {**report["metrics"], **report["baselines"]}
    lines = [
        f"{report['events']:,} events; {report['rows']:,} scores, {report['judged']:,} judged, "
        f"{report['pending']:,} whose horizon is not over; {report['seconds']:.1f} s",
        "              " + "".join(f"{name:>10}" for name in columns),
    ]
    for metric in evaluation_names(columns):
        cells = "".join(_cell(values[metric]) for values in columns.values())
        lines.append(f"{metric:14}{cells}")
    for metric, found in report["intervals"].items():
        lines.append(f"{metric}, model minus model 2: {_interval(found)}")
    for age, found in report["freshness"]["model"].items():
        lines.append(f"log loss of a score {age} older, minus fresh: {_interval(found)}")
    if report["known_otherwise"]:
        lines += otherwise_in_words(report)
    first = [RefusedRecord(**r) for r in report["refused"]]
    refused = refused_in_words(report["dead_letters"], first)
    return [*lines, *refused, f"report in {report['report']}"]


def otherwise_in_words(report: Mapping[str, Any]) -> list[str]:
    """What late events change."""
    other = report["known_otherwise"]
    return [
        f"late events: had they been known by {other['known_by']} rather than "
        f"{report['known_by']}, {other['rows_that_differ']:,} of {report['judged']:,} rows would "
        "differ",
        *(
            f"  {name}, {metric}, so minus as is: {_interval(found)}"
            for name, intervals in other["intervals"].items()
            for metric, found in intervals.items()
        ),
    ]


def evaluation_names(columns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics that all columns have, in order."""
    return list(next(iter(columns.values())))


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>10}"


def _interval(found: Mapping[str, float | None]) -> str:
    if found["difference"] is None:
        return "-"
    return f"{found['difference']:+.5f} ({found['low']:+.5f} to {found['high']:+.5f})"


def _known(
    settings: Settings, sources: Sequence[str | Path], when: When, refused: Refused,
    late: dict[str, int],
) -> tuple[KnownEvents, KnownEvents | None]:  # fmt: skip
    """All valid events, known as `when` says; and known the other way, where that differs.

    late: how many arrived so much later than they occurred.
    """
    parts, arrivals = [], []
    texts = [str(s) for s in sources]
    with (
        open_past(settings, texts, batch_records=BATCH_RECORDS) as past,
        progress("reading events", past.most_records) as meter,
    ):
        for batch in valid_batches(settings, past, refused):
            events = batch.events
            stamps = batch.origin.timestamps_ms[events.record_index]
            arrived = np.where(stamps == NO_TIMESTAMP, events.occurred_at_ms, stamps)
            for age, age_ms in AGES_MS.items():
                late[age] += int((arrived - events.occurred_at_ms > age_ms).sum())
            parts.append(events)
            arrivals.append(np.maximum(arrived, events.occurred_at_ms))
            meter.advance(len(batch))
        if not sum(map(len, parts)):
            raise EventFileError("events", past.name, "has no event that can be applied")
    everything, arrived = concatenate_events(parts), np.concatenate(arrivals)
    ways = [everything.occurred_at_ms, arrived]
    if when.by_arrival:
        ways.reverse()
    known = KnownEvents.of(everything, ways[0])
    some_late = bool((arrived > everything.occurred_at_ms).any())
    return known, KnownEvents.of(everything, ways[1]) if some_late else None


def _moments(known: KnownEvents, when: When) -> Moments:
    if when.cutoffs_ms:
        found = at_cutoffs(known, sorted(set(when.cutoffs_ms)))
    elif when.every == EVENT:
        found = after_events(known, when.from_ms, when.to_ms)
    else:
        step = parse_duration_ms(when.every)
        if not step:
            raise InputError("--every", when.every, 'give a duration such as "12h", or "event"')
        found = at_cutoffs(known, range(when.from_ms, when.to_ms, step))
    if not len(found.as_of_ms):
        raise InputError(
            "--from", np.datetime64(when.from_ms, "ms"), "no customer is known by then"
        )
    return found


def _acted(
    model: PastModel, known: KnownEvents, base: Moments, judged: Int64, categories: tuple[str, ...]
) -> Bool:
    """(judged, N) whether the customer acted within the horizon."""
    collector = LabelCollector(model.loaded.manifest.labels, categories)
    collector.add(known.events)
    ids = [known.customer_ids[c] for c in base.customer[judged].tolist()]
    as_of = base.as_of_ms[judged]
    rows = LabelledRows(ids, as_of, sparse.csr_matrix((len(ids), 0)), *collector.labels(ids, as_of))
    found: Bool = dense_labels(rows, np.arange(len(categories))) > 0
    return found


def _measured(
    models: Sequence[PastModel], known: KnownEvents, base: Moments, judged: Int64,
    stale: Mapping[str, tuple[Int64, Moments]], acted: Bool, categories: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    named = dict(zip(NAMES, models, strict=False))
    scores = {name: m.scores[judged] for name, m in named.items()}
    customer = base.customer[judged].astype(np.int64)
    with_prior = scores | prior_scores(models[0], acted.shape)
    found = {name: plain(metrics.summary(p, acted)) for name, p in with_prior.items()}
    place = np.full(len(base.as_of_ms), -1, np.int64)
    place[judged] = np.arange(len(judged))
    freshness = {
        name: {
            age: backtest_metrics.staleness(
                m.scores[rows], m.stale[age], acted[place[rows]],
                base.customer[rows].astype(np.int64),
            )
            for age, (rows, _) in stale.items()
        }
        for name, m in named.items()
    }  # fmt: skip
    compared = {}
    if len(models) > 1:
        first, second = scores.values()
        compared = metric_intervals(first, second, acted, customer)
    return {
        "models": {
            name: {
                "path": str(m.loaded.path), "model_version": m.loaded.manifest.model_version,
                "fingerprint": f"{m.loaded.fingerprint:016x}",
                "not_held_back": overlaps(m, int(base.as_of_ms.min())),
            }
            for name, m in named.items()
        },
        "categories_scored": metrics.categories_scored(acted),
        "metrics": {name: found[name] for name in scores},
        "baselines": {name: found[name] for name in with_prior if name not in scores},
        "intervals": compared,
        "over_time": backtest_metrics.by_period(with_prior, acted, base.as_of_ms[judged]),
        "by_customer_age": backtest_metrics.by_age(
            with_prior, acted, base.as_of_ms[judged] - known.first_ms[base.customer[judged]]
        ),
        "freshness": freshness,
        "calibration": {name: backtest_metrics.calibration(p, acted) for name, p in scores.items()},
        "gain": {name: backtest_metrics.gain(p, acted) for name, p in scores.items()},
        "per_category": backtest_metrics.by_category(categories, scores, acted),
    }  # fmt: skip


def _otherwise(
    models: Sequence[PastModel], otherwise: KnownEvents | None, when: When, base: Moments,
    judged: Int64, acted: Bool,
) -> dict[str, Any] | None:  # fmt: skip
    """The judged scores, had late events been known the other way; None where none was late."""
    if otherwise is None:
        return None
    moments = Moments(base.customer[judged], base.as_of_ms[judged])
    others = [replace(m) for m in models]
    score(others, otherwise, moments, {}, acted.shape[1])
    pairs = [(m.scores[judged], o.scores) for m, o in zip(models, others, strict=True)]
    customer = moments.customer.astype(np.int64)
    differing = [(ours != other).any(axis=1) for ours, other in pairs]
    return {
        "known_by": "occurred_at" if when.by_arrival else "arrival",
        "rows_that_differ": int(np.any(differing, axis=0).sum()),
        "metrics": {
            name: plain(metrics.summary(other, acted))
            for name, (_, other) in zip(NAMES, pairs, strict=False)
        },
        "intervals": {
            name: metric_intervals(other, ours, acted, customer)
            for name, (ours, other) in zip(NAMES, pairs, strict=False)
        },
    }


def _write(
    work: Path, report: dict[str, Any], models: Sequence[PastModel], known: KnownEvents,
    base: Moments, judged: Int64, acted: Bool,
) -> None:  # fmt: skip
    from stream_scorer.reports import backtest as html  # noqa: PLC0415

    order = np.lexsort((base.customer, base.as_of_ms))
    ids = [known.customer_ids[c] for c in base.customer[order].tolist()]
    categories = [row["category_id"] for row in report["per_category"]]
    with ExitStack() as stack:
        for number, model in enumerate(models, start=1):
            writer = stack.enter_context(
                ScoreWriter(
                    work / f"scores-{number}.parquet", categories, 2,
                    model.loaded.manifest.model_version,
                )
            )  # fmt: skip
            acting = model.scores[order]
            writer.write(ids, base.as_of_ms[order], np.stack([1 - acting, acting], axis=2))
    scores = {name: m.scores[judged] for name, m in zip(NAMES, models, strict=False)}
    html.write(work / "report.html", report, scores, acted)
    (work / "metrics.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _iso(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms')}Z"
