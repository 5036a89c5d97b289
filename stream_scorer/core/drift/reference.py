"""What training looked like: the distributions that live ones are compared with.

`train` counts a sample of its rows and stores the result in the artefact as `reference.json`: of
each block of columns the bins of the amount, which columns have entries, mean and standard
deviation; of the scores, all together and of the most probable categories, the bins and the mean.
It holds no row and no customer.

A consumer scores customers just after their events, so rows that stand there are compared with
them, where training had enough of these. Rows at cut-offs are other rows: the newest event of most
lies long ago.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.core.drift.blocks import (
    AMOUNT_BINS,
    COLUMN_BINS,
    COLUMNS_APART,
    QUANTILE_BINS,
    Edges,
    amounts,
    column_rows,
    counted,
    quantile_edges,
    watched_blocks,
)
from stream_scorer.core.events.batch import Float64, Int64
from stream_scorer.core.features.space import Block, FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.result import Result

FORMAT = 1
AFTER_EVENTS, ALL_ROWS = "event", "all"  # what rows of a reference are
# Categories that are followed one by one, those with the highest mean score; the others are part of
# all scores together.
MOST_CATEGORIES = 100


@dataclass(frozen=True)
class BlockReference(Result):
    """One block. edges: right ends of the bins of amounts that are not 0, ascending, without the
    last. shares: of rows, whose amount is 0, then by bin. mean, deviation: of all rows' amounts.
    columns: those that have bins of their own, counted from the block's first. column_shares: of
    entries, of each of these and of all others. entries: how many the rows have.
    """

    name: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    mean: float
    deviation: float
    columns: tuple[int, ...]
    column_shares: tuple[float, ...]
    entries: int


@dataclass(frozen=True)
class ScoreReference(Result):
    """The probability of acting, in the category of this number, or in all (-1). edges, shares: as
    of a block, without a bin for 0."""

    category: int
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    mean: float


@dataclass(frozen=True)
class DriftReference(Result):
    """format: 1. fingerprint: of the declaration. rows: that features were counted on; rows_of:
    "event" where these stand just after events, else "all". scored_rows: that scores were counted
    on, scored_rows_of what these are; scores_of: "validation", or "training" where there was no
    validation. scores: first that of all categories. event_types, unknown_words: the share of
    events of each type, and by field the share of events with a word that its vocabulary lacks;
    null where the snapshots do not say it.
    """

    format: int
    fingerprint: str
    rows: int
    rows_of: str
    scored_rows: int
    scored_rows_of: str
    scores_of: str
    blocks: tuple[BlockReference, ...]
    scores: tuple[ScoreReference, ...]
    event_types: Mapping[str, float] | None
    unknown_words: Mapping[str, float] | None

    @classmethod
    def from_json(cls, raw: Any, space: FeatureSpace, categories: int) -> DriftReference:
        """What `as_json` gave, checked against the model. Raises ValueError, whose text says in one
        line what is wrong."""
        try:
            blocks = tuple(BlockReference(**_with_tuples(given)) for given in raw["blocks"])
            scores = tuple(ScoreReference(**_with_tuples(given)) for given in raw["scores"])
            found = cls(**{**raw, "blocks": blocks, "scores": scores})
            own = watched_blocks(space)
            fits = (
                found.format == FORMAT
                and found.fingerprint == space.fingerprint_hex
                and [b.name for b in blocks] == [b.name for b in own]
                and all(_fits(one, of) for one, of in zip(blocks, own, strict=True))
                and [s.category for s in scores[:1]] == [-1]
                and all(0 <= s.category < categories for s in scores[1:])
                and all(len(s.edges) < QUANTILE_BINS for s in scores)
                and all(len(s.shares) == len(s.edges) + 1 for s in scores)
                and found.rows > 0
            )
        except (TypeError, KeyError, AttributeError, ValueError):
            fits = False
        if not fits:
            raise ValueError("it is not the reference of this model")
        return found

    def amount_edges(self) -> Edges:
        """Of the K blocks."""
        return Edges.of([block.edges for block in self.blocks])

    def score_edges(self) -> Edges:
        """Of all scores, and of the categories that are followed."""
        return Edges.of([score.edges for score in self.scores])

    def followed(self) -> Int64:
        """(C,) the numbers of the categories that are followed."""
        return np.array([score.category for score in self.scores[1:]], np.int64)


def reference_of(
    space: FeatureSpace,
    rows: tuple[sparse.csr_matrix, Float32, str],
    scores: tuple[Float32, Float32, str, str],
    event_types: Mapping[str, float] | None = None,
    unknown_words: Mapping[str, float] | None = None,
) -> DriftReference:
    """What is stored of these rows: (R, F) float32 CSR, their weights (R,) and what they are,
    "event" or "all"; and of these scores: the probability of acting (S, N), their rows' weights
    (S,), what these are, and of which they are, "validation" or "training". R and S are above 0.
    """
    matrix, weight, rows_of = rows
    p, score_weight, scored_rows_of, scores_of = scores
    return DriftReference(
        FORMAT, space.fingerprint_hex, matrix.shape[0], rows_of, len(p), scored_rows_of,
        scores_of,
        _blocks(space, matrix, weight.astype(np.float64)),
        _scores(p, score_weight.astype(np.float64)), event_types, unknown_words,
    )  # fmt: skip


def _blocks(
    space: FeatureSpace, matrix: sparse.csr_matrix, weight: Float64
) -> tuple[BlockReference, ...]:
    values, of_column = amounts(matrix, space), column_rows(matrix, weight)
    unweighted = column_rows(matrix)
    found = []
    for number, block in enumerate(watched_blocks(space)):
        own = values[:, number]
        filled = own != 0
        edges = quantile_edges(own[filled], weight[filled])
        bins = np.where(filled, 1 + Edges.of([edges]).bins(own[:, None])[:, 0], 0)
        counts = np.bincount(bins, weight, len(edges) + 2)
        mean = float(np.average(own, weights=weight))
        deviation = float(np.sqrt(np.average((own - mean) ** 2, weights=weight)))
        apart, shares = _columns(of_column[block.start : block.stop])
        found.append(
            BlockReference(
                block.name, edges, tuple((counts / counts.sum()).tolist()), mean, deviation, apart,
                shares, int(unweighted[block.start : block.stop].sum()),
            )
        )  # fmt: skip
    return tuple(found)


def _columns(rows: Float64) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The columns with bins of their own, and the share of entries of each and of all others."""
    # Of columns with as many entries the first, so that the same rows give the same file.
    apart = np.sort(np.argsort(-rows, kind="stable")[:COLUMNS_APART])
    total = rows.sum()
    shares = np.append(rows[apart], total - rows[apart].sum()).clip(0) / (total or 1)
    return tuple(apart.tolist()), tuple(shares.tolist())


