"""Snapshots that models are trained on or measured by, all of one declaration and label rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshots import Shards, Snapshot


def open_labelled(
    paths: Sequence[Path], fingerprint: int, rule: LabelRule, other_rule_remedy: str,
    erased_customers: Mapping[str, int] = MappingProxyType({}),
) -> Shards:  # fmt: skip
    """The shards of these snapshots, every byte of which was checked.

    other_rule_remedy: what to do about labels of another rule than `rule`. erased_customers: as of
    `Snapshot.leave_out`. Raises SnapshotError and
    FingerprintMismatch.
    """
    opened = [Snapshot.open(path, fingerprint) for path in paths]
    for snapshot in opened:
        if snapshot.info.labels is None:
            remedy = "has no labels; make one with `stream-scorer replay`"
            raise SnapshotError("snapshot", snapshot.path, remedy)
        if snapshot.info.labels != rule:
            raise SnapshotError("snapshot", snapshot.path, other_rule_remedy)
        snapshot.leave_out(erased_customers)
    return Shards(opened)


def erased_rows_in_words(shards: Shards) -> list[str]:
    """One line where rows of customers who were forgotten on request were left out."""
    count = sum(snapshot.erased_rows for snapshot in shards.snapshots)
    return [f"{count:,} rows left out: their customers were forgotten on request"] if count else []
