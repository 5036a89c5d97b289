"""Look-ups of schema ids beside the consumer's loop.

A batch may name thousands of ids that nobody registered: six bytes each are enough. Asked for one
after another they would hold the loop beyond the consumer's poll interval, the group would give the
batch to the next member, and that would ask again. So threads of this module ask, and the loop
waits for a moment at a time, polls Kafka, and comes again with the same batch; what was answered
meanwhile is remembered. At most `MOST_ASKED` ids of one batch are asked for, and of those that are
unknown `MOST_UNKNOWN`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from stream_scorer.errors import BusUnavailable

log = logging.getLogger(__name__)

THREADS = 4
# A shop has a few schemas; an id that its registry does not know is a mistake, thousands are an
# attack or corrupt bytes.
MOST_UNKNOWN = 256
# Of a batch's ids, in the order given, so many are asked for in any case.
FIRST_IDS = 16
RETRY_SECONDS = 0.5  # between two attempts within the time that one call may wait
UNKNOWN_SECONDS = 60.0  # how long it is remembered that an id is unknown: it may be registered yet
MOST_REMEMBERED = 65_536
MOST_ASKED = 1024
# Schemas kept, and how long their texts may be together. Those that `ask` waits for are kept in any
# case: else a batch of more would be asked for again without end. The decoder keeps the program of
# each, so what is forgotten is seldom asked for once more.
MOST_SCHEMAS = 1024
MOST_TEXT_CHARACTERS = 2**26


class UnknownIdError(Exception):
    """The registry has no usable schema of this id; the message says why."""


Found = str | UnknownIdError


class Lookups:
    """Answers of `fetch`, called on threads. `fetch` raises BusUnavailable where it has none."""

    def __init__(
        self, fetch: Callable[[int], Found], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._changed = threading.Condition()
        self._schemas: OrderedDict[int, str] = OrderedDict()
        self._text_characters = 0
        self._wanted: frozenset[int] = frozenset()
        self._unknown: OrderedDict[int, tuple[float, UnknownIdError]] = OrderedDict()
        self._waiting: deque[int] = deque()
        self._asking: set[int] = set()
        self._trouble: BusUnavailable | None = None
        self._threads = 0
        self._closed = False

    def ask(self, ids: Sequence[int], seconds: float) -> frozenset[int]:
        """Wait until all ids are answered, or enough of them are unknown; which were given up then.

        ids: the most important ones first.
        Raises BusUnavailable where the registry can't answer, or has not within `seconds`; the
        threads go on, so asking again for the same ids finds more of them answered.
        """
        until = self._clock() + seconds
        last_trouble: BusUnavailable | None = None
        with self._changed:
            self._trouble = None
            missing = [id_ for id_ in ids if self._answer(id_) is None]
            given_up = set(missing[MOST_ASKED:])
            del missing[MOST_ASKED:]
            self._wanted = frozenset(ids) - given_up
            first = set(missing[:FIRST_IDS])
            self._waiting = deque(id_ for id_ in missing if id_ not in self._asking)
            while missing:
                if sum(1 for id_ in ids if id_ in self._unknown) >= MOST_UNKNOWN:
                    self._waiting = deque(id_ for id_ in self._waiting if id_ in first)
                    given_up.update(id_ for id_ in missing if id_ not in first)
                    missing = [id_ for id_ in missing if id_ in first]
                    if not missing:
                        break
                self._start_threads()
                left = until - self._clock()
                if self._trouble is not None and left < RETRY_SECONDS:
                    raise self._trouble
                if left <= 0 and last_trouble is not None:
                    raise last_trouble
                if left <= 0:
                    raise BusUnavailable(
                        f"the schema registry has not answered yet for {len(missing)} of "
                        f"{len(ids)} schema ids"
                    )
                if self._trouble is not None:
                    last_trouble = self._trouble
                    self._changed.wait_for(lambda: self._closed, RETRY_SECONDS)
                    self._trouble = None
                    self._waiting.extend(id_ for id_ in missing if id_ not in self._asking)
                    continue
                self._changed.wait(left)
                missing = [id_ for id_ in missing if self._answer(id_) is None]
            return frozenset(given_up)

    def answer(self, id_: int) -> Found | None:
        """What is remembered of an id; None where nothing is."""
        with self._changed:
            return self._answer(id_)

    def close(self) -> None:
        """Ask for nothing more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()

    def _answer(self, id_: int) -> Found | None:
        schema = self._schemas.get(id_)
        if schema is not None:
            return schema
        known_since, unknown = self._unknown.get(id_, (0.0, None))
        if unknown is not None and self._clock() - known_since > UNKNOWN_SECONDS:
            del self._unknown[id_]
            return None
        return unknown

    def _keep(self, id_: int, schema: str) -> None:
        self._text_characters += len(schema) - len(self._schemas.pop(id_, ""))
        self._schemas[id_] = schema
        for oldest in [id_ for id_ in self._schemas if id_ not in self._wanted]:
            if len(self._schemas) <= MOST_SCHEMAS and (
                self._text_characters <= MOST_TEXT_CHARACTERS
            ):
                break
            self._text_characters -= len(self._schemas.pop(oldest))

    def _start_threads(self) -> None:
        while self._threads < min(THREADS, len(self._waiting) + len(self._asking)):
            self._threads += 1
            # A daemon, because a thread that waits for a name server can't be woken at the end.
            threading.Thread(target=self._work, name="schema-registry", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._closed or not self._waiting:
                    self._threads -= 1
                    return
                id_ = self._waiting.popleft()
                self._asking.add(id_)
            found: Found | None = None
            trouble: BusUnavailable | None = None
            try:
                found = self._fetch(id_)
            except BusUnavailable as error:
                trouble = error
            except Exception as error:  # a thread's exception would be seen by nobody
                log.exception("looking up schema id %d", id_)
                trouble = BusUnavailable(f"schema registry, schema id {id_}: {error!r:.200}")
            with self._changed:
                self._asking.discard(id_)
                if trouble is not None:
                    self._trouble = trouble
                    # The others would fail alike, each after its time-out.
                    self._waiting.clear()
                elif isinstance(found, str):
                    self._keep(id_, found)
                elif found is not None:
                    self._unknown[id_] = self._clock(), found
                    if len(self._unknown) > MOST_REMEMBERED:
                        self._unknown.popitem(last=False)
                self._changed.notify_all()
