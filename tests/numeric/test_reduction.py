"""The torch-ordered sums against exact sums and against a second, literal form."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.numeric.reduction import (
    cascade_mean,
    cascade_sum,
    column_mean,
    column_sum,
    fused_dot,
    square_sum_root,
)


def _chain(values: list[np.float32]) -> np.float32:
    """Add one chain: blocks of 2^p terms, carried up like digits of a counter."""
    steps = len(values)
    power = max(4, math.ceil(math.log2(steps)) // 4 if steps > 1 else 0)
    digits = [np.float32(0)] * 4
    block = 1 << power
    for start in range(0, steps - steps % block, block):
        for value in values[start : start + block]:
            digits[0] = np.float32(digits[0] + value)
        done = start + block
        for j in (1, 2, 3):
            digits[j] = np.float32(digits[j] + digits[j - 1])
            digits[j - 1] = np.float32(0)
            if (done >> (j * power)) % block:
                break
    for value in values[steps - steps % block :]:
        digits[0] = np.float32(digits[0] + value)
    for j in (1, 2, 3):
        digits[0] = np.float32(digits[0] + digits[j])
    return digits[0]


def _four_chains(terms: list[np.float32]) -> np.float32:
    """Add four interleaved chains; what fills no round of four comes after the first chain."""
    even = len(terms) - len(terms) % 4
    chains = [_chain(terms[i:even:4]) if even else np.float32(0) for i in range(4)]
    total = chains[0]
    for value in (*terms[even:], *chains[1:]):
        total = np.float32(total + value)
    return total


def _literal(x: np.ndarray) -> np.float32:
    """Sum float32 x [k] lane by lane, one scalar at a time."""
    width = 8 if x.size >= 8 else 1
    vectors = x.size // width
    lanes = [_four_chains(list(x[lane : vectors * width : width])) for lane in range(width)]
    if width == 1:
        return lanes[0]
    total = np.float32(0)
    for value in (*x[vectors * width :], *lanes):
        total = np.float32(total + value)
    return total


@pytest.mark.parametrize("k", [1, 3, 4, 7, 8, 9, 31, 32, 33, 127, 128, 512, 1000, 2048, 40_000])
def test_sum_follows_the_literal_order(k: int) -> None:
    x = np.random.default_rng(k).standard_normal(k).astype(np.float32)
    assert cascade_sum(x[None])[0] == _literal(x)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 700), st.integers(0, 2**16))
def test_sum_of_small_integers_is_exact(k: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-100, 100, (3, k))
    assert (cascade_sum(x.astype(np.float32)) == x.sum(axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("k", [5, 15, 16, 17, 33, 200])
def test_sum_and_mean_keep_dtype_and_stay_close_to_the_exact_sum(k: int, dtype: type) -> None:
    x = np.random.default_rng(k).standard_normal((4, k)).astype(dtype)
    exact = x.astype(np.float64).sum(axis=1)
    # k - 1 float32 additions, each off by 2^-24 of at most Σ|x|, then one rounding to the dtype.
    step = float(ml_dtypes.finfo(dtype).eps)
    bound = k * 2.0**-24 * np.abs(x.astype(np.float64)).sum(axis=1) + step * np.abs(exact)
    total, mean = cascade_sum(x), cascade_mean(x)
    assert total.dtype == mean.dtype == np.dtype(dtype)
    assert (np.abs(total.astype(np.float64) - exact) <= bound).all()
    assert (np.abs(mean.astype(np.float64) * k - exact) <= bound + step * np.abs(exact)).all()


def test_rows_do_not_influence_each_other() -> None:
    x = np.random.default_rng(0).standard_normal((5, 97)).astype(np.float32)
    assert (cascade_sum(x) == np.array([cascade_sum(row) for row in x])).all()
    assert (cascade_sum(x[:, ::-1]) == cascade_sum(np.ascontiguousarray(x[:, ::-1]))).all()


def test_sum_over_no_columns_is_zero_and_shape_is_kept() -> None:
    assert cascade_sum(np.zeros((2, 3, 0), np.float32)).tolist() == [[0.0] * 3] * 2


def test_float64_is_refused() -> None:
    with pytest.raises(TypeError):
        cascade_sum(np.zeros(3))


@pytest.mark.parametrize("rows", [1, 3, 7, 8, 20, 70])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 7, 8, 31, 32, 40, 64, 80])
def test_columns_add_row_by_row_in_blocks_and_in_four_chains_beside_them(
    rows: int, columns: int
) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    block = 32 if columns >= 8 else 4
    found = column_sum(x)
    for j in range(columns):
        terms = list(x[:, j])
        in_block = j < columns - columns % block
        literal = (
            _literal(x[:, 0]) if columns == 1 else (_chain if in_block else _four_chains)(terms)
        )
        assert found[j] == literal
    assert (column_mean(x) == found / np.float32(rows)).all()


def test_column_mean_of_16_bits_rounds_once() -> None:
    x = np.float16([[2048, 1], [2049, 1], [2, 2]])  # 2049 is 2048 in float16
    assert column_mean(x).tolist() == [np.float16(4098 / 3), np.float16(4 / 3)]
    assert column_mean(x).dtype == np.float16


def _nearest(exact: Fraction) -> np.float32:
    """The float32 nearest to a number that is no tie."""
    guess = np.float32(float(exact))
    near = (
        np.nextafter(guess, np.float32(-np.inf)),
        guess,
        np.nextafter(guess, np.float32(np.inf)),
    )
    return min(near, key=lambda x: abs(Fraction(float(x)) - exact))


@pytest.mark.parametrize(("k", "blocks"), [(1, 1), (40, 1), (384, 1), (385, 2), (900, 3)])
def test_products_are_added_one_by_one_with_one_rounding_each(k: int, blocks: int) -> None:
    rng = np.random.default_rng(k)
    a, b = (rng.standard_normal((2, k)).astype(np.float32) for _ in range(2))
    size = 384 if k >= 768 else -(-k // blocks)
    for row, found in enumerate(fused_dot(a, b)):
        total = np.float32(0)
        for start in range(0, k, size):
            partial = np.float32(0)
            for x, y in zip(
                a[row, start : start + size], b[row, start : start + size], strict=True
            ):
                partial = _nearest(
                    Fraction(float(x)) * Fraction(float(y)) + Fraction(float(partial))
                )
            total = np.float32(total + partial)
        assert found == total


@pytest.mark.parametrize("size", [0, 1, 8, 21, 512])
def test_root_of_squares_adds_eight_lanes_and_then_the_rest(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    lanes = [np.float32(0)] * 8
    for i in range(size - size % 8):
        lanes[i % 8] = np.float32(lanes[i % 8] + x[i] * x[i])
    total = np.float32(0)
    for value in (*lanes, *(x[size - size % 8 :] ** 2)):
        total = np.float32(total + value)
    assert square_sum_root(x) == np.sqrt(total)
