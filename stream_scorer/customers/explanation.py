"""Why the model gives a customer a propensity: what pushes its logit up and down, in words.

The amounts are those of model/attribution.py. They are computed without an engine, so each is
checked twice: they must add up to the logit, and the logit's probability must be the one that the
engine scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from stream_scorer.core.events.similar_words import meant
from stream_scorer.core.features.feature_words import contrasts_in_words
from stream_scorer.core.features.space import FeatureSpace
from stream_scorer.core.features.state import Float32
from stream_scorer.core.propensities import PublishPolicy, select
from stream_scorer.core.trend import TrendTable
from stream_scorer.customers.current_model import OpenModel
from stream_scorer.customers.shown import VectorWords, action_of
from stream_scorer.errors import InputError
from stream_scorer.model.attribution import METHOD, Attribution
from stream_scorer.model.engines.trend_days import table_rows
from stream_scorer.result import Result

ENGINE_TOLERANCE = 1e-5  # to which engines agree with each other
# Engines add up in float32: where parts are large, so is what rounding takes of the logit. A
# probability moves by a quarter of it at most.
ENGINE_ROUNDING = 1e-6
MOST_LOG_ODDS = 700.0  # whose odds are a number still
MOST_LISTED = 20  # in a message
MOST_EXPLAINED = 100  # categories of one call: each takes about a millisecond


@dataclass(frozen=True)
class ExplainedInput(Result):
    """A column, or a contrast of the shop's trend (column is null), and what it adds to the logit.

    value: as `words` says; value_in_words: in a unit that people know, such as "76.2 days", of a
    contrast how many times as many events; model_value: after transform and scale. amount = linear
    + attributed, of log-odds: what is exactly the input's own, and its integrated gradient. odds:
    by which the amount multiplies the odds.
    """

    column: int | None
    name: str
    words: str
    value: float
    model_value: float
    amount: float
    linear: float
    attributed: float
    odds: float
    value_in_words: str


@dataclass(frozen=True)
class ExplainedPropensity(Result):
    """The logit of a category and class, the log-odds of the class against doing nothing.

    base: of a customer of whom nothing is known. history: what having anything of this category
    adds in itself. inputs: those with the largest amounts, from the one that pushes up the most to
    the one that pushes down the most; other_inputs, other_amount: how many more there are and what
    they add together. base + history + amounts + other_amount = logit + residual, and
    adds_up says whether that is within tolerance. logit = scale * network_logit + shift, the
    calibration. probability: of the logits; engine_probability: what the engine scores, and
    engine_agrees whether the two are the same, to 1e-5 or to a millionth of the largest part.
    pieces: into which the line was cut.
    """

    category_id: str
    class_index: int
    action: str
    probability: float
    logit: float
    base: float
    history: float
    inputs: tuple[ExplainedInput, ...]
    other_inputs: int
    other_amount: float
    network_logit: float
    scale: float
    shift: float
    residual: float
    tolerance: float
    adds_up: bool
    engine_probability: float
    engine_agrees: bool
    pieces: int

    def as_json(self) -> dict[str, Any]:
        """`class` is no name of a field in Python."""
        found = super().as_json()
        return {"class" if key == "class_index" else key: value for key, value in found.items()}


@dataclass(frozen=True)
class Explanation(Result):
    """Of one customer; where `found` is false, or forgotten is true, nothing is explained.

    as_of, newest_event, forgotten, erased_until: as `customer show` says. calibration: how logits
    were calibrated, "none" or the name of the form. model_problem: why another model than the
    announced one explains; "" where all is well.
    """

    customer_id: str
    found: bool
    namespace: str
    as_of: str
    newest_event: str | None = None
    forgotten: bool = False
    model_version: str = ""
    method: str = METHOD
    calibration: str = ""
    explained: tuple[ExplainedPropensity, ...] = ()
    model_problem: str = ""
    erased_until: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all that was asked for is explained, and every check holds."""
        return (
            self.found and not self.forgotten and not self.model_problem
            and all(one.adds_up and one.engine_agrees for one in self.explained)
        )  # fmt: skip


@dataclass(frozen=True)
class ExplainedCustomers(Result):
    """Of several customers, in the order in which they were given. not_ok: of how many something is
    not explained, or a check fails."""

    customers: tuple[Explanation, ...]
    not_ok: int


@dataclass(frozen=True)
class ScoredRow:
    """One customer's row as it was scored. row (1, F) CSR; values (k,): before transform and scale;
    table: the shop's trend that the engine had; scores (N, C) of the engine."""

    row: sparse.csr_matrix
    values: Sequence[float]
    table: TrendTable | None
    scores: Float32


