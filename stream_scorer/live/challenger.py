"""A second model beside the active one: in the shadow, or as a canary.

Both models are of one declaration, so they score the same matrix. A shadow scores a micro-batch
after it was committed: no event of it waits, nothing of it is published, and how it differs is
summed up. Then it rests for as long as it took, so it takes at most half of the time; micro-batches
that come meanwhile are counted as skipped. A canary serves its share of customers in place of the
active model. A challenger that fails is switched off until the next start: the active model serves
all customers, those of the micro-batch that it failed on too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from stream_scorer.core.canary import in_canary
from stream_scorer.core.evaluation.agreement import Agreement
from stream_scorer.core.events.batch import Int64
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import ConfigError
from stream_scorer.log_events import event
from stream_scorer.model import artefact
from stream_scorer.model.engines.engine import Engine, open_engine
from stream_scorer.model.engines.golden import check_golden_batch
from stream_scorer.settings.tree import ChallengerSettings, Settings

log = logging.getLogger(__name__)

NOBODY = np.zeros(0, np.int64)


@dataclass
class Scored:
    """How many customers an engine scored, and in how many seconds."""

    customers: int = 0
    seconds: float = 0.0

    def add(self, customers: int, seconds: float) -> None:
        """Count one call of the engine."""
        self.customers += customers
        self.seconds += seconds

    @property
    def seconds_per_customer(self) -> float:
        """NaN where nobody was scored."""
        return self.seconds / self.customers if self.customers else float("nan")


@dataclass
class Measures:
    """What happened since the last time that they were taken.

    agreement: of a shadow, None of a canary. skipped: customers whom a shadow left out because it
    rested. active, challenger: what each engine scored.
    """

    agreement: Agreement | None
    skipped: int = 0
    active: Scored = field(default_factory=Scored)
    challenger: Scored = field(default_factory=Scored)


class Challenger:
    """One challenger for the life of a consumer. Not thread-safe; it does not raise.

    settings: of [challenger]. failures: how often it failed, 1 at most, since it is off then.
    monotonic_seconds: a clock that only durations are read from.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ChallengerSettings,
        monotonic_seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.engine, self.mode = engine, settings.mode
        self._settings, self._clock = settings, monotonic_seconds
        self._failure = self._unfit = ""
        self._active: Engine | None = None
        self._kept: tuple[sparse.csr_matrix, Float32] | None = None
        self._rests_until = float("-inf")
        self.failures = 0
        self.measures = Measures(None)

    @property
    def off(self) -> str:
        """Why it does nothing at the moment; "" while it works."""
        return self._failure or self._unfit

    @property
    def serves(self) -> str:
        """Whom it serves as a canary; "" where it does not."""
        if self.mode != "canary" or self.off:
            return ""
        rule = self._settings
        return f"canary {self.engine.model_version} for {rule.share:.6g} {rule.salt}".rstrip()

    def in_words(self) -> str:
        """What it is set to do, or why it does not."""
        if self.off:
            return f"is switched off: {self.off}"
        if self.mode == "shadow":
            return "in the shadow: its scores are compared and not published"
        return f"a canary: it serves {self._settings.share:.4g} of customers"

    def beside(self, active: Engine) -> None:
        """`active` serves from now on. Where it is this very model, there is nothing to compare."""
        before, self._unfit = self._unfit, ""
        version = self.engine.model_version
        self._active = active
        if active.model_version == version:
            self._unfit = "it is the active model now"
        elif active.classes != self.engine.classes:
            self._unfit = f"the active model {active.model_version} has other classes"
        elif not set(active.categories) & set(self.engine.categories):
            self._unfit = f"the active model {active.model_version} has none of its categories"
        self.start_measuring()
        if self._failure:
            return
        if self._unfit:
            log.warning(
                "challenger %s is switched off: %s", version, self._unfit,
                extra=event("challenger_unfit", model_version=version),
            )  # fmt: skip
        elif before:
            log.warning(
                "challenger %s works again, beside %s", version, active.model_version,
                extra=event("challenger_fit", model_version=version),
            )  # fmt: skip

    def use_trend(self, table: TrendTable) -> None:
        """The shop's trend for what it scores from now on."""
        try:
            self.engine.use_trend(table)
        except Exception as error:  # the active model goes on
            self._fail(error)

    def start_measuring(self) -> None:
        """Forget what was measured until now."""
        self._kept = None
        self.measures = Measures(self._new_agreement())

    def take_measures(self) -> Measures:
        """What was measured since the last time."""
        taken, self.measures = self.measures, Measures(self._new_agreement())
        return taken

    def canary_rows(self, customer_ids: Sequence[str]) -> Int64:
        """(k,) ascending positions of the customers whom the challenger is to serve."""
        if self.mode != "canary" or self.off:
            return NOBODY
        rule = self._settings
        return np.flatnonzero(in_canary(customer_ids, rule.share, rule.salt))

    def serve(self, matrix: sparse.csr_matrix) -> Float32 | None:
        """The canary's scores (k, N, C); None where it failed and the active model must serve."""
        try:
            return self._score(matrix)
        except Exception as error:  # whatever is wrong with it, its customers must get a score
            self._fail(error)
            return None

    def keep(self, matrix: sparse.csr_matrix, scores: Float32, seconds: float) -> None:
        """Note what the active model scored, and in how many seconds; `compare` needs it.

        One micro-batch is kept: that of the last call.
        """
        self.measures.active.add(len(scores), seconds)
        if self.mode == "shadow" and not self.off:
            self._kept = matrix, scores

    def compare(self) -> None:
        """Score what was kept last, in the shadow, and measure how that differs."""
        kept, self._kept = self._kept, None
        agreement = self.measures.agreement
        if kept is None or agreement is None or self.off:
            return
        matrix, active = kept
        started = self._clock()
        if started < self._rests_until:
            self.measures.skipped += len(active)
            return
        try:
            agreement.add(active, self._score(matrix))
        except Exception as error:  # a shadow must not stop what events wait for
            self._fail(error)
        now = self._clock()
        self._rests_until = now + (now - started)

    def _score(self, matrix: sparse.csr_matrix) -> Float32:
        started = self._clock()
        scores = self.engine.score(matrix)
        self.measures.challenger.add(len(scores), self._clock() - started)
        return scores

    def _fail(self, error: Exception) -> None:
        self._failure = f"{type(error).__name__}: {error}"
        self.failures += 1
        log.error(
            "challenger %s failed and is switched off until the next start; the active model "
            "serves all customers: %s",
            self.engine.model_version, self._failure,
            extra=event("challenger_failed", model_version=self.engine.model_version),
        )  # fmt: skip

    def _new_agreement(self) -> Agreement | None:
        if self.mode != "shadow" or self._unfit or self._active is None:
            return None
        k = self._settings.agreement_k
        return Agreement(self._active.categories, self.engine.categories, k)


