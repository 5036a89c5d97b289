"""Pairs of row and category in bins of equal width of the log odds of their probability.

Most probabilities are small, and there bins of equal width of the probability itself would be one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Bool, Float64, Int64
from stream_scorer.core.features.state import Float32

MOST_LOG_ODDS = 12.0  # of either sign; what lies beyond is in the first or the last bin
CLIP = 1e-9
ROWS_TOGETHER = 4096


class LogOddsBins(NamedTuple):
    """For each bin: how many pairs, the sum of their weights, and by their weights the sum of their
    probabilities and their positives."""

    pairs: Int64
    weight: Float64
    probability: Float64
    positives: Float64


def log_odds_bins(p: Float32, acted: Bool, bins: int, weight: Float32 | None = None) -> LogOddsBins:
    """p (R, N): probability of acting; acted (R, N): whether they did; weight (R,): how many rows
    each stands for, None: 1."""
    pairs = np.zeros(bins, np.int64)
    weights, probability, positives = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    of_rows = np.ones(len(p)) if weight is None else weight.astype(np.float64)
    for row in range(0, len(p), ROWS_TOGETHER):  # log odds of all at once would double memory
        piece = slice(row, row + ROWS_TOGETHER)
        given = np.clip(p[piece].reshape(-1).astype(np.float64), CLIP, 1 - CLIP)
        position = (np.log(given / (1 - given)) + MOST_LOG_ODDS) * (bins / (2 * MOST_LOG_ODDS))
        bin_of = np.clip(position, 0, bins - 1).astype(np.int64)
        of, acting = np.repeat(of_rows[piece], p.shape[1]), acted[piece].reshape(-1)
        pairs += np.bincount(bin_of, minlength=bins)
        weights += np.bincount(bin_of, of, minlength=bins)
        probability += np.bincount(bin_of, given * of, minlength=bins)
        positives += np.bincount(bin_of[acting], of[acting], minlength=bins)
    return LogOddsBins(pairs, weights, probability, positives)
