"""What a running member knows of customers who were erased on request, so that no loss of Redis
brings them back.

Redis may go back to a moment before an erasure: the records and the list that it wrote are gone
then, both (io/stores/erasures.py). A member that had seen the list erases these customers again, at
the boundaries of before, when it looks next: every few seconds, and where the store says that it
lost writes before any event is read again. So the events of before, which are then read again, meet
the boundary. What was published of such a customer between the loss and this moment stays in the
output topic; the log says so, and that the request has to be made again.

The list is read only where its length is another one than at the last look, which a GET of a few
bytes tells.
"""

from __future__ import annotations

import logging

from stream_scorer.core.features.state import NEVER
from stream_scorer.io.stores.erasures import Erasures

log = logging.getLogger(__name__)

NAMED = 5


class KeptErasures:
    """Of one namespace; not thread-safe. Raises as `Erasures` does."""

    def __init__(self, erasures: Erasures) -> None:
        self._erasures = erasures
        self._known: dict[str, int] = {}
        self._bytes = 0

    def keep(self) -> None:
        """Learn whom others erased meanwhile, and erase again whom Redis has lost."""
        length = self._erasures.list_bytes()
        if length == self._bytes:
            return
        listed = self._erasures.listed()
        lost = {i: ms for i, ms in self._known.items() if listed.get(i, NEVER) < ms}
        if lost:
            self._erasures.erase(lost)
            log.warning(
                "Redis lost that %s customers were forgotten on request; their records are deleted "
                "again; what was published of them meanwhile is not: run `stream-scorer customer "
                "forget` again for %s",
                f"{len(lost):,}", ", ".join(sorted(lost)[:NAMED]) + " ..." * (len(lost) > NAMED),
            )  # fmt: skip
            length = self._erasures.list_bytes()
        self._known |= {i: max(ms, self._known.get(i, NEVER)) for i, ms in listed.items()}
        self._bytes = length
