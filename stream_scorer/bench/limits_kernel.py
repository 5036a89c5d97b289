"""The compiled loop of `bench limits`.

It has a module of its own because compiled code is kept for as long as no module changes that its
own module imports (jit.py), and the benchmark imports nearly all of the package.
"""

from __future__ import annotations

from typing import Any

from stream_scorer.core.events.batch import Int32
from stream_scorer.core.features.state import Float32
from stream_scorer.jit import kernel


@kernel
def add_rows(
    indptr: Int32, indices: Int32, weight: Float32, hidden: Float32, first: int, last: int
) -> Any:
    """hidden (B, H) += the rows of weight that are named."""
    for row in range(first, last):
        out = hidden[row]
        for at in range(indptr[row], indptr[row + 1]):
            line = weight[indices[at]]
            for j in range(len(out)):
                out[j] += line[j]
