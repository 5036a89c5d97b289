"""`stream-scorer features`: every column of the vectors, with what it means in words.

A column's meaning follows from the declaration alone, so neither Redis nor Kafka is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from stream_scorer.core.features.space import Block, FeatureSpace
from stream_scorer.errors import InputError
from stream_scorer.io.files.feature_columns import Column, write_columns
from stream_scorer.result import Result
from stream_scorer.settings.tree import Settings


@dataclass(frozen=True)
class FeatureColumns(Result):
    """The columns that were asked for. width: how many the declaration has in all."""

    fingerprint: str
    width: int
    columns: tuple[Column, ...]
    out: str | None


def features(
    settings: Settings, feature: str | None = None, limit: int = 0, out: Path | None = None
) -> FeatureColumns:
    """The columns of the declared features, or of one `feature`; the first `limit`, 0 for all.

    out: a new Parquet file for them. Raises InputError where `feature` is not declared, or where
    `out` exists or can't be written.
    """
    space = settings.feature_space()
    declared = [f.name for f in space.features]
    if feature is not None and feature not in declared:
        raise InputError("--feature", feature, f"is not declared; give {', '.join(declared)}")
    found = tuple(islice(_columns(space, feature), limit or None))
    if out is not None:
        write_columns(out, found)
    return FeatureColumns(
        space.fingerprint_hex, space.width, found, None if out is None else str(out)
    )


def in_words(found: FeatureColumns) -> list[str]:
    """A table for people, or where it was written."""
    counted = f"{len(found.columns):,} of {found.width:,} columns, fingerprint {found.fingerprint}"
    if found.out is not None:
        return [f"{counted}, to {found.out}"]
    head = ("column", "name", "kind", "half-life", "transform", "scale")
    rows = [
        (str(c.column), c.name, c.kind, c.half_life, c.transform, f"{c.scale:g}")
        for c in found.columns
    ]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    return [*lines, counted]


def _columns(space: FeatureSpace, feature: str | None) -> Iterator[Column]:
    for block, half_life in _blocks(space):
        declared = space.features[block.feature]
        if feature not in (None, declared.name):
            continue
        for key in range(block.stop - block.start):
            column = block.start + key
            yield Column(
                column, space.names()[column], declared.name, block.kind,
                space.by_values(block, key), half_life, block.half_life_ms, block.transform,
                block.scale, key if block.buckets else None,
            )  # fmt: skip


def _blocks(space: FeatureSpace) -> Iterator[tuple[Block, str]]:
    """All blocks, each with its half-life as declared: a feature has one for each, in order, and a
    trend one for all.
    """
    half_lives = [
        half_life
        for f in space.features
        for half_life in (("/".join(f.half_lives),) if f.kind == "trend" else f.half_lives)
    ]
    return zip(space.blocks, half_lives, strict=True)
