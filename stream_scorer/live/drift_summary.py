"""The drift of a whole namespace, from what its members sampled: for metrics, page and `drift`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from stream_scorer.core.drift.counts import Binning, DriftCounts
from stream_scorer.core.drift.hour import HOUR_MS, HourSample
from stream_scorer.core.drift.live_quality import live_quality
from stream_scorer.core.drift.reference import AFTER_EVENTS
from stream_scorer.core.drift.stability import LEAST_ROWS
from stream_scorer.core.drift.summary import (
    AT_CUTOFFS,
    BlockDrift,
    DriftLimits,
    DriftSummary,
    ScoreDrift,
    block_drifts,
    event_drift,
    score_drifts,
    verdict_of,
)
from stream_scorer.errors import StreamScorerError
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.stored_reference import NO_REFERENCE, stored_reference
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

NOTHING_SAMPLED = (
    "no member sampled anything in this window: does `run` run with this namespace, and is "
    "drift.one_in above 0?"
)
NO_EVENT_MIX = (
    "the training snapshots do not say which events they were made of, so the mix of event types "
    "and the share of unknown words are shown without those of training"
)


def drift_summary(
    store: DriftStore, settings: Settings, model: Artefact, now_ms: int,
    limits: DriftLimits | None = None,
) -> DriftSummary:  # fmt: skip
    """Of the group's last window, and of the scores of a horizon. model: which serves.

    limits: those of [drift] where None are given. Raises StoreUnavailable, and ArtefactError where
    the model's reference was altered.
    """
    limits = limits or settings.drift.limits
    space, rule = model.feature_space(), settings.label_rule()
    reference = stored_reference(model)
    version = model.manifest.model_version
    binning = None if reference is None else Binning(reference, space)
    newest = now_ms // HOUR_MS
    in_window = newest - settings.drift.window_hours
    first = min(in_window, newest - -(-rule.horizon_ms // HOUR_MS) - 24)
    hours, members, refused = [], set[str](), 0
    for name, text in store.hours(first, newest):
        try:
            hours.append(HourSample.from_text(text, {} if binning is None else {version: binning}))
        except ValueError as error:
            refused += 1
            log.debug("drift: a sample of %s can't be read: %s", name, error)
            continue
        if hours[-1].hour > in_window:
            members.add(name.partition(".")[0])
    window = [h for h in hours if h.hour > in_window and h.model_version == version]
    quality = live_quality(hours, rule, now_ms)
    notes = [] if window else [NOTHING_SAMPLED]
    if refused:
        notes.append(f"{refused:,} samples of members can't be read: they are of another release")
    from_ms = min((h.hour * HOUR_MS for h in window), default=None)
    to_ms = max((min((h.hour + 1) * HOUR_MS, now_ms) for h in window), default=None)
    counts = _merged(window, binning)
    blocks: tuple[BlockDrift, ...] = ()
    scores: tuple[ScoreDrift, ...] = ()
    events = None
    if binning is None or counts is None:
        notes.append(f"model {version}: {NO_REFERENCE}")
    else:
        covered_ms = len({h.hour for h in window}) * HOUR_MS
        blocks = block_drifts(space, binning, counts, covered_ms, limits.max_psi)
        scores = score_drifts(binning, counts, model.manifest.categories, limits.max_psi)
        events = event_drift(binning, counts, limits.max_psi)
        notes += _notes(binning, counts)
    own = next((q for q in quality if q.model_version == version), None)
    verdict, reasons = verdict_of(blocks, scores, events, own, limits)
    return DriftSummary(
        version, verdict, reasons, from_ms, to_ms, len(members),
        0 if counts is None else counts.rows, 0 if counts is None else counts.passed_over,
        None if reference is None else reference.rows,
        None if reference is None else reference.rows_of, blocks, scores, events, quality,
        tuple(notes), 0 if counts is None else counts.customers,
    )  # fmt: skip


def _merged(window: Sequence[HourSample], binning: Binning | None) -> DriftCounts | None:
    if binning is None:
        return None
    counts = DriftCounts.empty(binning)
    for hour in window:
        if hour.counts is not None:
            counts.add(hour.counts)
    return counts


def _notes(binning: Binning, counts: DriftCounts) -> list[str]:
    reference, notes = binning.reference, list[str]()
    if AFTER_EVENTS not in (reference.rows_of, reference.scored_rows_of):
        notes.append(AT_CUTOFFS)
    if 0 < counts.rows < LEAST_ROWS:
        notes.append(
            f"{counts.rows:,} rows are too few to judge: wait until there are {LEAST_ROWS:,}, or "
            "sample more with a lower drift.one_in or a longer drift.window"
        )
    if reference.event_types is None:
        notes.append(NO_EVENT_MIX)
    return notes


class SummaryThread:
    """Makes the summary again and again on a thread of its own, with connections of its own: where
    many members write, reading all their samples takes seconds.

    make: the summary; told: what to do with each. `close` ends it.
    """

    def __init__(
        self,
        make: Callable[[], DriftSummary],
        told: Callable[[DriftSummary], None],
        first_seconds: float,
        every_seconds: float,
    ) -> None:
        self._make, self._told = make, told
        self._ended, self._complaint = threading.Event(), ""
        self._thread = threading.Thread(
            target=self._run, args=(first_seconds, every_seconds), name="drift", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End; waits for a summary that is being made."""
        self._ended.set()
        self._thread.join()

    def _run(self, seconds: float, every_seconds: float) -> None:
        while not self._ended.wait(seconds):
            seconds = every_seconds
            try:
                self._told(self._make())
                self._complaint = ""
            except StreamScorerError as error:
                if f"{error}" != self._complaint:
                    log.warning("drift is not known at the moment: %s", error)
                self._complaint = f"{error}"
            except Exception:  # a thread's exception would end it, and old metrics would stay
                log.exception("drift is not known at the moment")
