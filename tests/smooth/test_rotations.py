"""Hadamard transforms and rotations: orthogonal, reproducible, and harmless to the output."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.smooth.hadamard import (
    RotationMode,
    bake_mean,
    decompose,
    hadamard_transform,
    random_signs,
    rotate_inputs,
    rotate_outputs,
    rotation,
    stored_factor,
    walsh,
)
from slimspec.smooth.hadamard_tables import SIZES, hadamard_table


@pytest.mark.parametrize("n", SIZES)
def test_stored_matrices_are_hadamard(n: int) -> None:
    h = hadamard_table(n).astype(np.int64)
    assert set(np.unique(h)) == {-1, 1}
    assert (h @ h.T == n * np.eye(n, dtype=np.int64)).all()


def test_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        hadamard_table(16)


@pytest.mark.parametrize("n", [1, 2, 8, 64, 12, 24, 40, 80, 320, 172])
def test_transform_is_orthogonal_and_exact_on_unit_vectors(n: int) -> None:
    h = hadamard_transform(np.eye(n)) * np.sqrt(np.float32(n)).astype(np.float64)
    signs = np.rint(h)
    assert np.abs(h - signs).max() < 1e-9  # float64 division and product
    assert (signs @ signs.T == n * np.eye(n)).all()


def test_power_of_two_transform_is_the_sylvester_matrix() -> None:
    h = hadamard_transform(np.eye(8, dtype=np.float32)) * np.sqrt(np.float32(8))
    assert (np.rint(h) == walsh(8)).all()


@pytest.mark.parametrize(
    ("n", "k"), [(64, 1), (40, 40), (80, 40), (24, 12), (400, 200), (344, 172)]
)
def test_largest_stored_factor_is_taken(n: int, k: int) -> None:
    assert stored_factor(n) == k


@pytest.mark.parametrize("n", [0, 3, 44, 100])
def test_sizes_without_a_matrix_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match="no Hadamard matrix"):
        stored_factor(n)


def test_signs_are_a_fixed_stream() -> None:
    signs = random_signs(1000, 1234)
    assert set(np.unique(signs)) == {-1, 1}
    assert (random_signs(10, 1234) == signs[:10]).all()
    assert (random_signs(10, 1) != signs[:10]).any()
    # MT19937 seeded with 1234 starts with 822569775, 2137449171, ...: both odd.
    assert signs[:2].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("mode", "block", "step"),
    [
        (RotationMode.HADAMARD, -1, 1),
        (RotationMode.HADAMARD, 32, 1),
        (RotationMode.BLOCK_HADAMARD_SHIFTED, -1, 1),
        (RotationMode.BLOCK_HADAMARD_SHIFTED, 32, 2),
        (RotationMode.BLOCK_HADAMARD_SHIFTED, 64, 3),
    ],
)
def test_rotations_are_orthogonal(mode: RotationMode, block: int, step: int) -> None:
    r = rotation(64, mode=mode, block_size=block, rot_step=step).astype(np.float64)
    # Up to 8 float32 products of orthogonal matrices, each entry within 64 · 2^-24.
    assert np.abs(r @ r.T - np.eye(64)).max() < 16 * 64 * 2.0**-24 * 8


def test_bad_blocks_and_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        rotation(64, block_size=24)
    with pytest.raises(ValueError, match="rot_step"):
        rotation(64, mode=RotationMode.BLOCK_HADAMARD_SHIFTED, rot_step=4)
    with pytest.raises(ValueError, match="divide"):
        rotate_inputs(np.zeros((2, 6), np.float32), np.eye(4))


def test_rotated_producer_and_consumer_give_the_same_output() -> None:
    rng = np.random.default_rng(0)
    x, w1, w2 = (rng.standard_normal(s).astype(np.float32) for s in ((4, 8), (64, 8), (5, 64)))
    r = rotation(32)
    wide = x.astype(np.float64)
    before = wide @ w1.T.astype(np.float64) @ w2.T.astype(np.float64)
    hidden = wide @ rotate_outputs(w1, r).T.astype(np.float64)
    after = hidden @ rotate_inputs(w2, r).T.astype(np.float64)
    reach = np.linalg.norm(wide, axis=1)[:, None] * np.linalg.norm(w1) * np.linalg.norm(w2, axis=1)
    # Two float32 products over 32 terms with an orthogonal matrix of entries off by 2^-24.
    assert (np.abs(after - before) <= reach * 4 * 32 * 2.0**-24).all()


def test_baked_mean_is_zero_over_outputs() -> None:
    rng = np.random.default_rng(1)
    w, b = (rng.standard_normal(s).astype(np.float32) for s in ((16, 8), (16,)))
    assert np.abs(bake_mean(w).astype(np.float64).mean(axis=0)).max() < 2.0**-24 * 4
    assert abs(float(bake_mean(b).astype(np.float64).mean())) < 2.0**-24 * 4
    assert bake_mean(w.astype(np.float16)).dtype == np.float16


@pytest.mark.parametrize("n", [1, 8, 64, 4096, 11008, 14336, 192])
def test_decomposition_multiplies_back_and_is_allowed(n: int) -> None:
    a, b = decompose(n)
    assert a * b == n
    assert all(f in (1, 2) or (f % 4 == 0 and f <= 256) for f in (a, b))


def test_prime_and_large_sizes_do_not_decompose() -> None:
    for n in (7, 257 * 4, 2**17):
        with pytest.raises(ValueError, match="no product"):
            decompose(n)
