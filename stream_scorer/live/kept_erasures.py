"""What a running member knows of customers who were erased on request, so that no loss of Redis
brings them back.

Redis may go back to a moment before an erasure: the records and the list that it wrote are gone
then, both (io/stores/erasures.py). A member that had seen the list erases these customers again, at
the boundaries of before, when it looks next: every few seconds, and where the store says that it
lost writes before any event is read again. So the events of before, which are then read again, meet
the boundary. Samples for drift that came back with them are taken out, too. What was published of
such a customer between the loss and this moment stays in the output topic; the log says so, and
that the request has to be made again.

The list is read only where its length is another one than at the last look, which a GET of a few
bytes tells, and then only what was added to it: a list of a million customers takes seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from stream_scorer.core.drift.followed import boundaries_by_hash, rank_of_share
from stream_scorer.core.features.state import NEVER
from stream_scorer.io.stores.drift_store import DriftStore
from stream_scorer.io.stores.erasures import Erasures
from stream_scorer.io.stores.redis_server import RedisServer
from stream_scorer.live.erased_samples import remove_samples
from stream_scorer.settings.tree import Settings

log = logging.getLogger(__name__)

NAMED = 5
END_BYTES = 512  # by which a list is known to be the same one, with more behind it


class KeptErasures:
    """Of one namespace; not thread-safe. Raises as `Erasures` does.

    rank: of customers who are sampled for drift. forget_samples: called with those whom Redis had
    brought back. list_bytes: the length of the list that is known. sampled: by hash, the boundaries
    of those of that rank.
    """

    def __init__(
        self,
        erasures: Erasures,
        rank: int = 0,
        forget_samples: Callable[[Mapping[str, int]], None] = lambda _lost: None,
    ) -> None:
        self._erasures, self._forget_samples = erasures, forget_samples
        self._known: dict[str, int] = {}
        self._brought_back: dict[str, int] = {}  # whose samples are still to be looked for
        self._rank = rank
        self.list_bytes, self._end = 0, b""
        self.sampled: dict[int, int] = {}

    def keep(self) -> None:
        """Learn whom others erased meanwhile, and erase again whom Redis has lost."""
        if self._erasures.list_bytes() != self.list_bytes:
            new = self._added()
            if new is None:
                new = self._all()
            self._take(new)
        if self._brought_back:
            self._forget_samples(self._brought_back)
            self._brought_back = {}

    def boundary_of(self, customer_id: str) -> int:
        """Up to which moment a customer is known to be forgotten; `NEVER` for nobody asked."""
        return self._known.get(customer_id, NEVER)

    def _added(self) -> dict[str, int] | None:
        """What was added to the list that is known; None where it is not the same one."""
        if not self._end:
            return None
        text = self._erasures.text(self.list_bytes - len(self._end))
        if not text.startswith(self._end):
            return None
        new = self._erasures.parsed(text[len(self._end) :])
        self.list_bytes += len(text) - len(self._end)
        self._end = text[-END_BYTES:]
        return new

    def _all(self) -> dict[str, int]:
        """The whole list, after erasing again whom it lacks."""
        text = self._erasures.text()
        listed = self._erasures.parsed(text)
        lost = {i: ms for i, ms in self._known.items() if listed.get(i, NEVER) < ms}
        if lost:
            self._brought_back |= lost
            self._erasures.erase(lost)
            log.warning(
                "Redis lost that %s customers were forgotten on request; their records are deleted "
                "again; what was published of them meanwhile is not: run `stream-scorer customer "
                "forget` again for %s",
                f"{len(lost):,}", ", ".join(sorted(lost)[:NAMED]) + " ..." * (len(lost) > NAMED),
            )  # fmt: skip
            # As it is now: a Redis that goes back again has the list of before once more.
            text = self._erasures.text()
            listed = self._erasures.parsed(text)
        self.list_bytes, self._end = len(text), text[-END_BYTES:]
        return listed

    def _take(self, listed: Mapping[str, int]) -> None:
        new = {i: ms for i, ms in listed.items() if self._known.get(i, NEVER) < ms}
        self._known |= new
        for hashed, ms in boundaries_by_hash(new, self._rank).items():
            self.sampled[hashed] = max(ms, self.sampled.get(hashed, NEVER))


def open_kept_erasures(
    settings: Settings, fingerprint: int, server: RedisServer, clock_ms: Callable[[], int]
) -> KeptErasures:
    """Of the settings' namespace; fingerprint: of its declaration. `server` as of `Erasures`."""
    namespace = settings.store.namespace
    samples = DriftStore(server, namespace)

    def forget_samples(lost: Mapping[str, int]) -> None:
        remove_samples(samples, settings, lost, clock_ms())

    rank = rank_of_share(settings.drift.one_in or 1)
    return KeptErasures(Erasures(server, namespace, fingerprint), rank, forget_samples)
