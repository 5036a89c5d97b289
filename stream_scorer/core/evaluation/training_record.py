"""What a model's manifest says of its training, for a fair evaluation.

`train` records in the manifest the share of rows that acted on each category ("prior") and the last
moment of its rows ("last_as_of_ms"). The first is the baseline that needs no model. From the second
follows whether the evaluated time was held back: labels reach a horizon past the last moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_scorer.core.features.state import Float32


def recorded_prior(training: Mapping[str, Any], categories: int) -> Float32 | None:
    """(N,) float32 share of training rows that acted; None where none fits is recorded.

    training: the part of that name of a model's manifest. categories: N of the model.
    """
    prior = training.get("prior")
    if not isinstance(prior, list) or len(prior) != categories:
        return None
    return np.array(prior, np.float32)


def training_reaches(training: Mapping[str, Any], horizon_ms: int, first_ms: int) -> bool:
    """Whether training's labels reach into the time from first_ms on: then the figures flatter."""
    last = training.get("last_as_of_ms")
    return isinstance(last, int) and labels_reach(last, horizon_ms, first_ms)


def labels_reach(last_as_of_ms: int, horizon_ms: int, first_ms: int) -> bool:
    """Whether labels of rows up to last_as_of_ms know of events at or after first_ms."""
    return last_as_of_ms + horizon_ms > first_ms
