"""What every engine requires of the matrix that it scores, and of its scores."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from stream_scorer.core.features.state import Float32
from stream_scorer.errors import ArtefactError


def check_matrix(matrix: sparse.csr_matrix, columns: int) -> None:
    """Raises ValueError where `matrix` (B, F) has not F = `columns`, or indexes a column beyond.

    scipy does not check the indices of a CSR that it is given, and compiled loops would read memory
    of something else.
    """
    if matrix.shape[1] != columns:
        raise ValueError(f"a matrix of {matrix.shape[1]} columns, the model has {columns}")
    indices = matrix.indices
    if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
        raise ValueError(
            f"a matrix with the columns {indices.min()} to {indices.max()}, the model has only the "
            f"columns 0 to {columns - 1}"
        )


def check_scores(scores: Float32, model_version: str) -> None:
    """Raises ArtefactError where one of `scores`, or of the logits that they come from, is NaN.

    Finite weights and values may overflow to infinity inside the network, and two infinities make
    NaN, which is no probability.
    """
    # A sum is NaN where a part of it is, and takes no memory, as an array of what is NaN would.
    if np.isnan(scores.sum()):
        raise not_numbers(model_version)


def not_numbers(model_version: str) -> ArtefactError:
    """The error of a model that answers with NaN."""
    remedy = (
        "answers with numbers that are not probabilities, since its weights or the customers' "
        "values are too large; train the model again"
    )
    return ArtefactError("model", model_version, remedy)
