"""Quantized all-reduce."""

from fractions import Fraction

import numpy as np

from slimspec.matmul import reduce_quantized
from slimspec.matmul.reduce_quant import quantize_channels

F32 = np.float32
RNG = np.random.default_rng(7)


def test_equals_exact_steps(exact):
    f = exact.float32
    y = RNG.normal(size=(3, 2, 4)).astype(F32)
    reduce, gather = np.abs(y).max((0, 1)) / F32(127), RNG.uniform(0.01, 0.03, 4).astype(F32)
    got = reduce_quantized(y, reduce, gather)
    assert got.dtype == F32

    def code(value, scale):
        return min(max(round(f(value / scale)), -127), 127)

    for i in range(2):
        for j in range(4):
            s, g = Fraction(float(reduce[j])), Fraction(float(gather[j]))
            total = Fraction(0)
            for r in range(3):
                total = f(total + f(code(Fraction(float(y[r, i, j])), s) * s))
            assert Fraction(float(got[i, j])) == f(code(total, g) * g)


def test_scales_may_differ_per_rank():
    y = np.ones((2, 1, 1), F32)
    got = reduce_quantized(y, F32([[1.0], [0.5]]), F32([1.0]))
    assert got.tolist() == [[2.0]]


def test_codes_are_symmetric():
    q = quantize_channels(F32([[1e9, -1e9]]), F32([1, 1]))
    assert (q.dtype, q.tolist()) == (np.int8, [[127, -127]])
