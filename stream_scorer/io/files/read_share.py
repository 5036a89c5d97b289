"""How much of several files was read, for whoever waits: what total of records is to be expected.

How many records a file has is known only at its end, how many bytes it has at once. Records are
about as long at the end of a file as at its beginning, so the records read so far, over the share
of bytes that they took, are about the total.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stream_scorer.storage.places import Place


class ReadShare:
    """size_bytes: of each file. The reader says where it is; anybody may ask what to expect."""

    def __init__(self, size_bytes: Mapping[Place, int]) -> None:
        self._size_bytes = size_bytes
        self._total = sum(size_bytes.values())
        self.begin_again()

    def begin_again(self) -> None:
        """Nothing is read yet."""
        self._before = self._records = 0
        self._file: Place = Path()
        self._of_file = 0.0

    def begin(self, file: Place) -> None:
        """`file` is read from now on, and those before it are read."""
        self._before += self._size_bytes.get(self._file, 0)
        self._file, self._of_file = file, 0.0

    def at_bytes(self, position: int) -> None:
        """So many bytes of the file are read."""
        self.at_share(position / max(self._size_bytes[self._file], 1))

    def at_share(self, share: float) -> None:
        """This share of the file is read, 0 to 1."""
        self._of_file = min(share, 1.0)

    def add(self, records: int) -> None:
        """So many more records came out of what was read."""
        self._records += records

    def end(self) -> None:
        """All files are read."""
        self._before, self._file = self._total, Path()

    def expected_records(self) -> int | None:
        """About how many records all files have together, to three digits; exactly, once all are
        read; None while nothing is."""
        read = self._before + self._of_file * self._size_bytes.get(self._file, 0)
        if read >= self._total:
            return self._records
        if not read or not self._records:
            return None
        expected = self._records * self._total / read
        digits = 3 - len(str(int(expected)))
        return max(int(round(expected, min(digits, 0))), self._records)
