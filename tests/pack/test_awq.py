"""AWQ tensors, their Ascend form and W4A16: the same weights in three layouts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.pack import (
    AwqWeight,
    W4A16Weight,
    ascend_to_awq,
    awq_to_ascend,
    awq_to_w4a16,
    dequantize_awq,
    pack_awq,
    unpack_awq,
    unpack_int4,
    w4a16_to_awq,
)

K, N, GROUP = 24, 16, 8


def make(seed: int, k: int = K, n: int = N, group: int = GROUP) -> AwqWeight:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 16, (k, n), dtype=np.uint8)
    zeros = rng.integers(0, 16, (k // group, n), dtype=np.uint8)
    scales = rng.uniform(0.001, 0.1, (k // group, n)).astype(np.float16)
    return AwqWeight(pack_awq(codes), pack_awq(zeros), scales)


def w4a16_value(w: W4A16Weight) -> np.ndarray:
    """(q - offset) · scale, exactly, one element after the other."""
    q = unpack_int4(w.weight, axis=0)
    group = q.shape[1] // w.weight_scale.shape[1]
    out = np.empty(q.shape, object)
    for i, j in np.ndindex(*q.shape):
        scale, offset = (float(t[i, j // group]) for t in (w.weight_scale, w.weight_offset))
        out[i, j] = (int(q[i, j]) - Fraction(offset)) * Fraction(scale)
    return out


def test_w4a16_holds_exactly_the_weights_of_awq() -> None:
    awq = make(0)
    exact = w4a16_value(awq_to_w4a16(awq))
    expected = np.vectorize(lambda x: np.float16(float(x)))(exact)
    assert dequantize_awq(awq).shape == (N, K)
    assert np.array_equal(dequantize_awq(awq), expected)


def test_w4a16_tensors_have_the_documented_shapes_and_signs() -> None:
    w = awq_to_w4a16(make(1))
    assert w.weight.shape == (N // 2, K)
    assert w.weight_scale.shape == w.weight_offset.shape == (N, K // GROUP)
    assert w.weight.dtype == np.int8
    assert w.weight_offset.dtype == w.weight_scale.dtype == np.float16
    code, zero = pack_awq(np.full((1, 8), 3, np.uint8)), pack_awq(np.full((1, 8), 10, np.uint8))
    one = awq_to_w4a16(AwqWeight(code, zero, np.ones((1, 8), np.float16)))
    assert unpack_int4(one.weight, axis=0).ravel().tolist() == [-5] * 8
    assert one.weight_offset.ravel().tolist() == [2] * 8


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 32]))
def test_every_conversion_is_undone_by_its_inverse(seed: int, a: int, b: int, group: int) -> None:
    awq = make(seed, a * group, 8 * b, group)
    for there, back in ((awq_to_w4a16, w4a16_to_awq), (awq_to_ascend, ascend_to_awq)):
        for first, second in zip(awq, back(there(awq)), strict=True):
            assert first.dtype == second.dtype
            assert np.array_equal(first, second)


def test_ascend_zeros_are_added_by_the_kernel() -> None:
    awq = make(2)
    ascend = awq_to_ascend(awq)
    signed = unpack_awq(awq.qweight).astype(int) - 8
    zeros = np.repeat(ascend.qzeros, GROUP, axis=0).astype(int)
    plain = unpack_awq(awq.qweight).astype(int) - np.repeat(unpack_awq(awq.qzeros), GROUP, axis=0)
    assert np.array_equal(signed + zeros, plain)
    assert ascend.qzeros.dtype == np.float16


def test_large_weights_convert_like_small_ones() -> None:
    awq = make(3, 1024, 640, 128)
    w = awq_to_w4a16(awq)
    assert np.array_equal(
        unpack_int4(w.weight, axis=0).T.astype(int) + 8, unpack_awq(awq.qweight).astype(int)
    )


def test_tensors_that_do_not_fit_are_refused() -> None:
    awq = make(4)
    with pytest.raises(ValueError, match="needs scales and zeros"):
        dequantize_awq(awq._replace(scales=awq.scales[:, :8]))
    with pytest.raises(ValueError, match="needs scales and zeros"):
        awq_to_w4a16(awq._replace(qzeros=awq.qzeros[:1]))
    scales, zeros = (np.repeat(t[:1], 5, axis=0) for t in (awq.scales, awq.qzeros))
    with pytest.raises(ValueError, match="24 is no multiple of 5"):
        awq_to_ascend(AwqWeight(awq.qweight, zeros, scales))


@pytest.mark.parametrize(("offset", "message"), [(0.5, "no integer"), (8, "-8 to 7"), (-9, "-8 t")])
def test_an_offset_that_awq_cannot_hold_is_refused(offset: float, message: str) -> None:
    w = awq_to_w4a16(make(5))
    wrong = w.weight_offset.copy()
    wrong[2, 1] = offset
    with pytest.raises(ValueError, match=rf"weight_offset: .* at index \(2, 1\).*{message}"):
        w4a16_to_awq(w._replace(weight_offset=wrong))


def test_rows_that_fill_no_word_are_refused() -> None:
    w = W4A16Weight(
        np.zeros((2, 8), np.int8), np.ones((4, 1), np.float16), np.zeros((4, 1), np.float16)
    )
    with pytest.raises(ValueError, match="no multiple of 8"):
        w4a16_to_awq(w)
