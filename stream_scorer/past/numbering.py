"""Positions that count on from file to file of a directory.

A customer's record keeps an offset for each source that fed it, and a directory may hold thousands
of files. So a directory is one source, and an event's position in it is the event's position in its
file, plus all records of the files before. Dead letters keep the file's own name and positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream_scorer.core.events.batch import EventBatch, TopicPartition
from stream_scorer.core.events.decoded import DecodedBatch
from stream_scorer.storage.places import Place


@dataclass
class Numbering:
    """source_of: of each file, the path that was given for it: a directory, or the file itself.
    begins: of each file read so far, the position in its source at which it begins.
    """

    source_of: Mapping[str, str]
    begins: dict[str, int] = field(default_factory=dict)
    _ends: dict[str, int] = field(default_factory=dict)  # of each source, as far as it was read

    @classmethod
    def of(cls, given_as: Mapping[Place, Place]) -> Numbering:
        """given_as: as in `EventFiles`."""
        return cls({str(file): str(path) for file, path in given_as.items()})

    def numbered(self, batches: Iterable[DecodedBatch]) -> Iterator[DecodedBatch]:
        """The batches, in the order of reading, with source and position in it of each event."""
        for batch in batches:
            self._note(batch.events.partitions, batch.origin.next_offsets())
            yield replace(batch, events=self._renamed(batch.events))

    def _note(
        self, files: Sequence[TopicPartition], next_offsets: Mapping[TopicPartition, int]
    ) -> None:
        for partition in files:
            file, _ = partition
            source = self.source_of[file]
            self.begins.setdefault(file, self._ends.get(source, 0))
            end = self.begins[file] + next_offsets.get(partition, 0)
            self._ends[source] = max(self._ends.get(source, 0), end)

    def _renamed(self, events: EventBatch) -> EventBatch:
        sources = [self.source_of[file] for file, _ in events.partitions]
        begins = [self.begins[file] for file, _ in events.partitions]
        distinct = list(dict.fromkeys(sources))
        number = np.array([distinct.index(source) for source in sources], np.int32)
        return replace(
            events, partitions=[(source, 0) for source in distinct],
            partition_index=number[events.partition_index],
            offsets=events.offsets + np.array(begins, np.int64)[events.partition_index],
        )  # fmt: skip
