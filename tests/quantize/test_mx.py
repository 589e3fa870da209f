"""MXFP8 and MXFP4: elements against the nearest grid value, exponents, variants, file bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.numeric.fp4 import E2M1
from slimspec.numeric.fp8 import e4m3_to_float32
from slimspec.pack import unpack_fp4
from slimspec.quantize.mx_blocks import MxWeight, dequantize_mx, join_blocks, split_blocks
from slimspec.quantize.mxfp4 import (
    mxfp4_elements,
    mxfp4_tensors,
    quantize_mxfp4,
    quantize_mxfp4_dualscale,
)
from slimspec.quantize.mxfp8 import mxfp8_tensors, quantize_mxfp8

BF16 = ml_dtypes.bfloat16
DTYPES = [np.float32, np.float16, BF16]
E4M3 = e4m3_to_float32(np.arange(127, dtype=np.uint8))  # the finite magnitudes
QUANTIZERS = {
    "mxfp8 minmax": lambda w: quantize_mxfp8(w),
    "mxfp8 mse_round": lambda w: quantize_mxfp8(w, "mse_round"),
    "mxfp4 minmax": lambda w: quantize_mxfp4(w),
    "mxfp4 ceil_x": lambda w: quantize_mxfp4(w, "ceil_x"),
    "mxfp4 fouroversix": lambda w: quantize_mxfp4(w, "fouroversix"),
}
each_quantizer = pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS.keys())


def weights(n: int = 12, k: int = 96, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, k)) * 2.0 ** rng.integers(-6, 6, (n, 1))).astype(dtype)


def error(w: np.ndarray, q: MxWeight) -> np.ndarray:
    """Squared error per block, in float64."""
    difference = w.astype(float) - dequantize_mx(q).astype(float)
    return (split_blocks(difference) ** 2).sum(axis=-1)


def nearest_away(r: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The grid values nearest to |r|, the larger one of two, with the sign of r; clipped.

    float64 holds the difference of a float32 and a near grid value exactly.
    """
    down = grid[::-1].astype(float)  # argmin takes the first of equals: the larger
    distance = np.abs(np.abs(r.astype(float))[..., None] - down)
    return np.copysign(down[distance.argmin(axis=-1)], r)


@pytest.mark.parametrize(("quantize", "grid"), [(quantize_mxfp8, E4M3), (quantize_mxfp4, E2M1)])
def test_elements_are_the_nearest_grid_values_with_ties_away(quantize, grid) -> None:  # type: ignore[no-untyped-def]
    w = weights(6)
    midpoints = (grid[1:] + grid[:-1]) / np.float32(2)
    ties = np.resize(midpoints[-31:], 31)
    w[0, :32] = np.append(ties, np.float32(grid[-1]))  # exponent 0: the ties stay ties
    q = quantize(w)
    r = split_blocks(w) / np.exp2(q.exponent)[..., None]
    assert np.array_equal(q.elements, nearest_away(join_blocks(r, 96), grid))


def test_the_exponent_of_mxfp8_puts_the_largest_value_in_the_top_binade() -> None:
    w = weights()
    amax = np.abs(split_blocks(w)).max(axis=-1)
    assert np.array_equal(quantize_mxfp8(w).exponent, np.frexp(amax)[1] - 1 - 8)


def test_the_exponent_of_mxfp4_goes_up_from_seven_eighths_of_a_binade() -> None:
    w = np.zeros((4, 32), np.float32)
    w[:, 3] = [6.99, 7.0, 3.49, -3.5]
    q = quantize_mxfp4(w)
    assert q.exponent.ravel().tolist() == [0, 1, -1, 0]
    assert q.elements[:, 3].tolist() == [6, 4, 6, -4]