def _scores(p: Float32, weight: Float64) -> tuple[ScoreReference, ...]:
    means = np.average(p, axis=0, weights=weight)
    most = np.sort(np.argsort(-means, kind="stable")[:MOST_CATEGORIES])

    def score(category: int, values: Float64, of: Float64) -> ScoreReference:
        edges = quantile_edges(values, of)
        counts = counted(Edges.of([edges]).bins(values[:, None]), QUANTILE_BINS, of)[0]
        shares = counts[: len(edges) + 1] / counts.sum()
        mean = float(np.average(values, weights=of))
        return ScoreReference(category, edges, tuple(shares.tolist()), mean)

    values = p.astype(np.float64)
    everything = score(-1, values.reshape(-1), np.repeat(weight, p.shape[1]))
    return everything, *(score(n, values[:, n], weight) for n in most.tolist())


def _with_tuples(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}


def _fits(stored: BlockReference, block: Block) -> bool:
    width = block.stop - block.start
    return (
        len(stored.edges) < QUANTILE_BINS
        and list(stored.edges) == sorted(stored.edges)
        and len(stored.shares) == len(stored.edges) + 2 <= AMOUNT_BINS
        and all(0 <= column < width for column in stored.columns)
        and len(stored.column_shares) == len(stored.columns) + 1 <= COLUMN_BINS
        and stored.entries >= 0
        and bool(np.isfinite([stored.mean, stored.deviation]).all())
    )
