"""Halves are numpy's float16, bit for bit."""

from __future__ import annotations

import numpy as np

from stream_scorer.core.avro.float16 import LEAST_ERROR, RELATIVE_ERROR, halves


def test_every_half_and_what_lies_between_two_is_rounded_as_numpy_does() -> None:
    every = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)  # 0 to 1
    between = (every[1:] + every[:-1]) / 2
    near = [np.nextafter(between, np.float32(edge)) for edge in (0, 1)]
    for values in (every, between, *near):
        assert np.array_equal(halves(values), values.astype(np.float16).view(np.uint16))


def test_random_probabilities_of_all_sizes_are_within_the_errors_that_are_documented() -> None:
    rng = np.random.default_rng(3)
    values = (rng.random((50, 400)) * 2.0 ** rng.integers(-40, 1, (50, 400))).astype(np.float32)
    found = halves(values)
    assert np.array_equal(found, values.astype(np.float16).view(np.uint16))
    errors = np.abs(found.view(np.float16).astype(np.float64) - values)
    assert (errors <= np.maximum(RELATIVE_ERROR * values, LEAST_ERROR)).all()


def test_what_is_no_probability_is_no_number() -> None:
    wrong = np.array([np.nan, -0.5, 1.5, np.inf], np.float32)
    assert np.isnan(halves(wrong).view(np.float16)).all()
