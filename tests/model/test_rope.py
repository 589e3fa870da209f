"""Rotary positions: rotations, and frequencies of each kind against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slimspec.model.rope import Rope, cos_sin, frequencies, halves_of_pairs, rotate, yarn_scale

F32 = np.dtype(np.float32)
ROPE = Rope("default", 8, 10000.0)


def rotated(x: np.ndarray, position: int) -> np.ndarray:
    cos, sin = cos_sin(ROPE, np.full(x.shape[1], position), F32)
    return rotate(x, cos, sin)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, 3, 8)).astype(np.float32)


def test_position_zero_turns_nothing(x: np.ndarray) -> None:
    assert np.array_equal(rotated(x, 0), x)


def test_a_rotation_keeps_lengths(x: np.ndarray) -> None:
    # three roundings of 2^-24 per element, of 8 elements
    before, after = (np.linalg.norm(v, axis=-1) for v in (x, rotated(x, 17)))
    assert np.allclose(before, after, rtol=24 * 2.0**-24, atol=0)


def test_scores_depend_on_the_distance_only(x: np.ndarray) -> None:
    q, k = x[0], x[1]
    near = (rotated(q[None], 9)[0] * rotated(k[None], 4)[0]).sum(-1)
    far = (rotated(q[None], 29)[0] * rotated(k[None], 24)[0]).sum(-1)
    # the angle 29 is rounded to 2^-20, which times |q||k| is what the scores may differ by
    bound = 2.0**-18 * np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1)
    assert (np.abs(near - far) <= bound).all()


def test_a_rotation_is_a_complex_product(x: np.ndarray) -> None:
    f, _ = frequencies(ROPE)
    z = (x[..., :4] + 1j * x[..., 4:]) * np.exp(5j * f.astype(float))
    expected = np.concatenate([z.real, z.imag], axis=-1)
    assert np.allclose(rotated(x, 5), expected, rtol=0, atol=2.0**-20)


def test_pairs_become_halves() -> None:
    assert halves_of_pairs(np.arange(6)).tolist() == [0, 2, 4, 1, 3, 5]


def test_default_frequencies_are_powers_of_theta() -> None:
    f, factor = frequencies(ROPE)
    assert f.dtype == np.float32
    assert np.allclose(f, [1, 10**-1, 10**-2, 10**-3], rtol=2.0**-22)
    assert factor == 1.0


def test_linear_frequencies_are_divided() -> None:
    stretched, _ = frequencies(Rope("linear", 8, 10000.0, factor=4.0))
    assert np.array_equal(stretched, frequencies(ROPE)[0] / np.float32(4))


def test_llama3_keeps_short_waves_and_stretches_long_ones() -> None:
    rope = Rope("llama3", 128, 500000.0, factor=8.0, original=8192.0, low=1.0, high=4.0)
    f, _ = frequencies(rope)
    base, _ = frequencies(Rope("default", 128, 500000.0))
    wave = 2 * math.pi / base
    short, long = wave < 8192 / 4, wave > 8192
    assert np.array_equal(f[short], base[short])
    assert np.array_equal(f[long], base[long] / np.float32(8))
    middle = ~short & ~long
    assert middle.any()
    assert ((f[middle] < base[middle]) & (f[middle] > base[middle] / 8)).all()


def test_yarn_keeps_fast_turns_and_stretches_slow_ones() -> None:
    rope = Rope("yarn", 64, 10000.0, factor=40.0, original=4096.0, mscale=1.0, mscale_all_dim=1.0)
    f, factor = frequencies(rope)
    base, _ = frequencies(Rope("default", 64, 10000.0))
    turns = 4096 * base / (2 * math.pi)
    assert factor == 1.0
    assert np.array_equal(f[turns > 40], base[turns > 40])
    slow = turns < 0.5
    assert np.allclose(f[slow], base[slow] / 40, rtol=2.0**-22)
    assert (np.diff(f) < 0).all()


def test_yarn_temperature() -> None:
    assert yarn_scale(1.0) == 1.0
    assert yarn_scale(40.0) == pytest.approx(0.1 * math.log(40) + 1)
    plain = Rope("yarn", 64, 10000.0, factor=4.0, original=32768.0)
    assert frequencies(plain)[1] == yarn_scale(4.0)
    given = Rope("yarn", 64, 10000.0, factor=4.0, original=32768.0, attention_factor=1.5)
    assert frequencies(given)[1] == 1.5
