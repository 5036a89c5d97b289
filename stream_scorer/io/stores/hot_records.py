"""Records that this process has just written, kept in memory so that they need not be loaded again.

A record gets in when the store has confirmed it, so what is here was in Redis once. That it still
is, only `save` can say: it compares what a record was made from with what is stored, and refuses
the record where Redis holds something newer or, though it was made from a record, none any more.
So a copy that is out of date costs a second round trip and never an event. It is dropped
where its record was refused, and all copies are where the store gave an error or a partition went
to another owner.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

# What Python needs for a customer beside the bytes of the record: the id, and a place in the
# dictionary. Measured with short ids: 184 bytes.
OVERHEAD_BYTES = 300


def _not_reported(_found: int, _missing: int, _held_bytes: int) -> None:
    """Nobody wants to know."""


class HotRecords:
    """At most `most_bytes` of packed records by customer id; the least recently written go first.

    on_lookup: called after each `get` with the number of records that were found, of those that
    were not, and the bytes that are held.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0
        self.on_lookup: Callable[[int, int, int], None] = _not_reported
        # In the order of `put`. Not a plain dictionary: to find its first key takes longer the more
        # keys were taken from its front.
        self._records: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, customer_ids: Sequence[str]) -> list[bytes | None]:
        """The record of each of these customers, None where there is none."""
        found = [self._records.get(i) for i in customer_ids]
        missing = found.count(None)
        self.on_lookup(len(found) - missing, missing, self.held_bytes)
        return found

    def put(self, customer_ids: Sequence[str], records: Sequence[bytes]) -> None:
        """The store has confirmed these records."""
        if not self._most_bytes:
            return
        kept, held = self._records, self.held_bytes
        for customer_id, record in zip(customer_ids, records, strict=True):
            before = kept.pop(customer_id, None)
            if before is not None:
                held -= len(before) + OVERHEAD_BYTES
            kept[customer_id] = record
            held += len(record) + OVERHEAD_BYTES
        while held > self._most_bytes:
            held -= len(kept.popitem(last=False)[1]) + OVERHEAD_BYTES
        self.held_bytes = held

    def drop(self, customer_ids: Iterable[str] | None = None) -> None:
        """Keep no record of these customers; None: of any."""
        for customer_id in list(self._records) if customer_ids is None else customer_ids:
            record = self._records.pop(customer_id, None)
            if record is not None:
                self.held_bytes -= len(record) + OVERHEAD_BYTES
