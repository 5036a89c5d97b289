"""What results say of a record that could not be applied."""

from __future__ import annotations

from dataclasses import dataclass

from stream_scorer.result import Result


@dataclass(frozen=True)
class RefusedRecord(Result):
    """position: of the record in its file, from 0, or its offset. detail: the reason in words."""

    source: str
    partition: int
    position: int
    reason: str
    detail: str
