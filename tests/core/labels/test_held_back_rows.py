"""Of one customer nothing that training has seen is held back; of others all is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from stream_scorer.core.labels.labels import LabelledRows
from stream_scorer.core.labels.overlap import first_overlap


def rows(*at: tuple[str, int]) -> LabelledRows:
    nothing = np.zeros(0, np.uint32)
    return LabelledRows(
        [customer for customer, _ in at], np.array([ms for _, ms in at], np.int64),
        sparse.csr_matrix((len(at), 1), dtype=np.float32), np.zeros(len(at) + 1, np.int64),
        nothing, nothing.astype(np.uint8),
    )  # fmt: skip


TRAINING = [rows(("ann", 10), ("bob", 40)), rows(("ann", 30))]


@pytest.mark.parametrize("held_back", [
    rows(("ann", 40), ("cleo", 0)),  # the window of ann's last row ends at 40
    rows(("bob", 50)),
    rows(("cleo", 5), ("dan", 41)),
    rows(),
])  # fmt: skip
def test_rows_after_the_customers_own_labels_are_held_back(held_back: LabelledRows) -> None:
    assert first_overlap(TRAINING, [held_back], 10, 0) is None


def test_the_first_row_that_training_has_seen_is_named() -> None:
    held_back = [rows(("cleo", 5), ("ann", 41)), rows(("bob", 49), ("ann", 39))]
    assert first_overlap(TRAINING, held_back, 10, 5) == ("bob", 50, 49)
