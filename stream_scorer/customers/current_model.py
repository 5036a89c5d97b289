"""The model that members serve, for those who compute propensities without being one.

It is the announced one, else that of model.path, checked as members check it. A canary serves its
customers here as it does there. `look` takes over what was announced since; where that can't be
served here, the model before goes on, and `problem` says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import sparse

from stream_scorer.core.canary import in_canary
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.trend import TrendTable
from stream_scorer.errors import InputError, StreamScorerError
from stream_scorer.io.stores.announcements import Announcement, Announcements
from stream_scorer.live.challenger import load_challenger
from stream_scorer.live.served_model import model_at_start
from stream_scorer.model.artefact import Artefact
from stream_scorer.model.attribution import Attributor
from stream_scorer.model.engines.engine import Engine, open_engine
from stream_scorer.model.engines.golden import check_golden_batch
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 30.0


class OpenModel:
    """An artefact, the engine that scores it, and what explains its logits. Safe for several
    threads."""

    def __init__(self, artefact: Artefact, engine: Engine) -> None:
        self.artefact, self.engine = artefact, engine
        self.attributor = Attributor(artefact)
        # An engine has one trend at a time, and not every engine may be called twice at once.
        self._scoring = threading.Lock()
        self._table: TrendTable | None = None  # that the engine has

    def scores(self, matrix: sparse.csr_matrix, table: TrendTable | None) -> Float32:
        """(B, N, C) of (B, F) float32 CSR, with this trend of the shop, None where there is none.

        Raises ArtefactError where a probability is not a number.
        """
        with self._scoring:
            # MXNet copies it.
            if table is not None and table is not self._table:
                self.engine.use_trend(table)
                self._table = table
            return self.engine.score(matrix)


@dataclass(frozen=True)
class Serving:
    """What members serve: the active model and, for some customers, a canary in place of it."""

    active: OpenModel
    canary: OpenModel | None
    announcement: Announcement | None


class CurrentModel:
    """`serving` is None where no model can be served here; `problem` then says why.

    `look` is for one thread; what it opens appears as one value, which any thread may read.
    seconds: a clock that never goes back.
    """

    def __init__(
        self,
        settings: Settings,
        space: FeatureSpace,
        announcements: Announcements,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._space, self._announcements = settings, space, announcements
        self._seconds = seconds
        self._tried: Announcement | None = None
        self._try_at = float("-inf")
        self._complaint = ""
        self.serving: Serving | None = None
        self.problem = ""
        self._open()

    def look(self) -> bool:
        """Open the announced model where it is another one; whether another one is served now.

        Takes seconds where it does. Never raises: where Redis does not answer, or the model can't
        be opened, it is tried again later.
        """
        try:
            found = self._announcements.current()
            self._complaint = ""
        except StreamScorerError as error:
            if f"{error}" != self._complaint:
                log.warning("the announced model can't be looked up: %s", error)
            self._complaint = f"{error}"
            return False
        before = self.serving
        # A Redis that lost its announcement gets it again from the members, who serve it.
        if before and (found is None or found == before.announcement):
            self.problem = ""
            return False
        if found == self._tried and self._seconds() < self._try_at:
            return False
        self._tried = found
        try:
            self._open()
        except StreamScorerError as error:
            self.problem = f"{error}"
        return self.serving is not before

    def of(self, customer_id: str) -> OpenModel:
        """The model that serves this customer. Raises InputError where none can be served here."""
        serving = self.serving
        if serving is None:
            raise InputError(
                "model.path", self._settings.model.path,
                f"no model can be served here: {self.problem}",
            )  # fmt: skip
        rule = self._settings.challenger
        if serving.canary and in_canary([customer_id], rule.share, rule.salt)[0]:
            return serving.canary
        return serving.active

    def _open(self) -> None:
        self._try_at = self._seconds() + TRY_AGAIN_SECONDS
        try:
            served = model_at_start(self._settings, self._space, self._announcements)
            active = OpenModel(served.model, served.engine)
            canary = self._canary(active)
            # What is compiled and allocated at the first score is no part of a look-up.
            for model in (active, canary):
                if model is not None:
                    model.engine.warm_up(1)
        except InputError as error:
            # A look-up says so as well; this is for whoever reads the log of what stays open.
            if self.serving is not None and f"{error}" != self.problem:
                log.warning("the model of before goes on, since another can't: %s", error)
            self.problem = f"{error}"
            return
        self.serving, self.problem = Serving(active, canary, served.announcement), ""

    def _canary(self, active: OpenModel) -> OpenModel | None:
        if self._settings.challenger.mode != "canary":
            return None
        loaded = load_challenger(self._settings, self._space, active.artefact)
        if loaded is None or loaded.manifest.model_version == active.engine.model_version:
            return None
        if loaded.manifest.classes != active.engine.classes:
            return None  # members switch it off, too
        engine = open_engine(loaded, self._settings.model.engine)
        check_golden_batch(engine, loaded)
        return OpenModel(loaded, engine)


def distinct_models(models: Sequence[OpenModel]) -> list[tuple[OpenModel, list[int]]]:
    """Each model of B customers with the rows that it serves, in the order of their first row."""
    found: dict[int, tuple[OpenModel, list[int]]] = {}
    for row, model in enumerate(models):
        found.setdefault(id(model), (model, []))[1].append(row)
    return list(found.values())