def load_challenger(
    settings: Settings, space: FeatureSpace, active: artefact.Artefact
) -> artefact.Artefact | None:
    """The challenger of the settings, checked against the active model; None where none is set.

    Raises ConfigError where the two are not of the same declaration, and ArtefactError.
    """
    path = settings.challenger.path
    if path is None:
        return None
    loaded = artefact.load(path)
    if loaded.fingerprint != space.fingerprint:
        remedy = (
            f"its features have the fingerprint {loaded.manifest.fingerprint}, those of this "
            f"configuration {space.fingerprint_hex}: train a challenger on these [[features]], or "
            'set path = ""'
        )
        raise ConfigError("challenger.path", path, remedy)
    if loaded.manifest.labels != active.manifest.labels:
        remedy = (
            f"it learnt other labels than the active model {active.path}, so the two can't be "
            'compared: train it with the same [labels], or set path = ""'
        )
        raise ConfigError("challenger.path", path, remedy)
    if not set(loaded.manifest.categories) & set(active.manifest.categories):
        remedy = (
            f"it has no category of the active model {active.path}, so the two can't be compared: "
            'train it again, or set path = ""'
        )
        raise ConfigError("challenger.path", path, remedy)
    return loaded


def open_challenger(
    settings: Settings, space: FeatureSpace, active: artefact.Artefact
) -> Challenger | None:
    """The challenger of the settings, ready to score; None where none is set.

    Raises as `load_challenger`.
    """
    loaded = load_challenger(settings, space, active)
    if loaded is None:
        return None
    engine = open_engine(loaded, settings.model.engine)
    check_golden_batch(engine, loaded)
    return Challenger(engine, settings.challenger)
