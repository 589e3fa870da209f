"""Hadamard transforms and the rotations of QuaRot built from them.

R = H·D / sqrt(n),  D a diagonal of random signs,  H a butterfly times a stored H_k, n = k·2^m
"""

from __future__ import annotations

from enum import Enum
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, to_dtype

from .hadamard_tables import SIZES, hadamard_table

SEED = 1234
SHIFT = 16  # columns that BLOCK_HADAMARD_SHIFTED moves between its two rotations
SHIFTED_BLOCK = 32


class RotationMode(Enum):
    """How `rotation` builds its matrix; names and values of the producer."""

    HADAMARD = "hadamard"
    BLOCK_HADAMARD_SHIFTED = "block_hadamard_shifted"


def is_power_of_two(n: int) -> bool:
    """Tell whether n is 1, 2, 4, ..."""
    return n > 0 and n & (n - 1) == 0


def stored_factor(n: int) -> int:
    """Return k: the largest stored order with n / k a power of two, else 1 for a power of two.

    Raises: ValueError if n has no such form. Source: math.md 11.1.
    """
    for k in SIZES:
        if n % k == 0 and is_power_of_two(n // k):
            return k
    if is_power_of_two(n):
        return 1
    raise ValueError(f"no Hadamard matrix of size {n}: expected k·2^m, k one of {SIZES} or 1")


def hadamard_transform(x: NDArray) -> NDArray:
    """Return x·Hᵀ / sqrt(n) over the last axis.

    While more than k entries are left, pairs (a, b) become (a + b, a - b), and the half that an
    entry went to becomes the slower part of its position; then H_k mixes the k groups.
    Args: x [..., n] float32 or float64. Returns: same shape and dtype; sqrt(n) is a float32.
    Raises: ValueError if n has no Hadamard matrix.
    Source: math.md 11.1; msmodelslim processor/quarot/common/hadamard.py:109-140.
    """
    n = x.shape[-1]
    k = stored_factor(n)
    y = x.reshape(-1, n, 1)
    while y.shape[1] > k:
        pairs = y.reshape(y.shape[0], y.shape[1] // 2, 2, y.shape[2])
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        y = np.concatenate([a + b, a - b], axis=2)  # (rows, length / 2, 2·width)
    if k > 1:
        y = hadamard_table(k).astype(x.dtype) @ y
    return y.reshape(x.shape) / x.dtype.type(np.sqrt(np.float32(n)))


def walsh(n: int) -> NDArray[np.float32]:
    """Return the Sylvester matrix of order n, entries ±1.

    The producer means to order its rows by sequency, but its sort key is the same for every row.
    Raises: ValueError if n is no power of two.
    Source: msmodelslim processor/quarot/common/hadamard.py:64-77.
    """
    if not is_power_of_two(n):
        raise ValueError(f"Walsh matrix of order {n}: expected a power of two")
    h = np.ones((1, 1), np.float32)
    while h.shape[0] < n:
        h = np.block([[h, h], [h, -h]])
    return h


def random_signs(n: int, seed: int) -> NDArray[np.float32]:
    """Return n signs ±1: lowest bits of successive MT19937 words, as torch.randint(0, 2) draws."""
    words = np.random.RandomState(seed).bytes(4 * n)
    bits = np.frombuffer(words, "<u4") & np.uint32(1)
    return bits.astype(np.float32) * np.float32(2) - np.float32(1)


def random_hadamard(n: int, seed: int = SEED) -> NDArray[np.float32]:
    """Return the transform of a diagonal of random signs, an orthogonal [n, n] float32 matrix."""
    return hadamard_transform(np.diag(random_signs(n, seed)))


def block_diagonal(block: NDArray, times: int) -> NDArray:
    """Return `block` [b, b] repeated along the diagonal, zeros (+0) elsewhere."""
    size = block.shape[0]
    made = np.zeros((times, size, times, size), block.dtype)
    for i in range(times):
        made[i, :, i] = block
    return made.reshape(times * size, times * size)


def rotation(
    size: int,
    *,
    mode: RotationMode = RotationMode.HADAMARD,
    block_size: int = -1,
    rot_step: int = 1,
    seed: int = SEED,
) -> NDArray[np.float32]:
    """Return the rotation matrix R of a hidden size.

    HADAMARD: one random Hadamard matrix, or one of `block_size` along the diagonal.
    BLOCK_HADAMARD_SHIFTED: B = diagonal of blocks (32 by default), P moves the columns by 16;
    rot_step 1: B·P·B, 2: B·P·B·Pᵀ·Bᵀ, 3: B·P·B·Pᵀ·Bᵀ·P·B·Pᵀ·Bᵀ, multiplied from the left.
    Returns: [size, size] float32. Raises: ValueError for a block that does not divide the size, a
    rot_step other than 1..3 (shifted mode), or a size without a Hadamard matrix.
    Source: math.md 11.1; msmodelslim processor/quarot/common/quarot_utils.py:60-115.
    """
    shifted = mode is RotationMode.BLOCK_HADAMARD_SHIFTED
    default = SHIFTED_BLOCK if shifted else size
    block = default if block_size == -1 else block_size
    if block < 1 or size % block:
        raise ValueError(f"block size {block} does not divide the size {size}")
    base = block_diagonal(random_hadamard(block, seed), size // block)
    return _shifted(base, rot_step) if shifted else base


def _shifted(b: NDArray[np.float32], rot_step: int) -> NDArray[np.float32]:
    identity = np.eye(b.shape[0], dtype=np.float32)
    p = np.roll(identity, SHIFT, axis=1)
    chains = {
        1: (p, b),
        2: (p, b, p.T, b.T),
        3: (p, b, p.T, b.T, p, b, p.T, b.T),
    }
    if rot_step not in chains:
        raise ValueError(f"rot_step: expected 1, 2 or 3, found {rot_step}")
    result = b
    for factor in chains[rot_step]:
        result = result @ factor
    return result


def _fitting(rotation_matrix: NDArray, size: int) -> NDArray[np.float32]:
    block = rotation_matrix.shape[0]
    if size % block:
        raise ValueError(f"a rotation of size {block} does not divide the weight's size {size}")
    return block_diagonal(as_float32(rotation_matrix), size // block)


def rotate_inputs(w: NDArray, rotation_matrix: NDArray) -> NDArray:
    """Return W·R for a linear whose inputs are rotated, computed in float32.

    Args: w [n, k]; rotation_matrix [b, b], b divides k. Returns: [n, k], dtype of w.
    Raises: ValueError if b does not divide k. Source: math.md 11.1; quarot_utils.py:118-145.
    """
    product = as_float32(w) @ _fitting(rotation_matrix, w.shape[1])
    return to_dtype(product, w.dtype)


def rotate_outputs(w: NDArray, rotation_matrix: NDArray) -> NDArray:
    """Return Rᵀ·W for a linear whose outputs are rotated; a bias [n] likewise.

    Args: w [n, k] or [n]; rotation_matrix [b, b], b divides n. Returns: shape and dtype of w.
    Raises: ValueError if b does not divide n. Source: math.md 11.1; quarot_utils.py:118-145.
    """
    product = _fitting(rotation_matrix, w.shape[0]).T @ as_float32(w)
    return to_dtype(product, w.dtype)


def bake_mean(w: NDArray) -> NDArray:
    """Return W minus the mean over its rows (of a bias: minus its mean), computed in float64.

    Then the linear's outputs have mean zero, as the LayerNorm behind it would make them.
    Args: w [n, k] or [n]. Returns: shape and dtype of w. Source: math.md 11.1.
    """
    wide = as_float32(w).astype(np.float64)
    return (wide - wide.mean(axis=0)).astype(w.dtype)


def decompose(n: int) -> tuple[int, int]:
    """Return (a, b) with a·b = n, both in {1, 2, 4, 8, 12, ..., 256}, as close as the rule allows.

    The first x >= sqrt(n) with x² - n = y² and x - y, x + y in the set gives (x - y, x + y).
    Raises: ValueError if there is none. Source: math.md 11.1; quarot_utils.py:215-232.
    """
    allowed = {1, 2} | {4 * i for i in range(1, 65)}
    start = isqrt(n)
    start += start * start < n
    for x in range(start, max(allowed) + 1):
        square = x * x - n
        y = isqrt(square)
        if y * y == square and x - y in allowed and x + y in allowed:
            return x - y, x + y
    raise ValueError(f"{n} is no product of two sizes of online rotations (1, 2, 4, 8, ..., 256)")
