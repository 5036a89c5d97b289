"""Which customers a sample has."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xxhash

from stream_scorer.core.canary import in_canary
from stream_scorer.core.customer_sample import EVERYBODY, CustomerSample
from stream_scorer.core.drift.followed import customer_hashes, has_rank
from stream_scorer.core.events.batch import NULL
from stream_scorer.errors import InputError

IDS = [f"customer {i}" for i in range(40_000)]


def sample(text: str) -> CustomerSample:
    return CustomerSample.asked(text)


@pytest.mark.parametrize("text", ["1/2", "1/8", "3/10", "1/64"])
def test_the_share_of_customers_is_the_share_that_was_asked_for(text: str) -> None:
    share = float(Fraction(text))
    deviation = (share * (1 - share) / len(IDS)) ** 0.5
    assert abs(sample(text).contains(IDS).mean() - share) < 4 * deviation


def test_who_is_in_it_depends_on_the_id_alone() -> None:
    """Written out, so that no later version chooses others."""
    seed = xxhash.xxh64_intdigest(b"sample-customers", 42)
    expected = [xxhash.xxh64_intdigest(c.encode(), seed) < 2**58 for c in IDS]
    assert sample("1/64").contains(IDS).tolist() == expected
    assert sample("2/128").contains(IDS[::-1]).tolist() == expected[::-1]
    some = ["zoë 6", "ann", "bob", "eve", "dan", "fay", "gus"]
    assert sample("1/2").contains(some).tolist() == [True, True, False, True, True, True, True]


def test_a_larger_share_keeps_all_of_a_smaller_one() -> None:
    shares = ["1/64", "1/63", "1/32", "3/32", "1/3", "1/1"]
    for small, large in pairwise(shares):
        assert sample(large).contains(IDS)[sample(small).contains(IDS)].all()
    assert sample("1/1").contains(IDS).all()
    assert EVERYBODY.contains(IDS).all()


def test_other_choices_by_hash_are_spread_evenly_in_it() -> None:
    """A tenth of a sample of an eighth is a tenth of 5,000: 0.0042 is one standard deviation."""
    ids = [i for i, there in zip(IDS, sample("1/8").contains(IDS), strict=True) if there]
    assert abs(in_canary(ids, 0.1, "challenger").mean() - 0.1) < 0.017
    assert abs(has_rank(customer_hashes([i.encode() for i in ids]), 3).mean() - 0.125) < 0.019
    for seed in (0, 42):  # shards of an export; which moments are rows
        hashes = np.array([xxhash.xxh64_intdigest(i.encode(), seed) for i in ids], np.uint64)
        assert abs((hashes % np.uint64(8) == 0).mean() - 0.125) < 0.019
        assert abs((hashes < np.uint64(2**61)).mean() - 0.125) < 0.019


@pytest.mark.parametrize(
    "text", ["", "1", "0.1", "64", "0/64", "65/64", "1/0", "-1/64", "1/64/2", "a/b", "1/1e9", "١/٢"]
)
def test_what_is_no_share_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(InputError, match=r"--sample-customers.*a fraction, such as 1/64"):
        sample(text)


def test_a_share_is_shown_in_lowest_terms() -> None:
    assert str(sample(" 6/64 ")) == "3/32"
    assert sample("3/32").stands_for == 32 / 3
    assert (EVERYBODY.in_manifest, sample("2/2").in_manifest) == (None, None)
    assert CustomerSample.asked(None) is EVERYBODY


def test_events_of_the_sample_keep_their_texts_and_no_others(make_events: Any) -> None:
    events = make_events(
        [
            {"customer": c, "category": ("soup", None, "bread")[n % 3], "at": n, "offset": n}
            for n, c in enumerate(IDS[:3000])
        ]
    )
    kept = sample("1/16").events_of(events)
    there = np.flatnonzero(sample("1/16").contains(IDS[:3000]))
    assert kept.occurred_at_ms.tolist() == there.tolist()
    assert [kept.customer_id[n] for n in range(len(kept))] == [IDS[n] for n in there]
    assert [kept.category_id[n] for n in range(len(kept))] == [
        ("soup", None, "bread")[n % 3] for n in there
    ]
    texts = [kept.customer_id, kept.category_id, kept.event_id, kept.attributes]
    whole = sum(len(c.buffer) for c in (events.customer_id, events.category_id, events.event_id))
    assert sum(len(c.buffer) for c in texts) < whole / 4
    assert (kept.category_id.lengths == NULL).sum() == (there % 3 == 1).sum()
