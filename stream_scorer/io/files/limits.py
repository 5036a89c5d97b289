"""How much of an event file may be in memory at once, whatever the file makes of it.

A few kilobytes can decompress to gigabytes, so every reader decompresses up to a limit instead of
measuring what came out.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_BLOCK_BYTES = 134_217_728
# A line of JSON may have escapes, and fields that no event has.
_LINE_BYTES_PER_RECORD_BYTE = 16


@dataclass(frozen=True)
class ReadLimits:
    """batch_records: at most so many in a batch. max_record_bytes: of an event as framed Avro.
    max_block_bytes: of a block of Avro, a page of Parquet or a line of JSON, decompressed; and a
    batch is complete as soon as it holds as much.
    """

    batch_records: int
    max_record_bytes: int
    max_block_bytes: int = DEFAULT_BLOCK_BYTES

    @property
    def longest_text(self) -> int:
        """Of one field: a longer one makes a record that is too long, or a block."""
        return min(self.max_block_bytes, self.max_record_bytes)

    @property
    def longest_text_setting(self) -> str:
        """The setting that `longest_text` comes from."""
        by_block = self.max_block_bytes < self.max_record_bytes
        return "events.max_block_bytes" if by_block else "events.max_record_bytes"

    @property
    def line_bytes(self) -> int:
        """Of a line of JSON, which takes many times its bytes while it is parsed."""
        return min(self.max_block_bytes, _LINE_BYTES_PER_RECORD_BYTE * self.max_record_bytes)
