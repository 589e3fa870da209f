"""Float matmul: sequential float64 sums, rounded once."""

import ml_dtypes
import numpy as np
import pytest

from slimspec.matmul import matmul_float


def python_floats(x, w):
    """Python floats are float64 and add in the order they are written."""
    out = np.zeros((x.shape[0], w.shape[0]), np.float32)
    for i, row in enumerate(x.astype(np.float64).tolist()):
        for j, col in enumerate(w.astype(np.float64).tolist()):
            total = 0.0
            for a, b in zip(row, col, strict=True):
                total += a * b
            out[i, j] = np.float32(total)
    return out


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 17, 5), (2, 300, 9), (0, 3, 2), (2, 0, 3)])
def test_equals_python_floats_in_order(kind, shape):
    m, k, n = shape
    rng = np.random.default_rng(k)
    x, w = rng.normal(size=(m, k)).astype(kind), rng.normal(size=(n, k)).astype(kind)
    got = matmul_float(x, w)
    assert got.dtype == np.float32
    assert np.array_equal(got, python_floats(x, w))


def test_infinity_and_nan_follow_ieee():
    x, w = np.float32([[np.inf, 1]]), np.float32([[1, 1], [0, 1]])
    got = matmul_float(x, w)
    assert np.isposinf(got[0, 0])
    assert np.isnan(got[0, 1])


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="k of x and w"):
        matmul_float(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))
