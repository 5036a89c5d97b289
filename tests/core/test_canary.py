"""Which customers a canary serves."""

from __future__ import annotations

import numpy as np
import xxhash

from stream_scorer.core.canary import in_canary

IDS = [f"customer {i}" for i in range(20_000)]


def test_the_share_of_customers_is_the_share_that_was_asked_for() -> None:
    found = in_canary(IDS, 0.1, "challenger")
    assert abs(found.mean() - 0.1) < 0.01
    assert not in_canary(IDS, 0.0, "challenger").any()
    assert in_canary(IDS, 1.0, "challenger").all()


def test_who_is_in_it_depends_on_id_and_salt_alone() -> None:
    """Written out, so that no later version chooses others."""
    seed = xxhash.xxh64_intdigest(b"autumn")
    expected = [xxhash.xxh64_intdigest(c.encode(), seed) < 2**62 for c in IDS]
    assert in_canary(IDS, 0.25, "autumn").tolist() == expected
    assert in_canary(["ann", "bob", "eve", "dan"], 0.5, "challenger").tolist() == [
        False, True, True, False,
    ]  # fmt: skip
    assert in_canary(IDS[::-1], 0.25, "autumn").tolist() == expected[::-1]


def test_a_larger_share_keeps_all_of_a_smaller_one_and_another_salt_chooses_others() -> None:
    small, large = in_canary(IDS, 0.1, "a"), in_canary(IDS, 0.3, "a")
    assert large[small].all()
    both = in_canary(IDS, 0.1, "a") & in_canary(IDS, 0.1, "b")
    assert abs(both.mean() - 0.01) < 0.005
    assert np.array_equal(small, in_canary(IDS, 0.1, "a"))
