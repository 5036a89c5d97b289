"""Snapshots that models are trained on or measured by, all of one declaration and label rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from stream_scorer.core.labels.labels import LabelRule
from stream_scorer.errors import SnapshotError
from stream_scorer.io.files.snapshots import Shards, Snapshot
from stream_scorer.storage.places import Place


def open_labelled(
    paths: Sequence[Place], fingerprint: int, rule: LabelRule, other_rule_remedy: str,
    erased_customers: Mapping[str, int] = MappingProxyType({}),
) -> Shards:  # fmt: skip
    """The shards of these snapshots, every byte of which was checked.

    other_rule_remedy: what to do about labels of another rule than `rule`. erased_customers: as of
    `Snapshot.leave_out`. Where they are of samples of different shares of customers, a row weighs
    by how many customers it stands for, and all rows together what they weighed before. Raises
    SnapshotError and FingerprintMismatch.
    """
    opened = [Snapshot.open(path, fingerprint) for path in paths]
    for snapshot in opened:
        if snapshot.info.labels is None:
            remedy = "has no labels; make one with `stream-scorer replay`"
            raise SnapshotError("snapshot", snapshot.path, remedy)
        if snapshot.info.labels != rule:
            raise SnapshotError("snapshot", snapshot.path, other_rule_remedy)
        snapshot.leave_out(erased_customers)
    _weigh_by_share(opened)
    return Shards(opened)


def samples_of(shards: Shards) -> dict[str, str]:
    """By path the share of customers that each snapshot is a sample of; those of everybody are not
    in it."""
    shares = [(str(s.path), s.info.customer_sample.in_manifest) for s in shards.snapshots]
    return {path: share for path, share in shares if share is not None}


def samples_in_words(shards: Shards) -> list[str]:
    """A line for each snapshot of a sample of customers."""
    return [
        f"{path}: rows of {share} of customers, whom a hash of the id chose; their numbers are of "
        "these, and rates are those of all but for chance"
        for path, share in samples_of(shards).items()
    ]


def _weigh_by_share(snapshots: Sequence[Snapshot]) -> None:
    stands_for = [snapshot.info.customer_sample.stands_for for snapshot in snapshots]
    rows = sum(snapshot.rows for snapshot in snapshots)
    of = sum(s.rows * each for s, each in zip(snapshots, stands_for, strict=True))
    if len(set(stands_for)) > 1 and of:
        for snapshot, each in zip(snapshots, stands_for, strict=True):
            snapshot.weigh(each * rows / of)


def erased_rows_in_words(shards: Shards) -> list[str]:
    """One line where rows of customers who were forgotten on request were left out."""
    count = sum(snapshot.erased_rows for snapshot in shards.snapshots)
    return [f"{count:,} rows left out: their customers were forgotten on request"] if count else []
