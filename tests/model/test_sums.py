"""The orders of summation: exact where nothing rounds, equal with and without the JIT."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from slimspec.model import sums

SIZES = (0, 1, 3, 15, 16, 17, 63, 64, 80, 130, 191, 193, 200, 383, 384, 500, 769)
ORDERS = (
    sums.dot,
    lambda x, w: sums.chained(x, w.T),
    lambda x, w: sums.tiled(x, w.T),
    lambda x, w: sums.paired(x, w.T),
    lambda x, w: sums.blocked(x, w.T),
    lambda x, w: sums.laned(x, w.T),
)


def draw(k: int, scale: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k)
    half = lambda shape: (scale * rng.standard_normal(shape)).astype(np.float16).astype(np.float32)  # noqa: E731
    return half((3, k)), half((5, k))


@pytest.mark.parametrize("k", SIZES)
def test_sums_of_small_integers_are_exact(k: int) -> None:
    x, w = (np.rint(v) for v in draw(k, scale=8))
    exact = (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.float32)
    for order in ORDERS:
        assert np.array_equal(order(x, w), exact)
    bias = np.arange(5, dtype=np.float32)
    assert np.array_equal(sums.blocked(x, w.T, bias), exact + bias)
    assert np.array_equal(sums.single(x, w.T, bias), exact + bias)


@pytest.mark.parametrize("k", SIZES)
def test_sums_stay_within_the_bound_of_any_order(k: int) -> None:
    """|sum − Σ| <= (k + 1)·2^-24·Σ|x·w|, exact sums in fractions."""
    x, w = draw(k)
    for order in (f(x, w) for f in ORDERS):
        for i, j in ((0, 0), (2, 4)):
            terms = [
                Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x[i], w[j], strict=True)
            ]
            bound = (k + 1) * Fraction(1, 2**24) * sum(map(abs, terms))
            assert abs(Fraction(float(order[i, j])) - sum(terms)) <= bound


def test_rows_do_not_depend_on_each_other() -> None:
    x, w = draw(200)
    for order in ORDERS:
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
        "    half = (sums.dot(x, w), sums.chained(x, w.T), sums.tiled(x, w.T))\n"
        "    whole = (sums.paired(x, w.T), sums.blocked(y, v.T), sums.laned(y, v.T))\n"
        "    for s in (*half, *whole):\n"
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


def test_where_each_order_rounds() -> None:
    """2^24 swallows a one that is added alone, and keeps two that are added together."""
    ones = np.ones((1, 1100), np.float32)

    def sum_of(order: Callable[..., np.ndarray], *big: tuple[int, float], k: int) -> float:
        x = np.zeros((1, k), np.float32)
        for place, value in big:
            x[0, place] = value
        return float(order(x, ones[:, :k].T)[0, 0]) - 2.0**24

    large = 2.0**24
    # tiled: two even ones are a chain of their own tile; an even and an odd one meet at its end
    assert sum_of(sums.tiled, (0, large), (2, 1), (4, 1), k=64) == 0
    assert sum_of(sums.tiled, (0, large), (1, 1), (3, 1), k=64) == 2
    assert sum_of(sums.tiled, (0, large), (32, 1), (33, 1), k=64) == 2
    assert sum_of(sums.tiled, (0, large), (32, 1), (64, 1), k=96) == 0
    # chained: 512 products are a chain; with more than 1024 products, 1024
    assert sum_of(sums.chained, (0, large), (510, 1), (511, 1), k=1024) == 0
    assert sum_of(sums.chained, (0, large), (512, 1), (513, 1), k=1024) == 2
    assert sum_of(sums.chained, (0, large), (512, 1), (513, 1), k=1100) == 0
    assert sum_of(sums.chained, (0, large), (1024, 1), (1025, 1), k=1100) == 2


def joined(order: Callable[..., np.ndarray], i: int, j: int, k: int, t: int = 1) -> int:
    """How many of k ones are lost to 2^60 at i before -2^60 at j takes it away, both included.

    Those are the summands below the node where i and j meet (as FPRev, Xie et al., 2024).
    """
    x = np.ones((t, k), np.float32)
    x[:, i], x[:, j] = 2.0**60, -(2.0**60)
    found = order(x, np.ones((k, 4), np.float32))
    assert (found == found[0, 0]).all()
    return k - int(found[0, 0])


@pytest.mark.parametrize(
    ("order", "k", "met"),
    [
        # bfloat16 without AMX: 1, 0, 3, 2, 5, 4, ..
        (sums.paired, 67, {(0, 1): 2, (0, 3): 3, (0, 2): 4, (1, 5): 5, (64, 65): 66, (0, 66): 67}),
        # float32 of 64 rows: blocks of 384 and of halves
        (sums.blocked, 384, {(0, 1): 2, (0, 383): 384}),
        (sums.blocked, 385, {(0, 192): 193, (0, 193): 385, (193, 194): 2}),
        (sums.blocked, 640, {(0, 319): 320, (0, 320): 640}),
        (sums.blocked, 1000, {(0, 383): 384, (0, 384): 692, (0, 691): 692, (0, 692): 1000}),
        (sums.blocked, 1152, {(0, 384): 768, (0, 768): 1152, (1150, 1151): 384}),
        # float32 of 4 rows: lanes k mod 16
        (sums.laned, 100, {(0, 16): 2, (0, 96): 7, (0, 4): 13, (0, 8): 19, (0, 12): 25,
                           (0, 1): 50, (0, 2): 100, (4, 20): 2, (2, 3): 50, (7, 99): 13}),
    ],
)  # fmt: skip
def test_summands_meet_where_they_do_in_torch(
    order: Callable[..., np.ndarray], k: int, met: dict[tuple[int, int], int]
) -> None:
    """Measured with torch 2.13 on a CPU with AVX-512 BF16 and FP16, without AMX."""
    assert {pair: joined(order, *pair, k) for pair in met} == met


def test_which_float32_products_go_in_lanes() -> None:
    """Measured likewise: 2 to 15 rows, and 24 products or more for each."""
    for t in (1, 2, 3, 9, 15, 16):
        for k in (24 * t - 1, 24 * t):
            lanes = 2 <= t <= 15 and k == 24 * t
            assert joined(sums.single, 0, 1, k, t) == ((k + 1) // 2 if lanes else 2), (t, k)
