"""Sums in torch's CPU order, so that a float32 sum has the producer's bits.

torch does not add from left to right: it adds in vectors of 8 lanes, four vectors interleaved, and
in cascading levels. The order is fixed for a contiguous axis handled by one thread, so the sum is a
definite float32 number (pytorch aten/src/ATen/native/cpu/SumKernel.cpp, AVX2 path).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .arithmetic import as_float32, model_dtype, to_dtype

LANES = 8
INTERLEAVED = 4
LEVELS = 4
GEMM_COLUMNS = 384


def _level_power(steps: int) -> int:
    """Return log2 of the number of terms that one level adds before it hands over."""
    ceil_log2 = max(steps - 1, 0).bit_length()
    return max(4, ceil_log2 // LEVELS)


def _in_order(terms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add `terms` [m, steps, ...] over axis 1 from first to last, starting at 0."""
    total = np.zeros(terms.shape[:1] + terms.shape[2:], np.float32)
    for i in range(terms.shape[1]):
        total += terms[:, i]
    return total


def _cascade(terms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add `terms` [m, steps, ...] over axis 1 in cascading levels.

    Level 0 adds blocks of 2^p terms, level 1 blocks of 2^p such sums, and so on; the last of the
    four levels adds all that it gets. What fills no block waits in its level; in the end the levels
    are added, lowest first. Returns: [m, ...].
    """
    block = 1 << _level_power(terms.shape[1])
    waiting = []
    for _ in range(LEVELS - 1):
        blocks = terms.shape[1] // block
        waiting.append(_in_order(terms[:, blocks * block :]))
        full = terms[:, : blocks * block]
        shape = (terms.shape[0] * blocks, block, *terms.shape[2:])
        sums = _in_order(full.reshape(shape))
        terms = sums.reshape(terms.shape[0], blocks, *terms.shape[2:])
    waiting.append(_in_order(terms))
    total = waiting[0]
    for level in waiting[1:]:
        total = total + level
    return total


def _interleaved(terms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add `terms` [m, steps, ...] over axis 1, four interleaved cascades. Returns: [m, ...]."""
    steps = terms.shape[1]
    even = steps // INTERLEAVED * INTERLEAVED
    grouped = terms[:, :even].reshape(
        terms.shape[0], even // INTERLEAVED, INTERLEAVED, *terms.shape[2:]
    )
    partial = _cascade(grouped)  # (m, 4, ...)
    total = partial[:, 0]
    for i in range(even, steps):
        total = total + terms[:, i]
    for lane in range(1, INTERLEAVED):
        total = total + partial[:, lane]
    return total


def _lane_terms(rows: NDArray) -> tuple[NDArray[np.float32], int]:
    """Split rows [m, k] into vector terms [m, k // width, 8]; 16-bit vectors hold 16 values.

    Returns: the terms and the number of columns they cover.
    """
    halves = 4 // rows.dtype.itemsize  # 1 for float32, 2 for 16-bit dtypes
    width = LANES * halves
    covered = rows.shape[1] // width * width
    wide = as_float32(rows[:, :covered])
    terms = wide.reshape(rows.shape[0], covered // width, halves, LANES)
    return (terms[:, :, 0] if halves == 1 else terms[:, :, 0] + terms[:, :, 1]), covered


def cascade_sum(x: NDArray) -> NDArray:
    """Return the sum over the last axis, in float32 and in torch's order, rounded to x's dtype.

    Lanes l = 0..7 each cascade over their own terms in four interleaved chains; the columns that
    fill no vector come first, then the lanes in order.
    Args: x [..., k] float32, float16 or bfloat16. Returns: [...], dtype of x.
    Raises: TypeError for other dtypes. Source: pytorch SumKernel.cpp (multi_row_sum, row_sum,
    vectorized_inner_sum).
    """
    dtype = model_dtype(x.dtype)
    rows = np.ascontiguousarray(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    with np.errstate(all="ignore"):
        total = _sum_rows(rows)
    return np.asarray(to_dtype(total, dtype)).reshape(x.shape[:-1])


def _sum_rows(rows: NDArray) -> NDArray[np.float32]:
    if rows.shape[1] < LANES * 4 // rows.dtype.itemsize:
        return _interleaved(as_float32(rows))
    terms, covered = _lane_terms(rows)
    lanes = _interleaved(terms)  # (m, 8)
    total = np.zeros(rows.shape[0], np.float32)
    tail = as_float32(rows[:, covered:])
    for column in range(tail.shape[1]):
        total = total + tail[:, column]
    for lane in range(LANES):
        total = total + lanes[:, lane]
    return total


def cascade_mean(x: NDArray) -> NDArray:
    """Return the mean over the last axis: float32 sum and division, rounded once to x's dtype.

    16-bit values are widened before the sum, so their lanes differ from those of `cascade_sum`.
    Args: x [..., k] float32, float16 or bfloat16, k >= 1. Returns: [...], dtype of x.
    Raises: TypeError for other dtypes. Source: pytorch aten/src/ATen/native/ReduceOps.cpp (mean).
    """
    dtype = model_dtype(x.dtype)
    total = cascade_sum(as_float32(x))
    return to_dtype(np.asarray(total / np.float32(x.shape[-1])), dtype)


def column_sum(x: NDArray) -> NDArray:
    """Return the sum over axis 0 in torch's order, which depends on the column.

    Blocks of 32 columns (of 4, if there are fewer than 8) add row by row, in cascading levels; the
    columns left over add in four interleaved chains. One column alone is a contiguous row.
    Args: x [r, c] float32, c contiguous. Returns: [c] float32.
    Source: pytorch SumKernel.cpp (vectorized_outer_sum, scalar_outer_sum).
    """
    columns = x.shape[1]
    if columns == 1:
        return cascade_sum(x.T)
    block = INTERLEAVED * LANES if columns >= LANES else INTERLEAVED
    even = columns // block * block
    with np.errstate(all="ignore"):
        return np.concatenate([_cascade(x[None, :, :even])[0], _interleaved(x[None, :, even:])[0]])


def column_mean(x: NDArray) -> NDArray:
    """Return the mean over axis 0: float32 sum and division, rounded once to x's dtype.

    Args: x [r, c] float32, float16 or bfloat16, r >= 1. Returns: [c], dtype of x.
    Raises: TypeError for other dtypes. Source: as `cascade_mean`.
    """
    dtype = model_dtype(x.dtype)
    return to_dtype(column_sum(as_float32(x)) / np.float32(x.shape[0]), dtype)


def square_sum_root(x: NDArray[np.float32]) -> np.float32:
    """Return sqrt(Σ x²) in float32 and in torch's order: 8 lanes one by one, then the rest.

    Args: x [m] float32. Source: pytorch aten/src/ATen/native/cpu/ReduceOpsKernel.cpp (norm of 2).
    """
    covered = x.size // LANES * LANES
    with np.errstate(all="ignore"):
        squares = x * x
        lanes = _in_order(squares[:covered].reshape(1, -1, LANES))[0]
        terms = np.concatenate([lanes, squares[covered:]])
        return np.float32(np.sqrt(_in_order(terms[None])[0]))


def fused_dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Σ a·b over the last axis, as a float32 matrix product on an x86 CPU adds it.

    c = float32(a_i · b_i + c), one fused multiply-add after the other; every block of 384 columns
    starts at 0, and the blocks are added in order. Between one and two blocks go in halves.
    Args: a, b [n, k]. Returns: [n]. Source: recorded products of the producer's torch (MKL; it
    takes other orders for fewer than 4 rows and for k of 24·n and more).
    """
    wide_a, wide_b = (np.ascontiguousarray(x.T, np.float64) for x in (a, b))
    k = len(wide_a)
    block = (k + 1) // 2 if GEMM_COLUMNS < k < 2 * GEMM_COLUMNS else GEMM_COLUMNS
    total = np.zeros(a.shape[0], np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, k, block):
            partial = np.zeros_like(total)
            for i in range(start, min(start + block, k)):
                partial = (wide_a[i] * wide_b[i] + partial).astype(np.float32)
            total = total + partial
    return total