def test_ceil_x_divides_by_its_constant() -> None:
    w = np.zeros((3, 32), np.float32)
    w[:, 0] = [7.25 * 0.999, 7.25, 6.0]
    assert quantize_mxfp4(w, "ceil_x").exponent.ravel().tolist() == [0, 1, 0]
    assert quantize_mxfp4(w, "ceil_x", ceil_x=12.0).exponent.ravel().tolist() == [0, 0, -0]


def test_fouroversix_maps_the_maximum_to_six_or_four_by_error() -> None:
    w = weights(64, 64)
    q = quantize_mxfp4(w, "fouroversix")
    amax = np.abs(split_blocks(w)).max(axis=-1).astype(float)
    options = [np.rint(np.log2(amax / target)) for target in (6, 4)]
    assert np.all((q.exponent == options[0]) | (q.exponent == options[1]))
    differ = options[0] != options[1]
    assert differ.any()
    assert (q.exponent == options[0])[differ].any()
    assert (q.exponent == options[1])[differ].any()


# float32 means of 32 squares err by at most 2^-18 relatively, so a choice may be wrong by that
SLACK = 1 + 2.0**-17


def test_mse_round_is_never_worse_than_minmax_and_sometimes_differs() -> None:
    w = weights(64, 64)
    q, plain = quantize_mxfp8(w, "mse_round"), quantize_mxfp8(w)
    assert np.all(error(w, q) <= error(w, plain) * SLACK)
    assert np.any(q.exponent != plain.exponent)


def test_fouroversix_has_the_smaller_error_of_its_two_exponents() -> None:
    w = weights(64, 64)
    amax = np.abs(split_blocks(w)).max(axis=-1).astype(float)
    best = error(w, quantize_mxfp4(w, "fouroversix"))
    for target in (6, 4):
        exponent = np.rint(np.log2(amax / target)).astype(np.float32)
        elements = join_blocks(mxfp4_elements(split_blocks(w), exponent), 64)
        assert np.all(best <= error(w, MxWeight(elements, exponent)) * SLACK)


@each_quantizer
def test_a_block_of_zeros_stays_zero(quantize) -> None:  # type: ignore[no-untyped-def]
    for dtype in DTYPES:
        w = np.zeros((2, 64), dtype)
        w[0, 40] = 1
        q = quantize(w)
        assert not q.elements[1].any()
        assert not q.elements[0, :32].any()
        assert q.elements.dtype == q.exponent.dtype == dtype


@each_quantizer
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantizing_again_changes_nothing(quantize, dtype) -> None:  # type: ignore[no-untyped-def]
    w = weights(16, 64, dtype)
    once = dequantize_mx(quantize(w))
    assert np.array_equal(dequantize_mx(quantize(once)), once)


@each_quantizer
def test_rows_are_independent_and_layout_does_not_matter(quantize) -> None:  # type: ignore[no-untyped-def]
    w = weights(8, 64)
    q = quantize(w)
    order = np.random.default_rng(2).permutation(8)
    shuffled = quantize(w[order])
    fortran = quantize(np.asfortranarray(w))
    for a, b, c in zip(q, shuffled, fortran, strict=True):
        assert np.array_equal(a[order], b)
        assert np.array_equal(a, c)


