"""W4A4: per channel and per group."""

from fractions import Fraction

import numpy as np
import pytest

from slimspec.matmul import dequantize_per_token, matmul_int8, matmul_w4a4, matmul_w4a4_group

F16, F32 = np.float16, np.float32
RNG = np.random.default_rng(4)
X, W = RNG.integers(-8, 8, (3, 6), dtype=np.int8), RNG.integers(-8, 8, (2, 6), dtype=np.int8)
SCALE, TOKEN = RNG.uniform(0.1, 1, 2).astype(F32), RNG.uniform(0.1, 1, 3).astype(F32)


def test_per_channel_is_the_per_token_epilogue_on_int4():
    expected = dequantize_per_token(matmul_int8(X, W), SCALE, TOKEN)
    assert np.array_equal(matmul_w4a4(X, W, SCALE, TOKEN), expected)


def test_groups_equal_exact_steps(exact):
    scale, offset = RNG.uniform(0.1, 1, (2, 3)).astype(F32), F16([[1, 0, -2], [3, 2, 1]])
    got = matmul_w4a4_group(X, W, scale, TOKEN, offset, F32)
    f = exact.float32
    for i in range(3):
        for j in range(2):
            total = Fraction(0)
            for g in range(3):
                span = range(2 * g, 2 * g + 2)
                acc = sum(int(X[i, p]) * int(W[j, p]) for p in span)
                shift = sum(int(X[i, p]) for p in span) * int(offset[j, g])
                total = f(total + f((acc - shift) * Fraction(float(scale[j, g]))))
            assert Fraction(float(got[i, j])) == f(total * Fraction(float(TOKEN[i])))


def test_shapes_and_errors():
    assert matmul_w4a4(X[:0], W, SCALE, TOKEN[:0]).shape == (0, 2)
    assert matmul_w4a4(X, W, SCALE, TOKEN).dtype == F16
    with pytest.raises(ValueError, match=r"x\[0, 0\]"):
        matmul_w4a4(np.full((1, 6), 9, np.int8), W, SCALE, TOKEN[:1])
