"""Answers as the bytes of JSON. Pure; made on the threads that look customers up, so that the one
thread that answers all requests has only to send them."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json

from stream_scorer.customers.current_model import OpenModel
from stream_scorer.customers.shown import ChosenPropensities, ShownPropensity, action_of
from stream_scorer.result import Result


def encoded(result: Result) -> bytes:
    """JSON of this result. Raises ValueError where a number is not finite."""
    return _json(result.as_json()).encode()


class PropensityTexts:
    """Propensities of one model as JSON. All that stands before a probability is made once: a
    model of 5,000 categories has names for 400 kB, and a page view asks for all of them."""

    def __init__(self, model: OpenModel) -> None:
        manifest = model.artefact.manifest
        self.model_version = manifest.model_version
        self.number = {category: n for n, category in enumerate(manifest.categories)}
        self._actions = manifest.classes - 1
        self._heads = [
            _json(ShownPropensity(category, k, action_of(manifest.labels, k), 0.0).as_json())[:-4]
            for category in manifest.categories
            for k in range(1, manifest.classes)
        ]

    def answer(self, customer_id: str, asked_at: str, chosen: ChosenPropensities) -> bytes:
        """As `encoded` of CustomerPropensities."""
        heads, per_category = self._heads, self._actions
        # All at once takes a fifth of what `repr` of each takes. They are finite, or the engine
        # would have refused them.
        numbers = to_json(chosen.probability).decode()[1:-1].split(",")
        entries = [
            f"{heads[n * per_category + k - 1]}{p}}}"
            for n, k, p in zip(chosen.category, chosen.class_index, numbers, strict=False)
        ]
        told = {
            "customer_id": customer_id, "asked_at": asked_at, "model_version": self.model_version,
        }  # fmt: skip
        return f'{_json(told)[:-1]},"propensities":[{",".join(entries)}]}}'.encode()


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
