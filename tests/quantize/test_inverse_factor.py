"""The factor of an inverse: what it is, and that compiled loops give the same bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from slimspec.quantize import inverse_factor as plain
from slimspec.quantize.inverse_factor import inverse_root


def positive(k: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((2 * k, k))
    return x.T @ x + 0.01 * k * np.eye(k)


@pytest.mark.parametrize("k", [1, 2, 5, 31, 64, 300])
def test_squares_to_the_inverse(k: int) -> None:
    h = positive(k)
    u = inverse_root(h)
    assert (np.tril(u, -1) == 0).all()
    assert (np.diag(u) > 0).all()
    # backward error of a factor and of an inverse: a few k · 2^-53 of |T||V|, here below 1e-10
    assert np.abs(u.T @ u @ h - np.eye(k)).max() < 1e-10


def test_is_the_factor_that_the_inverse_has() -> None:
    h = positive(40)
    assert np.allclose(inverse_root(h), np.linalg.cholesky(np.linalg.inv(h)).T, rtol=1e-9)


def test_small_case_by_hand_is_exact() -> None:
    """H = TᵀT with T = [[2, 0], [3, 4]]: U = T⁻ᵀ = [[1/2, -3/8], [0, 1/4]]."""
    h = np.array([[13.0, 12.0], [12.0, 16.0]])
    u = inverse_root(h)
    expected = [[Fraction(1, 2), Fraction(-3, 8)], [Fraction(0), Fraction(1, 4)]]
    assert [[Fraction(x) for x in row] for row in u.tolist()] == expected


@pytest.mark.parametrize("k", [1, 31, 32, 33, 65, 100])
def test_panels_change_no_bit(k: int) -> None:
    kernels = pytest.importorskip("slimspec.quantize.factor_kernels")
    h = positive(k, seed=k)
    factors = []
    for factor, invert in (
        (plain._factor, plain._invert),
        (kernels.factor, kernels.invert),
    ):
        t, v = np.zeros_like(h), np.eye(k)
        assert factor(h.copy(), t)
        invert(t, v)
        factors.append((t.tobytes(), v.tobytes()))
    assert factors[0] == factors[1]


@pytest.mark.parametrize("h", [-np.eye(3), np.zeros((2, 2)), np.full((2, 2), np.nan)])
@pytest.mark.parametrize("size", [0, 300])
def test_indefinite_is_refused(h: np.ndarray, size: int) -> None:
    whole = np.eye(len(h) + size)
    whole[: len(h), : len(h)] = h
    with pytest.raises(ValueError, match="not positive definite"):
        inverse_root(whole)


def test_argument_is_left_as_it_is() -> None:
    h = positive(9)
    before = h.copy()
    inverse_root(h)
    assert np.array_equal(h, before)
