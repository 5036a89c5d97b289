"""The .params format: against MXNet's own reader and writer, and on broken bytes."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_scorer.model import params_file

ARRAYS = {
    "one": np.arange(6, dtype=np.float32).reshape(2, 3),
    "weight of ünits": np.full((4,), -1.5, np.float32),
    "deep": np.zeros((1, 2, 2), np.float32),
}


def assert_same(found, expected=ARRAYS):
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), array)


def test_what_is_written_is_read_again():
    assert_same(params_file.read(params_file.write(ARRAYS)))


def test_mxnet_reads_ours_and_we_read_mxnets(tmp_path):
    from stream_scorer.model.mxnet_loader import mx  # noqa: PLC0415 - only these tests need it

    ours, theirs = tmp_path / "ours.params", tmp_path / "theirs.params"
    ours.write_bytes(params_file.write(ARRAYS))
    loaded = mx.nd.load(str(ours))
    assert_same({k.removeprefix("arg:"): v.asnumpy() for k, v in loaded.items()})
    mx.nd.save(str(theirs), {f"arg:{k}": mx.nd.array(v) for k, v in ARRAYS.items()})
    assert_same(params_file.read(theirs.read_bytes()))
    assert theirs.read_bytes() == ours.read_bytes()


def test_every_truncation_is_refused():
    whole = params_file.write(ARRAYS)
    for length in range(len(whole)):
        with pytest.raises(params_file.ParamsFileError):
            params_file.read(whole[:length])
    with pytest.raises(params_file.ParamsFileError, match="follow its end"):
        params_file.read(whole + b"x")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_read_or_refused_but_never_crashes(data):
    whole = bytearray(params_file.write(ARRAYS))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(params_file.ParamsFileError):
        params_file.read(bytes(whole))


def test_sparse_and_other_types_are_named(tmp_path):
    from stream_scorer.model.mxnet_loader import mx  # noqa: PLC0415 - only these tests need it

    path = tmp_path / "x.params"
    mx.nd.save(str(path), {"arg:w": mx.nd.zeros((2, 2), dtype="int32")})
    with pytest.raises(params_file.ParamsFileError, match="not float32"):
        params_file.read(path.read_bytes())
    mx.nd.save(str(path), {"arg:w": mx.nd.zeros((2, 2)).tostype("row_sparse")})
    with pytest.raises(params_file.ParamsFileError, match="sparse"):
        params_file.read(path.read_bytes())
