"""From scores to what is worth publishing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from stream_scorer.core.events.batch import Int32, Int64
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel


@dataclass(frozen=True)
class PublishPolicy:
    """What of a customer's propensities is published.

    mode "top_k": the top_k most probable (category, class); "threshold": those of at least
    `threshold`, top_k of them at most where top_k > 0; "all": every one, in category order, as
    numbers of `precision`. The settings [publish] take their defaults from here.
    """

    mode: Literal["top_k", "threshold", "all"] = "top_k"
    top_k: int = 10
    threshold: float = 0.1
    precision: Literal["float32", "float16"] = "float32"


class Entries(NamedTuple):
    """Chosen propensities; row b has entries indptr[b] to indptr[b + 1], most probable first.

    indptr (B + 1,) int64; category (E,) int32; class_index (E,) int32, 1 and up; probability (E,)
    float32.
    """

    indptr: Int64
    category: Int32
    class_index: Int32
    probability: Float32


def action_probabilities(scores: Float32) -> Float32:
    """(B, N * (C - 1)) of scores (B, N, C): for each category its classes but "nothing"."""
    rows, categories, classes = scores.shape
    flat: Float32 = np.ascontiguousarray(scores[:, :, 1:]).reshape(rows, categories * (classes - 1))
    return flat


def published_in_full(scores: Float32) -> Float32:
    """(B, N) of class 1 for two classes, else (B, N * C): the bytes column of the output record."""
    rows, categories, classes = scores.shape
    if classes == 2:
        return np.ascontiguousarray(scores[:, :, 1])
    return np.ascontiguousarray(scores).reshape(rows, categories * classes)


def published(policy: PublishPolicy, outputs: int) -> tuple[int, np.float32]:
    """How many of a customer's `outputs` probabilities are published at most, and how probable they
    must be; of modes top_k and threshold."""
    # A floor below every probability: top_k alone decides.
    floor = policy.threshold if policy.mode == "threshold" else -1.0
    return min(policy.top_k or outputs, outputs), np.float32(floor)


def joined(pieces: Sequence[Entries]) -> Entries:
    """The entries of the pieces' rows, one piece after the other."""
    if len(pieces) == 1:
        return pieces[0]
    counts = [np.diff(piece.indptr) for piece in pieces]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(_end_to_end(counts, np.int64))])
    return Entries(
        indptr,
        _end_to_end([piece.category for piece in pieces], np.int32),
        _end_to_end([piece.class_index for piece in pieces], np.int32),
        _end_to_end([piece.probability for piece in pieces], np.float32),
    )


def select(scores: Float32, policy: PublishPolicy) -> Entries:
    """The entries that the policy's mode top_k or threshold publishes, of scores (B, N, C) float32.

    Equal probabilities keep category order, so the choice does not depend on the machine.
    """
    actions = action_probabilities(scores)
    per_category = scores.shape[2] - 1
    indptr, positions = _select(actions, *published(policy, actions.shape[1]))
    rows = np.repeat(np.arange(len(actions)), np.diff(indptr))
    return Entries(
        indptr,
        (positions // per_category).astype(np.int32),
        (positions % per_category + 1).astype(np.int32),
        actions[rows, positions],
    )


def largest_change(before: Float32, after: Float32, policy: PublishPolicy) -> Float32:
    """(B,) float32: by how much a probability that is published moves, at most.

    before, after: scores (B, N, C) of the same customers. Looked at is what is published of either.
    """
    if policy.mode == "all":
        moved = np.abs(published_in_full(after) - published_in_full(before))
        return np.asarray(moved.max(1, initial=0.0), np.float32)
    was, is_now = action_probabilities(before), action_probabilities(after)
    per_category = before.shape[2] - 1
    found = np.zeros(len(before), np.float32)
    for entries in (select(before, policy), select(after, policy)):
        rows = np.repeat(np.arange(len(before)), np.diff(entries.indptr))
        at = entries.category * per_category + entries.class_index - 1
        np.maximum.at(found, rows, np.abs(is_now[rows, at] - was[rows, at]))
    return found


def _end_to_end(arrays: Sequence[np.ndarray], dtype: type) -> Any:  # type: ignore[type-arg]
    return np.concatenate([np.zeros(0, dtype), *arrays])


@kernel
def _select(actions, most, floor):  # type: ignore[no-untyped-def]
    """Insertion into a short sorted list: nearly every value fails the first comparison."""
    rows, width = actions.shape
    indptr = np.zeros(rows + 1, np.int64)
    positions = np.empty(rows * most, np.int64)
    at = 0
    for b in range(rows):
        count = 0
        for j in range(width):
            value = actions[b, j]
            if value < floor or (count == most and value <= actions[b, positions[at + count - 1]]):
                continue
            i = count if count < most else most - 1
            while i > 0 and actions[b, positions[at + i - 1]] < value:
                positions[at + i] = positions[at + i - 1]
                i -= 1
            positions[at + i] = j
            if count < most:
                count += 1
        at += count
        indptr[b + 1] = at
    # A copy, so that the room for rows with fewer entries is given back.
    return indptr, positions[:at].copy()
