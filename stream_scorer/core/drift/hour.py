"""What one member noted of one model within one hour: the unit that is kept, merged and forgotten.

Members need no agreement: each writes its own hours, and whoever wants to know how the group does
merges those of all members. A restart begins another part of the same hour.

How many scores and actions an hour may hold is bounded. Where more come, the rank of customers that
are followed goes up by one, and what was noted of lower ranks is dropped, as if they had not been
followed in this hour. So the actions of an hour are all that customers of its rank did, of what
this member saw. A later hour begins one rank lower again.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stream_scorer.core.drift.counts import Binning, DriftCounts
from stream_scorer.core.drift.followed import (
    Actions,
    Boundaries,
    Scores,
    has_rank,
    is_erased,
    joined_actions,
    joined_scores,
)
from stream_scorer.core.events.batch import Int64

HOUR_MS = 3_600_000
FORMAT = 1
# Of one member in one hour, packed and before it is compressed.
MOST_SCORE_BYTES = 16_384
MOST_SCORES, LEAST_SCORES = 200, 4
MOST_ACTIONS = 1_000
MOST_RANK = 60
# A line that another program wrote must not fill the memory.
MOST_TEXT_BYTES, MOST_JSON_BYTES = 4 << 20, 64 << 20


def most_scores(categories: int) -> int:
    """How many scores of so many categories an hour may hold."""
    return max(LEAST_SCORES, min(MOST_SCORES, MOST_SCORE_BYTES // (2 * max(categories, 1))))


@dataclass
class HourSample:
    """hour: since 1970 UTC, by the member's clock when it scored. category_index (N,) int64: of the
    model's categories in the vocabulary. counts: None for a model without a reference. rank: of
    customers that were followed in the whole hour."""

    hour: int
    model_version: str
    category_index: Int64
    rank: int
    counts: DriftCounts | None
    scores: Scores
    actions: Actions

    @classmethod
    def begin(
        cls,
        hour: int,
        model_version: str,
        category_index: Int64,
        rank: int,
        binning: Binning | None,
    ) -> HourSample:
        """Nothing noted yet."""
        counts = None if binning is None else DriftCounts.empty(binning)
        scores = Scores.none(len(category_index))
        return cls(hour, model_version, category_index, rank, counts, scores, Actions.none())

    def note(self, scores: Scores, actions: Actions) -> None:
        """Add scores, of each customer the hour's first alone, and actions; raise the rank where
        these are too many. What is of a lower rank is passed over."""
        scores = scores.take(has_rank(scores.customer, self.rank))
        # Of several within this call the first, too.
        _, first = np.unique(scores.customer, return_index=True)
        scores = scores.take(np.sort(first))
        new = ~np.isin(scores.customer, self.scores.customer)
        self.scores = joined_scores([self.scores, scores.take(new)], len(self.category_index))
        kept = actions.take(has_rank(actions.customer, self.rank))
        self.actions = joined_actions([self.actions, kept])
        most = most_scores(len(self.category_index))
        while self.rank < MOST_RANK and (
            len(self.scores.customer) > most or len(self.actions.customer) > MOST_ACTIONS
        ):
            self.rank += 1
            self.scores = self.scores.take(has_rank(self.scores.customer, self.rank))
            self.actions = self.actions.take(has_rank(self.actions.customer, self.rank))

    def leave_out(self, erased: Boundaries) -> None:
        """Drop what is of these customers, up to their boundaries."""
        if erased:
            self.scores = self.scores.take(
                ~is_erased(self.scores.customer, self.scores.as_of_ms, erased)
            )
            self.actions = self.actions.take(
                ~is_erased(self.actions.customer, self.actions.at_ms, erased)
            )

    def to_text(self) -> str:
        """One line of ASCII."""
        raw = {
            "format": FORMAT, "hour": self.hour, "model_version": self.model_version,
            "rank": self.rank, "counts": None if self.counts is None else self.counts.as_json(),
            "category_index": _packed(np.diff(self.category_index, prepend=0), np.int32),
            "scores": _packed_all(self.scores, SCORE_TYPES),
            "actions": _packed_all(self.actions, ACTION_TYPES),
        }  # fmt: skip
        return _as_text(raw)

    @classmethod
    def from_text(cls, text: bytes, binnings: Mapping[str, Binning]) -> HourSample:
        """What `to_text` gave; binnings: of models, by version; counts of others are left out.

        Raises ValueError for anything else.
        """
        try:
            raw = _raw(text)
            index = np.cumsum(_unpacked(raw["category_index"], np.int32)).astype(np.int64)
            binning = binnings.get(raw["model_version"])
            counts = None
            if binning is not None and raw["counts"] is not None:
                counts = DriftCounts.from_json(raw["counts"], binning)
            return cls(
                int(raw["hour"]), str(raw["model_version"]), index, int(raw["rank"]), counts,
                *_samples(raw, len(index)),
            )  # fmt: skip
        except UNREADABLE as error:
            raise ValueError(f"it is not what this program writes: {error}") from None


def without_erased(text: bytes, erased: Boundaries) -> tuple[str, int]:
    """A text of `HourSample.to_text` without what is of these customers up to their boundaries, and
    how many scores and actions these were. What is counted of many customers stays as it is.

    Raises ValueError for anything else.
    """
    try:
        raw = _raw(text)
        scores, actions = _samples(raw, len(_unpacked(raw["category_index"], np.int32)))
        kept_scores = scores.take(~is_erased(scores.customer, scores.as_of_ms, erased))
        kept_actions = actions.take(~is_erased(actions.customer, actions.at_ms, erased))
    except UNREADABLE as error:
        raise ValueError(f"it is not what this program writes: {error}") from None
    removed = len(scores.customer) - len(kept_scores.customer)
    removed += len(actions.customer) - len(kept_actions.customer)
    raw["scores"] = _packed_all(kept_scores, SCORE_TYPES)
    raw["actions"] = _packed_all(kept_actions, ACTION_TYPES)
    return _as_text(raw), removed


UNREADABLE = (zlib.error, KeyError, TypeError, ValueError, RecursionError)


def _as_text(raw: dict[str, Any]) -> str:
    return base64.b64encode(zlib.compress(json.dumps(raw).encode(), 6)).decode()


def _raw(text: bytes) -> dict[str, Any]:
    """Raises one of `UNREADABLE`."""
    if len(text) > MOST_TEXT_BYTES:
        raise ValueError("it is too long")
    inflate = zlib.decompressobj()
    content = inflate.decompress(base64.b64decode(text, validate=True), MOST_JSON_BYTES)
    raw: dict[str, Any] = json.loads(content)
    if raw["format"] != FORMAT:
        raise ValueError(f"it has format {raw['format']}")
    return raw


def _samples(raw: Mapping[str, Any], categories: int) -> tuple[Scores, Actions]:
    """Raises one of `UNREADABLE`."""
    columns = _unpacked_all(raw["scores"], SCORE_TYPES)
    columns[-1] = columns[-1].reshape(len(columns[0]), categories)
    actions = _unpacked_all(raw["actions"], ACTION_TYPES)
    if len({*map(len, columns)}) > 1 or len({*map(len, actions)}) > 1:
        raise ValueError("its columns differ in length")
    return Scores(*columns), Actions(*actions)


Types = tuple[type[np.generic], ...]
SCORE_TYPES: Types = (np.uint64, np.int64, np.int64, np.uint16)
ACTION_TYPES: Types = (np.uint64, np.int64, np.int32, np.uint8)


def _packed_all(columns: Sequence[npt.NDArray[Any]], types: Types) -> list[str]:
    return [_packed(column, kind) for column, kind in zip(columns, types, strict=True)]


def _unpacked_all(texts: Sequence[str], types: Types) -> list[npt.NDArray[Any]]:
    return [_unpacked(text, kind) for text, kind in zip(texts, types, strict=True)]


def _packed(column: npt.NDArray[Any], kind: type[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(column, kind).tobytes()).decode()


def _unpacked(text: str, kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), kind)
