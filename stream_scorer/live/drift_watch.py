"""Notes what a member's micro-batches say of drift, by the hour, and keeps it in Redis.

After each finished micro-batch the rows of sampled customers are kept; every few seconds they are
counted into the hour's sample (core/drift/hour.py), and the member's line of that hour is written.
A restart loses what was noted since then. Where Redis does not answer, the newest hours are
kept and written later: nothing of the loop waits for it, and scores are published all the same.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Callable

import numpy as np
from scipy import sparse

from stream_scorer.core.drift.counts import Binning
from stream_scorer.core.drift.followed import Actions, Scores, packed_log_odds
from stream_scorer.core.drift.hour import HOUR_MS, HourSample
from stream_scorer.core.drift.sampler import SampledRows, Sampler
from stream_scorer.core.features.ignored_values import UNKNOWN_WORD
from stream_scorer.errors import ArtefactError, StoreUnavailable, StreamScorerError
from stream_scorer.io.batch_report import BatchReport
from stream_scorer.io.stores.drift_store import DriftStore, Put
from stream_scorer.live.erased_samples import kept_ms
from stream_scorer.live.kept_erasures import KeptErasures
from stream_scorer.live.served_model import ServedModel
from stream_scorer.model.stored_reference import NO_REFERENCE, stored_reference
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

SAVE_SECONDS = 15.0
MOST_WAITING = 3  # parts of hours that are kept where Redis does not answer
MOST_TRIES = 3  # of a line, while customers are being forgotten
ROWS_TOGETHER = 512  # kept before they are counted


class DriftWatch:
    """One member's samples. Not thread-safe; it does not raise.

    served: the model that serves. erasures: who was forgotten on request, and is left out of what
    is written. seconds: a clock that only durations are read from.
    """

    def __init__(
        self,
        settings: Settings,
        served: ServedModel,
        store: DriftStore,
        sampler: Sampler,
        clock_ms: Callable[[], int],
        erasures: KeptErasures,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._sampler = store, sampler
        self._clock_ms, self._seconds = clock_ms, seconds
        self._erasures, self._kept_ms = erasures, kept_ms(settings)
        self._member, self._part = uuid.uuid4().hex[:12], 0
        self._waiting: deque[tuple[int, str, HourSample]] = deque(maxlen=MOST_WAITING)
        self._kept: list[SampledRows] = []
        self._changed, self._save_at, self._complaint = False, seconds() + SAVE_SECONDS, ""
        self._take(served)
        self._hour = self._begun(clock_ms() // HOUR_MS, sampler.rank)

    def serve(self, served: ServedModel) -> None:
        """Another model serves from now on."""
        self._end()
        self._take(served)
        self._begin(self._clock_ms() // HOUR_MS)

    def add(self, report: BatchReport) -> None:
        """Note a micro-batch that is published and committed."""
        hour = self._clock_ms() // HOUR_MS
        if hour != self._hour.hour:
            self._end()
            self._begin(hour)
        watched, sampled = report.watched, report.sampled
        if watched is not None:
            if self._hour.counts is not None:
                self._hour.counts.event_types.update(watched.types)
                for value in report.ignored:
                    if value.problem == UNKNOWN_WORD:
                        self._hour.counts.unknown_words[value.field] += value.events
            if len(watched.actions.customer):
                self._hour.note(Scores.none(len(self._index)), watched.actions)
            self._changed = True
        if sampled is not None:
            if self._hour.counts is not None:
                self._hour.counts.passed_over += sampled.passed_over
            if len(sampled.hashes):
                self._kept.append(sampled)
        if sum(len(kept.hashes) for kept in self._kept) >= ROWS_TOGETHER:
            self._count()

    def check(self) -> None:
        """Between two micro-batches: save what is due."""
        now = self._seconds()
        if now >= self._save_at:
            self._save_at = now + SAVE_SECONDS
            self._save()

    def finish(self) -> None:
        """Save what there is: this member stops."""
        self._save()

    def _take(self, served: ServedModel) -> None:
        self._version = served.identity.model_version
        self._index = np.array(served.model.manifest.category_index, np.int64)
        self._binning: Binning | None = None
        try:
            reference = stored_reference(served.model)
        except ArtefactError as error:
            log.warning("drift of features and scores is not measured: %s", error)
            return
        if reference is None:
            log.warning("model %s: %s", self._version, NO_REFERENCE)
            return
        self._binning = Binning(reference, served.model.feature_space())

    def _begun(self, hour: int, rank: int) -> HourSample:
        self._part += 1
        return HourSample.begin(hour, self._version, self._index, rank, self._binning)

    def _begin(self, hour: int) -> None:
        self._hour = self._begun(hour, max(self._sampler.rank, self._hour.rank - 1))

    def _end(self) -> None:
        self._count()
        if self._changed:
            if len(self._waiting) == MOST_WAITING:
                log.warning("drift: an hour's sample is lost, as Redis did not take it")
            self._waiting.append((self._hour.hour, self._name, self._hour))
        self._changed = False

    @property
    def _name(self) -> str:
        return f"{self._member}.{self._part}"

    def _count(self) -> None:
        """Put the rows that were kept into the hour's sample."""
        kept, self._kept = self._kept, []
        if not kept:
            return
        matrix = sparse.vstack([part.matrix for part in kept], format="csr", dtype=np.float32)
        p = np.concatenate([part.p for part in kept])
        if self._hour.counts is not None and self._binning is not None:
            self._hour.counts.add(self._binning.counts_of(matrix, p))
            self._hour.counts.mark(np.concatenate([part.hashes for part in kept]))
        scored_at = [np.full(len(part.hashes), part.scored_at_ms, np.int64) for part in kept]
        scores = Scores(
            np.concatenate([part.hashes for part in kept]),
            np.concatenate([part.as_of_ms for part in kept]),
            np.concatenate(scored_at), packed_log_odds(p),
        )  # fmt: skip
        self._hour.note(scores, Actions.none())
        self._changed = True

    def _save(self) -> None:
        self._count()
        try:
            while self._waiting:
                self._put(*self._waiting[0])
                self._waiting.popleft()
            if self._changed:
                self._put(self._hour.hour, self._name, self._hour)
                self._changed = False
        except StreamScorerError as error:
            if f"{error}" != self._complaint:
                log.warning("what was sampled for drift is not saved: %s", error)
            self._complaint = f"{error}"
        else:
            self._complaint = ""

    def _put(self, hour: int, name: str, sample: HourSample) -> None:
        for _ in range(MOST_TRIES):
            sample.leave_out(self._erasures.sampled)
            known = self._erasures.list_bytes
            done = self._store.put(hour, name, sample.to_text(), self._kept_ms, known)
            if done is Put.TOO_MANY:
                log.warning(
                    "drift: an hour has samples of too many members; this one's is not saved"
                )
            if done is not Put.ERASED_MEANWHILE:
                return
            self._erasures.keep()
        raise StoreUnavailable("customers are being forgotten on request at the moment")
