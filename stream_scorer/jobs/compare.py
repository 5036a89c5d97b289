"""`stream-scorer models compare`: is the challenger better than the active model?

Both models score what customers' vectors were at past moments, folded anew from the events, and
what customers did within the horizon is the truth. The output topic is not asked: it is compacted,
so of the scores whose horizon is over it holds mostly those of customers who did nothing since, and
with "top_k" only the top of these. Who was served by a canary follows from the hash of the
customer id. A refresh's scores are not among those compared.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stream_scorer.core.canary import in_canary
from stream_scorer.core.evaluation.intervals import JudgedRows, MetricDifference, ModelComparison
from stream_scorer.core.evaluation.judged_task import JudgedTask
from stream_scorer.core.evaluation.model_comparison import (
    ACTIVE,
    CHALLENGER,
    LEAST_ACTED,
    LEAST_CUSTOMERS,
    UNDECIDED,
    ComparedModels,
    ComparisonScope,
    JudgedPair,
)
from stream_scorer.core.evaluation.outcomes import acted_within_horizon, rows_to_judge
from stream_scorer.core.evaluation.scoring_times import EVENT, ScoringTimes
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.events.moments import moment_text
from stream_scorer.core.events.refused import ignored_events_in_words, refused_in_words
from stream_scorer.core.labels.as_of import KnownEvents, Moments
from stream_scorer.errors import ConfigError, InputError, Unavailable
from stream_scorer.io.stores.announcements import Announcements
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.challenger import load_challenger
from stream_scorer.live.consumer import redis_client
from stream_scorer.model import artefact
from stream_scorer.past.known_events import PastKnowledge, read_knowledge
from stream_scorer.past.scores import (
    NAMES,
    PastModel,
    load_models,
    overlaps,
    score,
    trained_on,
)
from stream_scorer.past.sources import MissingHistory
from stream_scorer.reports import comparison as comparison_page
from stream_scorer.reports import plots
from stream_scorer.reports.task import task_in_words
from stream_scorer.reports.words import difference_in_words, metrics_in_words
from stream_scorer.settings.tree import ChallengerSettings, Settings
from stream_scorer.storage.places import Place, place

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """Scoring times from from_ms on, before to_ms; None: from the end of both models' training
    labels, to the end of the events. every: as of `ScoringTimes`."""

    from_ms: int | None = None
    to_ms: int | None = None
    every: str = EVENT


def compare(
    settings: Settings,
    sources: Sequence[str | Path],
    window: Window,
    *,
    missing_history: MissingHistory = "refuse",
    report_file: Place | None = None,
) -> ComparedModels:
    """The model that members serve and that of [challenger], by outcomes.

    sources, missing_history: as of `open_past`. report_file: a page to write. Raises InputError
    where there is no challenger, it is not of the same declaration or is the active model, or where
    nothing can be scored; and what `open_past` raises.
    """
    started = time.monotonic()
    if report_file is not None:
        plots.new_figure()  # report a missing matplotlib before the work
    both, categories = _models(settings)
    training_end_ms = _training_end_ms(both) if window.from_ms is None else window.from_ms
    past = read_knowledge(settings, sources, by_arrival=False, missing_history=missing_history)
    last_ms = int(past.known.known_at_ms[-1])
    to_ms = last_ms + 1 if window.to_ms is None else window.to_ms
    if training_end_ms >= to_ms:
        remedy = f"must lie before {moment_text(to_ms)}, where the scoring times end"
        raise InputError("--from", moment_text(training_end_ms), remedy)
    times = ScoringTimes(training_end_ms, to_ms, window.every)
    moments = times.moments(past.known)
    rows = rows_to_judge(past.known, moments, both[ACTIVE].loaded.manifest.labels.horizon_ms)
    judged = _judged(settings.challenger, both, past.known, moments, rows, categories)
    scope = _scope(settings.challenger.mode, both, past, moments, times, rows, judged)
    about = {
        name: (
            str(model.loaded.path),
            model.loaded.manifest.model_version,
            overlaps(model, int(moments.as_of_ms.min())),
            trained_on(model.loaded),
        )
        for name, model in both.items()
    }
    found = ComparedModels.of(scope, about, judged)
    if report_file is not None:
        comparison_page.write(report_file, found, judged, in_words(found)[0])
    return replace(found, seconds=round(time.monotonic() - started, 3))


def in_words(found: ComparedModels) -> list[str]:
    """The result for people; which model is better comes first."""
    lines = [_verdict(found)]
    lines += [f"warning: {line}" for line in comparison_page.warnings(found)]
    waiting = "" if found.pending_until is None else f", the last until {found.pending_until}"
    lines.append(
        f"{found.rows:,} scores from {found.from_time} to {found.to_time}: {found.judged:,} "
        f"judged, {found.pending:,} wait for their horizon{waiting}; {found.seconds:.1f} s"
    )
    lines.append(f"judged: {task_in_words(found.task, found.judged, found.categories)}")
    for name, model in found.models.items():
        lines.append(
            f"{name} {model.model_version}: {model.rows:,} rows of {model.customers:,} customers"
        )
    lines += metrics_in_words([(name, model.metrics) for name, model in found.models.items()])
    how = "the same rows" if found.paired else "the customers that each serves"
    lines += _differences(f"challenger minus active, on {how}", found.differences)
    if found.on_all_rows is not None:
        lines += _differences("challenger minus active, had both scored all", found.on_all_rows)
    if found.only_active or found.only_challenger:
        lines.append(
            f"{found.categories:,} categories are compared; {found.only_active:,} of the active "
            f"model and {found.only_challenger:,} of the challenger alone are not"
        )
    lines += refused_in_words(found.refusals, ())
    return lines + ignored_events_in_words(found.ignored_events)


def _verdict(found: ComparedModels) -> str:
    loss = found.differences.log_loss
    if not found.judged:
        return f"nothing can be said yet: no horizon is over, {found.pending:,} scores wait for it"
    if loss.difference is None:
        return "nothing can be said yet: one of the models has no judged score"
    if found.too_few_outcomes:
        counts = "; ".join(
            f"{name} {model.customers:,} customers, of whom {model.customers_acted:,} acted"
            for name, model in found.models.items()
        )
        return (
            f"too few outcomes to say which is better: {counts}; each model needs "
            f"{LEAST_CUSTOMERS} customers, of whom {LEAST_ACTED} acted"
        )
    if found.better != UNDECIDED:
        return f"{found.better} is better: {_loss_in_words(loss)}"
    more = ""
    if found.more_customers is not None:
        more = (
            f"; about {found.more_customers:,} more customers would show a difference of this size"
        )
    return f"no difference can be seen yet: {_loss_in_words(loss)}{more}"


def _loss_in_words(loss: MetricDifference) -> str:
    return (
        f"log loss of challenger minus active {loss.difference:+.5f}, 95 % interval "
        f"{loss.low:+.5f} to {loss.high:+.5f}"
    )


def _differences(title: str, found: ModelComparison) -> list[str]:
    lines = [
        f"  {metric}: {difference_in_words(metric, one, 5)}"
        for metric, one in found.by_metric().items()
    ]
    return [f"{title}, with 95 % intervals:", *lines]


def _models(settings: Settings) -> tuple[dict[str, PastModel], tuple[str, ...]]:
    """Both models, and the categories that both have."""
    path, space = settings.challenger.path, settings.feature_space()
    if path is None:
        raise ConfigError("challenger.path", "", "name the model to compare with that of [model]")
    active_path = _active_path(settings)
    active = artefact.load(active_path, space.fingerprint)
    challenger = load_challenger(settings, space, active)
    if challenger is None or challenger.manifest.model_version == active.manifest.model_version:
        remedy = "it is the active model, so there is nothing to compare; name another"
        raise ConfigError("challenger.path", path, remedy)
    loaded, categories = load_models([active_path, path])
    return dict(
        zip((ACTIVE, CHALLENGER), (loaded[name] for name in NAMES), strict=True)
    ), categories


def _active_path(settings: Settings) -> Place:
    """Where the model lies that members serve: the announced one, else that of model.path."""
    server = RedisServer(redis_client(settings))
    try:
        announcement = Announcements(server, settings.store.namespace).current()
    except Unavailable as error:
        # Event files can be compared on a machine that does not reach Redis.
        log.warning("%s; so the active model is taken to be that of model.path", error)
        announcement = None
    finally:
        server.close()
    if announcement is None:
        return settings.model.path
    return place(announcement.model.path, "announced model")


def _training_end_ms(both: Mapping[str, PastModel]) -> int:
    """From when on no label was seen by training. Raises InputError where a manifest lacks it."""
    ends = []
    for model in both.values():
        manifest = model.loaded.manifest
        last_ms = manifest.training.get("last_as_of_ms")
        if not isinstance(last_ms, int):
            remedy = f"{model.loaded.path} does not say until when it was trained; give a time"
            raise InputError("--from", "(none)", remedy)
        ends.append(last_ms + manifest.labels.horizon_ms)
    return max(ends)


def _judged(
    rule: ChallengerSettings,
    both: Mapping[str, PastModel],
    known: KnownEvents,
    moments: Moments,
    rows: Int64,
    categories: tuple[str, ...],
) -> JudgedPair:
    """rows: positions of the moments whose horizon is over."""
    some = Moments(moments.customer[rows], moments.as_of_ms[rows])
    shape = (len(rows), len(categories))
    scores = {name: np.zeros(shape, np.float32) for name in both}
    acted = np.zeros(shape, np.bool_)
    if len(rows):
        scores = {name: of.fresh for name, of in score(both, known, some, {}).items()}
        acted = acted_within_horizon(both[ACTIVE].loaded.manifest.labels, known, some, categories)
    customer = some.customer.astype(np.int64)
    canary = None
    if rule.mode == "canary":
        canary = in_canary(known.customer_ids, rule.share, rule.salt)[customer]
    return JudgedPair(
        JudgedRows(scores[ACTIVE], acted, customer),
        JudgedRows(scores[CHALLENGER], acted, customer),
        canary,
    )


def _scope(
    mode: str,
    both: Mapping[str, PastModel],
    past: PastKnowledge,
    moments: Moments,
    times: ScoringTimes,
    rows: Int64,
    judged: JudgedPair,
) -> ComparisonScope:
    horizon_ms = both[ACTIVE].loaded.manifest.labels.horizon_ms
    waiting_ms = np.delete(moments.as_of_ms, rows) + horizon_ms
    as_of_ms = moments.as_of_ms[rows]
    common = len(both[ACTIVE].columns)
    alone = {name: len(of.loaded.manifest.categories) - common for name, of in both.items()}
    return ComparisonScope(
        mode=mode,
        from_time=moment_text(times.from_ms),
        to_time=moment_text(times.to_ms),
        every=times.every_in_words,
        events=len(past.known.known_at_ms),
        rows=len(moments.as_of_ms),
        judged=len(rows),
        pending=len(waiting_ms),
        pending_until=moment_text(int(waiting_ms.max())) if len(waiting_ms) else None,
        categories=common,
        only_active=alone[ACTIVE],
        only_challenger=alone[CHALLENGER],
        horizon_ms=horizon_ms,
        dead_letters=past.refused.by_reason(),
        refusals=past.refused.refusals(),
        ignored_events=past.refused.ignored_events,
        task=JudgedTask.of(
            both[ACTIVE].loaded.manifest.labels,
            (int(as_of_ms.min()), int(as_of_ms.max())) if len(as_of_ms) else None,
            judged.active.customer,
            judged.active.acted,
        ),
    )
