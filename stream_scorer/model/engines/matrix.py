"""What every engine requires of the matrix that it scores."""

from __future__ import annotations

from scipy import sparse


def check_matrix(matrix: sparse.csr_matrix, columns: int) -> None:
    """Raises ValueError where `matrix` (B, F) has not F = `columns`, or indexes a column beyond.

    scipy does not check the indices of a CSR that it is given, and compiled loops would read memory
    of something else.
    """
    if matrix.shape[1] != columns:
        raise ValueError(f"a matrix of {matrix.shape[1]} columns, the model has {columns}")
    indices = matrix.indices
    if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
        raise ValueError(f"a matrix with columns {indices.min()} to {indices.max()} of {columns}")