@pytest.mark.parametrize("k", [1, 31, 33, 40])
def test_a_short_last_block_is_filled_with_zeros(k: int) -> None:
    w = weights(4, k)
    filled = np.zeros((4, -(-k // 32) * 32), np.float32)
    filled[:, :k] = w
    for quantize in (quantize_mxfp8, quantize_mxfp4):
        short, full = quantize(w), quantize(filled)
        assert short.elements.shape == (4, k)
        assert np.array_equal(short.exponent, full.exponent)
        assert np.array_equal(short.elements, full.elements[:, :k])
    with pytest.raises(ValueError, match=f"{k} columns are no multiple of the block size 32"):
        quantize_mxfp4(w, "fouroversix")


def test_bfloat16_logarithms_are_rounded_to_bfloat16() -> None:
    w = np.zeros((1, 32), np.float32)
    w[0, 0] = 127.5  # log2 = 6.994, in bfloat16 7.0
    assert quantize_mxfp8(w).exponent.tolist() == [[-2]]
    assert quantize_mxfp8(w.astype(BF16)).exponent.tolist() == [[-1]]


def test_tiny_float16_blocks_become_infinite_and_nan_codes() -> None:
    # 2^-20: exponent -28, and 2^-28 is 0 in float16: the producer divides by it
    w = np.zeros((1, 32), np.float16)
    w[0, :2] = [2.0**-20, -(2.0**-20)]
    q = quantize_mxfp8(w)
    assert q.exponent.tolist() == [[-28]]
    assert q.elements[0, :3].tolist() == [np.inf, -np.inf, 0]
    weight, scale = mxfp8_tensors(q)
    assert weight.view(np.uint8)[0, :3].tolist() == [0x7F, 0xFF, 0]
    assert scale.tolist() == [[99]]


def test_file_tensors_hold_the_elements_and_biased_exponents() -> None:
    w = weights(4, 64, BF16)
    q8 = quantize_mxfp8(w)
    weight, scale = mxfp8_tensors(q8)
    assert weight.dtype == ml_dtypes.float8_e4m3fn
    assert np.array_equal(weight.astype(np.float32), q8.elements.astype(np.float32))
    assert np.array_equal(scale.astype(int), q8.exponent.astype(int) + 127)
    q4 = quantize_mxfp4(w)
    packed, scale = mxfp4_tensors(q4.elements, q4.exponent)
    assert packed.shape == (4, 32)
    codes = unpack_fp4(packed)
    value = np.where(codes & 8, -1, 1) * E2M1[codes & 7]
    assert np.array_equal(value, q4.elements.astype(np.float32))
    assert np.array_equal(scale.astype(int), q4.exponent.astype(int) + 127)


def test_dualscale_maps_each_large_block_to_six_first() -> None:
    w = weights(4, 192)
    q = quantize_mxfp4_dualscale(w, 64)
    assert [t.shape for t in q] == [(4, 192), (4, 6), (4, 3)]
    assert all(t.dtype == np.float32 for t in q)
    amax = np.abs(split_blocks(w, 64)).max(axis=-1)
    assert np.array_equal(q.dual_scale, amax / np.float32(6))
    inner = join_blocks(split_blocks(w, 64) / q.dual_scale[..., None], 192)
    assert np.array_equal(q.elements, quantize_mxfp4(inner).elements)


def test_dualscale_of_a_large_block_of_zeros_is_nan() -> None:
    w = np.zeros((1, 64), np.float32)
    w[0, 0] = 3
    q = quantize_mxfp4_dualscale(w, 32)
    assert q.dual_scale.tolist() == [[0.5, 0]]
    assert np.isnan(q.elements[0, 32:]).all()
    assert np.isnan(q.exponent[0, 1])
    assert mxfp4_tensors(q.elements, q.exponent)[1].tolist()[0][1] == 255


@each_quantizer
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_index(quantize, wrong) -> None:  # type: ignore[no-untyped-def]
    w = weights(4, 32)
    w[2, 7] = wrong
    with pytest.raises(ValueError, match=r"weight: .* at index \(2, 7\)"):
        quantize(w)


def test_unknown_methods_dtypes_and_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="ssz"):
        quantize_mxfp8(weights(), "ssz")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mse_round"):
        quantize_mxfp4(weights(), "mse_round")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float64"):
        quantize_mxfp4(weights().astype(float))
    with pytest.raises(ValueError, match="block size 0"):
        quantize_mxfp8(weights(), block=0)


@each_quantizer
def test_empty_weights_have_no_blocks(quantize) -> None:  # type: ignore[no-untyped-def]
    q = quantize(np.empty((0, 64), np.float32))
    assert q.elements.shape == (0, 64)
    assert q.exponent.shape == (0, 2)
