"""The orders of summation: exact where nothing rounds, equal with and without the JIT."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from slimspec.model import sums

SIZES = (0, 1, 3, 15, 16, 17, 63, 64, 80, 130, 191, 193, 200, 383, 384, 500)


def draw(k: int, scale: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k)
    half = lambda shape: (scale * rng.standard_normal(shape)).astype(np.float16).astype(np.float32)  # noqa: E731
    return half((3, k)), half((5, k))


@pytest.mark.parametrize("k", SIZES)
def test_sums_of_small_integers_are_exact(k: int) -> None:
    x, w = (np.rint(v) for v in draw(k, scale=8))
    exact = (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.float32)
    assert np.array_equal(sums.dot(x, w), exact)
    assert np.array_equal(sums.weighted(x, w.T), exact)
    assert np.array_equal(sums.blocked(x, w.T), exact)
    bias = np.arange(5, dtype=np.float32)
    assert np.array_equal(sums.blocked(x, w.T, bias), exact + bias)


@pytest.mark.parametrize("k", SIZES)
def test_sums_stay_within_the_bound_of_any_order(k: int) -> None:
    """|sum − Σ| <= (k + 1)·2^-24·Σ|x·w|, exact sums in fractions."""
    x, w = draw(k)
    for order in (sums.dot(x, w), sums.weighted(x, w.T), sums.blocked(x, w.T)):
        for i, j in ((0, 0), (2, 4)):
            terms = [
                Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x[i], w[j], strict=True)
            ]
            bound = (k + 1) * Fraction(1, 2**24) * sum(map(abs, terms))
            assert abs(Fraction(float(order[i, j])) - sum(terms)) <= bound


def test_rows_do_not_depend_on_each_other() -> None:
    x, w = draw(200)
    for order in (sums.dot, lambda a, b: sums.weighted(a, b.T), lambda a, b: sums.blocked(a, b.T)):
        assert np.array_equal(order(x, w)[1:2], order(x[1:2], w))


def test_non_contiguous_operands_are_taken() -> None:
    x, w = draw(130)
    assert np.array_equal(
        sums.dot(x[:, ::2], w[:, ::2]), sums.dot(x[:, ::2].copy(), w[:, ::2].copy())
    )


def test_bits_are_the_same_without_the_jit() -> None:
    code = (
        "import hashlib, numpy as np; from slimspec.model import sums\n"
        "h = hashlib.sha256()\n"
        f"for k in {SIZES}:\n"
        "    r = np.random.default_rng(k)\n"
        "    y, v = (r.standard_normal((n, k)).astype(np.float32) for n in (3, 5))\n"
        "    x, w = (z.astype(np.float16).astype(np.float32) for z in (y, v))\n"
        "    for s in (sums.dot(x, w), sums.weighted(x, w.T), sums.blocked(y, v.T)):\n"
        "        h.update(s.tobytes())\n"
        "print(h.hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "NUMBA_DISABLE_JIT": off},
            capture_output=True,
            check=True,
        ).stdout
        for off in ("0", "1")
    }
    assert len(seen) == 1
