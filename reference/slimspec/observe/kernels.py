"""Numba forms of the histogram routines; imported only where one is needed.

Each has the bits of its plain definition (`histc.positions`, `histogram_error.l2_error`,
`histogram_error.next_candidate`, `numeric.reduction.cascade_sum`); the tests compare them.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.core import config
from numpy.typing import NDArray

from slimspec.numeric.reduction import INTERLEAVED, LANES

from . import histogram_error
from .histogram_error import LEVELS

JIT = not config.DISABLE_JIT  # type: ignore[attr-defined]

_CHUNK = 2048

next_candidate = njit(nogil=True, cache=True)(histogram_error.next_candidate)


@njit(nogil=True, cache=True, error_model="numpy")
def count(x: NDArray, bins: int, lo: np.float32, hi: np.float32) -> NDArray:
    """Count as `histc.positions`: bin numbers of a chunk first (vectorized), then the counters.

    Four counters per bin take turns, so that a run of equal values does not wait for itself.
    Args: x [m] float32 without NaN. Returns: [bins] int64.
    """
    counters = np.zeros((4, bins + 1), np.int64)  # column `bins` takes what is outside
    place = np.empty(_CHUNK, np.int32)
    width, number = hi - lo, np.float32(bins)
    for start in range(0, x.size, _CHUNK):
        size = min(_CHUNK, x.size - start)
        for i in range(size):
            value = x[start + i]
            inside = (value >= lo) & (value <= hi)
            position = (value - lo) * number / width if inside else number
            place[i] = min(np.int32(position), np.int32(bins - 1)) if inside else np.int32(bins)
        for i in range(size):
            counters[i & 3, place[i]] += 1
    return counters.sum(axis=0)[:bins]


@njit(nogil=True, cache=True)
def cascade(x: NDArray) -> np.float32:
    """Sum x [m] float32 as `cascade_sum` does, for m a multiple of 8·4·16 up to 2^16·32."""
    rows = x.size // (LANES * INTERLEAVED)
    levels = np.zeros((4, INTERLEAVED, LANES), np.float32)
    for row in range(rows):
        for i in range(INTERLEAVED):
            for lane in range(LANES):
                levels[0, i, lane] += x[(row * INTERLEAVED + i) * LANES + lane]
        done = row + 1
        for j in range(1, 4):
            if done & ((16 << (4 * (j - 1))) - 1):
                break
            levels[j] += levels[j - 1]
            levels[j - 1] = np.float32(0)
    total = np.float32(0)
    lanes = np.empty((INTERLEAVED, LANES), np.float32)
    for i in range(INTERLEAVED):
        for lane in range(LANES):
            value = levels[0, i, lane]
            for j in range(1, 4):
                value += levels[j, i, lane]
            lanes[i, lane] = value
    for lane in range(LANES):
        value = lanes[0, lane]
        for i in range(1, INTERLEAVED):
            value += lanes[i, lane]
        total += value
    return total


@njit(nogil=True, cache=True, inline="always")
def _cube_third(v, u):  # type: ignore[no-untyped-def]
    """Return (v³ - u³)/3 in float32."""
    return (v * v * v - u * u * u) / np.float32(3)


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def _level(edge, level):  # type: ignore[no-untyped-def]
    """Return `floor_division(edge, level)` clipped to the levels; NaN stays."""
    m = np.float32(np.fmod(edge, level))
    d = (edge - m) / level
    if m != np.float32(0) and ((level < np.float32(0)) != (m < np.float32(0))):
        d -= np.float32(1)
    whole = np.float32(np.floor(d))
    if d - whole > np.float32(0.5):
        whole += np.float32(1)
    if whole < np.float32(0):
        return np.float32(0)
    if whole > np.float32(LEVELS - 1):
        return np.float32(LEVELS - 1)
    return whole


@njit(nogil=True, cache=True, error_model="numpy")
def l2_error(counts: NDArray, low: np.float32, high: np.float32, first: int, last: int) -> float:
    """Return `histogram_error.l2_error`; the number of bins is a multiple of 512."""
    bins = counts.shape[0]
    bin_width = np.float64(high) / bins - np.float64(low) / bins
    level_width = bin_width * (last - first + 1) / LEVELS
    if level_width == 0.0:
        return 0.0
    width, level, half = np.float32(bin_width), np.float32(level_width), np.float32(level_width / 2)
    whole_level = _cube_third(half, -half)
    error = np.empty(bins, np.float32)
    for i in range(bins):
        begin = np.float32(i - first) * width
        end = begin + width
        level_begin, level_end = _level(begin, level), _level(end, level)
        density = counts[i] / width
        e = density * _cube_third(half, begin - (level_begin + np.float32(0.5)) * level)
        e += (level_end - level_begin - np.float32(1)) * (density * whole_level)
        error[i] = e + density * _cube_third(end - (level_end * level + half), -half)
    return np.float64(cascade(error))
