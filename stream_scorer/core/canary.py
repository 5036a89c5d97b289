"""Which customers a canary serves: always the same ones, on every member."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xxhash

from stream_scorer.core.events.batch import Bool

HASHES = 2**64


def in_canary(customer_ids: Sequence[str], share: float, salt: str) -> Bool:
    """(B,) whether each of B customers is in the share, by a hash of salt and id alone.

    share: 0 to 1. A larger share keeps everybody who was in a smaller one; another salt chooses
    others.
    """
    seed, bound = xxhash.xxh64_intdigest(salt.encode()), round(share * HASHES)
    hashes = (xxhash.xxh64_intdigest(customer.encode(), seed) for customer in customer_ids)
    return np.fromiter((hashed < bound for hashed in hashes), np.bool_, len(customer_ids))
