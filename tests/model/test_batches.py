"""Batches: every row once an epoch, in bounded memory, in an order drawn from the seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from stream_scorer.core.labels.labels import concatenate_rows, dense_labels
from stream_scorer.model.batches import LabelledBatches

CATEGORIES = np.array([1, 4, 5])


@pytest.fixture
def shards(make_rows):
    """Five shards of 37 rows whose customer ids are all different."""
    parts = [make_rows(37, seed) for seed in range(5)]
    return [
        replace(part, customer_ids=[f"{s}-{i}" for i in range(37)]) for s, part in enumerate(parts)
    ]


def batches_of(shards, **keywords):
    options = {"columns": shards[0].matrix.shape[1], "batch_rows": 16, "seed": 1, **keywords}
    return LabelledBatches(shards, CATEGORIES, **options)


def ids_of_epoch(batches):
    return [c for b in batches for c in b.index[: len(b.index) - b.pad]]


def test_every_row_comes_once_with_its_features_and_labels(shards):
    everything = concatenate_rows(shards)
    row_of = {c: i for i, c in enumerate(everything.customer_ids)}
    dense = everything.matrix.toarray()
    labels = dense_labels(everything, CATEGORIES)
    seen = []
    for batch in batches_of(shards, shuffle_rows=50):
        rows = [row_of[c] for c in batch.index]
        assert batch.data[0].stype == "csr"
        np.testing.assert_array_equal(batch.data[0].asnumpy(), dense[rows])
        np.testing.assert_array_equal(batch.label[0].asnumpy(), labels[rows])
        seen += rows[: len(rows) - batch.pad]
    assert sorted(seen) == list(range(5 * 37))


def test_the_seed_fixes_the_order_and_each_epoch_has_its_own(shards):
    batches, again, other = batches_of(shards), batches_of(shards), batches_of(shards, seed=2)
    first = ids_of_epoch(batches)
    batches.reset()
    assert first == ids_of_epoch(again) != ids_of_epoch(other)
    second = ids_of_epoch(batches)
    assert first != second
    assert sorted(first) == sorted(second)


def test_rows_are_mixed_across_shards(shards):
    first = ids_of_epoch(batches_of(shards, shuffle_rows=100))[:37]
    assert len({c.split("-")[0] for c in first}) >= 3


def test_without_a_seed_rows_keep_their_order(shards):
    expected = [c for s in shards for c in s.customer_ids]
    assert ids_of_epoch(batches_of(shards, seed=None, shuffle_rows=40)) == expected


def test_an_epoch_of_no_rows_has_no_batches(shards):
    none = np.zeros(0, np.int64)
    assert list(batches_of([shards[0].take(none), shards[1].take(none)])) == []


class CountingShards(Sequence):
    """Many shards; knows how many of them were made but not yet used up."""

    def __init__(self, shard, count: int) -> None:
        self._shard, self._count, self.read = shard, count, 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        if number >= self._count:
            raise IndexError(number)
        self.read += 1
        return self._shard


def test_shards_are_read_only_when_their_rows_are_due(shards):
    many = CountingShards(shards[0], 1000)
    batches = batches_of(many, shuffle_rows=100, columns=shards[0].matrix.shape[1])
    rows = 0
    for batch in itertools.islice(batches, 100):
        rows += len(batch.index)
        assert many.read * 37 - rows <= 100 + 37 + 16
    assert many.read < 60
