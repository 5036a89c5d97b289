"""Reading ahead: items are made by a thread of their own while those before are used.

Whatever makes the items should spend its time outside the interpreter lock: reading files, or
compiled loops. Items come in the order in which they are made, so no result depends on timing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def read_ahead(items: Iterable[Item], most_ahead: int = 2) -> Iterator[Iterator[Item]]:
    """The same items, made by a thread that is at most `most_ahead` items before the reader, the
    one that is being made included.

    An exception of `items` is raised to the reader after the items before it. When the context is
    left, also early, the thread has ended and a generator of items is closed.
    """
    # Unbounded, because the semaphore counts the items that are being made too, which a bounded
    # queue would not.
    made: queue.SimpleQueue[tuple[Item] | BaseException | None] = queue.SimpleQueue()
    room, stop = threading.Semaphore(most_ahead), threading.Event()

    def work() -> None:
        making = iter(items)
        try:
            while room.acquire() and not stop.is_set():
                made.put((next(making),))
        except StopIteration:
            made.put(None)
        except BaseException as error:  # whatever it is, it is for the reader of the queue
            made.put(error)
        finally:
            # Closed by the thread that ran it: a generator can't be closed while it runs elsewhere.
            if isinstance(making, Generator):
                making.close()

    def taken() -> Iterator[Item]:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item[0]

    thread = threading.Thread(target=work, name="read ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        room.release()  # the thread may wait for it
        thread.join()
