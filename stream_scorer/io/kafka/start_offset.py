"""Where a consumer starts to read a partition.

The store must get every event that it lacks, whatever the group has committed, and an event read
twice counts once. So reading starts at the lower of the committed offset and the store's watermark:

  committed  watermark   start
  no         no          the log's start: a new topic, group or partition
  no or yes  yes         the lower one; below the committed offset, the store lost writes
  yes        no          0: the store was emptied

Where the group has no offset the consumer commits the start before it reads: a watermark says what
the store holds, not what was published. So only a namespace that was built elsewhere (`replay
--into`) or a group whose offsets expired begins at the watermark.

The log may no longer have that offset, because of retention or because the store was emptied and
the log does not begin at 0. Nothing is skipped silently then: `HistoryGone` says what to do.
"""

from __future__ import annotations

import logging

from stream_scorer.core.events.batch import TopicPartition
from stream_scorer.errors import FRESH_START, Halt, HistoryGone
from stream_scorer.log_events import event

log = logging.getLogger(__name__)

Range = tuple[int, int]  # a log's first offset, and the one after its last


def logged_start(
    partition: TopicPartition, committed: int | None, watermark: int | None, there: Range
) -> int:
    """As `start_offset`; logs the start, and what it means where it is an unusual one."""
    start = start_offset(partition, committed, watermark, there)
    if committed is not None and start < committed:
        log.warning(
            "%s[%d]: reading from %d, %d records below the committed offset: the store lacks its "
            "newest writes, or is a namespace that a replay built up to there",
            *partition, start, committed - start,
            extra=event(
                "partition_begun_below_committed", topic=partition[0], partition=partition[1],
                offset=start, records=committed - start,
            ),
        )  # fmt: skip
    elif committed is None and watermark is None and start > 0:
        log.warning(
            "%s[%d]: this group and namespace are new, and the log begins at offset %d: events "
            "before it were deleted, so vectors lack them; to have them, replay their files into a "
            "new namespace first",
            *partition, start,
            extra=event(
                "partition_begins_late", topic=partition[0], partition=partition[1], offset=start
            ),
        )  # fmt: skip
    else:
        log.info(
            "%s[%d]: reading from %d", *partition, start,
            extra=event(
                "partition_begun", topic=partition[0], partition=partition[1], offset=start
            ),
        )  # fmt: skip
    return start


def start_offset(
    partition: TopicPartition, committed: int | None, watermark: int | None, there: Range
) -> int:
    """The offset to read from, where the log holds the offsets `there`.

    Raises HistoryGone, or Halt where the log ends before that offset.
    """
    if committed is None and watermark is None:
        return there[0]
    store_needs = 0 if watermark is None else watermark
    start = store_needs if committed is None else min(committed, store_needs)
    check_in_log(partition, start, there)
    # The higher one, too: what the store has beyond the end of the log was lost with a leader, and
    # other records will get these offsets.
    check_in_log(partition, max(store_needs, committed or 0), there)
    return start


def check_in_log(partition: TopicPartition, offset: int, there: Range) -> None:
    """Raises HistoryGone or Halt where reading can't go on from `offset`."""
    name, (first, end) = f"{partition[0]}[{partition[1]}]", there
    if offset < first:
        raise HistoryGone(
            f"{name}: the store needs events from offset {offset}, but Kafka's log begins at "
            f"{first}: restore a newer copy of the store; or {FRESH_START} and replay older events "
            "from their files"
        )
    if offset > end:
        raise Halt(
            f"{name}: this group or store is at offset {offset}, but Kafka's log ends at {end}: "
            "the topic was deleted and created again, or lost its newest records; " + FRESH_START
        )
