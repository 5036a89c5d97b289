"""A share of customers that is chosen by a hash of the id alone: the same ones everywhere.

A customer is in the share A/K where their hash, a whole number below 2^64, lies below A/K of 2^64.
So the share 1/64 is contained in 1/32, and no event, moment, shard, partition or seed decides
anything. The hash is XXH64 of the id's UTF-8 bytes with a seed of its own, so that it says nothing
of any other choice by hash: partitions and shards, the canary (canary.py), whose outcomes members
follow (drift/followed.py), or which moments become rows (labels/sampled_moments.py, whatever its
seed). The seed is what makes Spark's `xxhash64('sample-customers', customer_id)` the same number.

A row of a sample weighs what it weighs in the whole: all rows of a sample stand for equally many
customers, which changes no share and no rate, while what stands against the number of rows, such as
penalties, smoothing and intervals, must see the rows that there are. How many customers a row
stands for decides where samples of different shares are joined (io/files/snapshots.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import xxhash

from stream_scorer.core.events.batch import Bool, EventBatch
from stream_scorer.errors import InputError

HASHES = 2**64
# Spark hashes its first argument with the seed 42, and the next with the result as the seed.
SEED = xxhash.xxh64_intdigest(b"sample-customers", 42)
OPTION = "--sample-customers"
SHARE = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class CustomerSample:
    """The customers of a share above 0 and up to 1; of 1 all."""

    share: Fraction = Fraction(1)

    @classmethod
    def parse(cls, text: str) -> CustomerSample:
        """From "1/64" or "3/100". Raises ValueError."""
        found = SHARE.fullmatch(text.strip())
        taken, of = (int(number) for number in found.groups()) if found else (0, 1)
        if not 0 < taken <= of:
            raise ValueError(
                "give a share of customers above 0 and up to 1 as a fraction, such as 1/64"
            )
        return cls(Fraction(taken, of))

    @classmethod
    def asked(cls, text: str | None) -> CustomerSample:
        """What `--sample-customers` asks for; None: everybody. Raises InputError."""
        try:
            return EVERYBODY if text is None else cls.parse(text)
        except ValueError as error:
            raise InputError(OPTION, text, str(error)) from None

    def __str__(self) -> str:
        """ "1/64": in lowest terms, so that equal shares have equal texts."""
        return f"{self.share.numerator}/{self.share.denominator}"

    @property
    def whole(self) -> bool:
        """Whether everybody is in it."""
        return self.share == 1

    @property
    def in_manifest(self) -> str | None:
        """ "1/64"; None of everybody."""
        return None if self.whole else str(self)

    @property
    def stands_for(self) -> float:
        """How many customers each of the sample stands for."""
        return float(1 / self.share)

    def contains(self, customer_ids: Sequence[str]) -> Bool:
        """(B,) whether each of B customers is in the sample."""
        if self.whole:
            return np.ones(len(customer_ids), np.bool_)
        bound = HASHES * self.share.numerator // self.share.denominator
        hashed = xxhash.xxh64_intdigest
        return np.fromiter(
            (hashed(customer.encode(), SEED) < bound for customer in customer_ids),
            np.bool_, len(customer_ids),
        )  # fmt: skip

    def events_of(self, events: EventBatch) -> EventBatch:
        """Only the events of customers in the sample, without the bytes of others; each event has
        a customer."""
        if self.whole:
            return events
        codes, ids = events.customer_id.intern()
        return events.take(self.contains(ids)[codes]).compacted()


EVERYBODY = CustomerSample()
