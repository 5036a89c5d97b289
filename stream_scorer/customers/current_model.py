"""The model that members serve, for those who compute propensities without being one.

It is the announced one, else that of model.path, checked as members check it. A canary serves its
customers here as it does there. `look` takes over what was announced since; where that can't be
served here, the model before goes on, and `problem` says why.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream_scorer.core.canary import in_canary
from stream_scorer.core.features.space import FeatureSpace
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


@dataclass(frozen=True)
class OpenModel:
    """An artefact, the engine that scores it, and what explains its logits."""

    artefact: Artefact
    engine: Engine
    attributor: Attributor

    @classmethod
    def of(cls, artefact: Artefact, engine: Engine) -> OpenModel:
        """Of an engine that was opened on this artefact."""
        return cls(artefact, engine, Attributor(artefact))


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
            active = OpenModel.of(served.model, served.engine)
            canary = self._canary(active)
        except InputError as error:
            if f"{error}" != self.problem:
                log.warning("no other model is served here: %s", error)
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
        return OpenModel.of(loaded, engine)


def distinct_models(models: Sequence[OpenModel]) -> list[tuple[OpenModel, list[int]]]:
    """Each model of B customers with the rows that it serves, in the order of their first row."""
    found: dict[int, tuple[OpenModel, list[int]]] = {}
    for row, model in enumerate(models):
        found.setdefault(id(model), (model, []))[1].append(row)
    return list(found.values())