def explained_propensities(
    model: OpenModel,
    words: VectorWords,
    space: FeatureSpace,
    scored: ScoredRow,
    categories: Sequence[str],
    top_categories: int,
    top_inputs: int | None,
) -> tuple[ExplainedPropensity, ...]:
    """Of these categories every class; without categories the `top_categories` most probable.

    top_inputs: how many inputs are named, None for all. Raises InputError for a category that the
    model has not.
    """
    if categories:
        wanted = [(n, None) for n in _numbers(model, space, categories)]
    else:
        best = select(
            scored.scores[None], PublishPolicy("top_k", min(top_categories, MOST_EXPLAINED))
        )
        wanted = list(zip(best.category.tolist(), best.class_index.tolist(), strict=True))
    layout, row = model.artefact.layout, scored.row
    contrasts: Float32 = np.zeros((0, layout.vocabulary), np.float32)
    if layout.contrasts and scored.table is not None:
        day = int(table_rows(layout, row, scored.table)[0])
        contrasts = scored.table.contrasts[day]
    found = []
    for n, class_index in wanted:
        of_category = contrasts[:, layout.category_index[n]]
        inputs = _Inputs(words, space, scored, model.engine.categories[n], of_category)
        for one in model.attributor.attribute(row.indices, row.data, of_category, n):
            if class_index in (None, one.class_index):
                found.append(_explained(model, one, inputs, scored.scores, top_inputs))
    return tuple(found)


def _numbers(model: OpenModel, space: FeatureSpace, categories: Sequence[str]) -> list[int]:
    if len(categories) > MOST_EXPLAINED:
        remedy = f"ask for {MOST_EXPLAINED} at most at a time"
        raise InputError("--category", f"{len(categories):,} categories", remedy)
    number = {name: n for n, name in enumerate(model.engine.categories)}
    for name in categories:
        if name in number:
            continue
        field = model.artefact.manifest.labels.by
        if name in space.index.get(field, {}):
            remedy = (
                f"model {model.engine.model_version} scores no such category: training left it "
                "out, as too few customers acted on it (see the model's card)"
            )
        else:
            remedy = f"is none of the {len(number):,} categories of the model"
            if len(number) <= MOST_LISTED:
                remedy += f" ({', '.join(number)})"
            remedy += meant(name, frozenset(number))
        raise InputError("--category", name, remedy)
    return [number[name] for name in dict.fromkeys(categories)]


class _Inputs:
    """The inputs of a row for one category: its columns, then the contrasts."""

    def __init__(
        self,
        words: VectorWords,
        space: FeatureSpace,
        scored: ScoredRow,
        category: str,
        contrasts: Float32,
    ) -> None:
        self._words = words
        self._columns: list[int] = scored.row.indices.tolist()
        values = contrasts.tolist()
        self._values = [*scored.values, *values]
        self._model_values = [*scored.row.data.tolist(), *values]
        self._contrasts = contrasts_in_words(space, category) if values else []

    def named(self, i: int, found: Attribution) -> ExplainedInput:
        """Input i with its amounts."""
        k = len(self._columns)
        column = self._columns[i] if i < k else None
        name, words = (
            self._contrasts[i - k] if column is None else self._words.name_and_words(column)
        )
        linear, attributed = float(found.linear[i]), float(found.attributed[i])
        amount = linear + attributed
        return ExplainedInput(
            column, name, words, self._values[i], self._model_values[i], amount, linear, attributed,
            math.exp(min(amount, MOST_LOG_ODDS)),
            f"{math.exp(self._values[i]):.2f} times" if column is None
            else self._words.value_in_words(column, self._values[i]),
        )  # fmt: skip


def _explained(
    model: OpenModel,
    found: Attribution,
    inputs: _Inputs,
    scores: Float32,
    top_inputs: int | None,
) -> ExplainedPropensity:
    amounts = found.amounts
    moved = np.flatnonzero(amounts)
    # The largest first; equal ones in the order of columns, so that the choice is always the same.
    largest = moved[np.argsort(-np.abs(amounts[moved]), kind="stable")][:top_inputs]
    named = [inputs.named(i, found) for i in largest.tolist()]
    named.sort(key=lambda one: -one.amount)
    others = np.setdiff1d(moved, largest)
    other_amount = math.fsum(amounts[others].tolist())
    total = math.fsum([found.base, found.history, other_amount, *(one.amount for one in named)])
    residual = total - found.logit
    scored = float(scores[found.category, found.class_index])
    engine_tolerance = max(ENGINE_TOLERANCE, ENGINE_ROUNDING * found.largest)
    return ExplainedPropensity(
        category_id=model.engine.categories[found.category],
        class_index=found.class_index,
        action=action_of(model.artefact.manifest.labels, found.class_index),
        probability=found.probability,
        logit=found.logit,
        base=found.base,
        history=found.history,
        inputs=tuple(named),
        other_inputs=len(others),
        other_amount=other_amount,
        network_logit=found.network_logit,
        scale=found.scale,
        shift=found.shift,
        residual=residual,
        tolerance=found.tolerance,
        adds_up=abs(residual) <= found.tolerance,
        engine_probability=scored,
        engine_agrees=abs(scored - found.probability) <= engine_tolerance,
        pieces=found.pieces,
    )
