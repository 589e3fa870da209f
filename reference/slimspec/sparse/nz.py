"""The fractal (NZ) layout: 16 rows × 32 bytes, n-fractals inside k-fractals.

    nz[k // 32, n // 16, n % 16, k % 32] = w[n, k],   zero where n or k is padding

Source: facts/sparse_codec.md 1; msmodelslim/pytorch/weight_compression/compress_utils.py:159.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse.fractal import COLUMNS, ROWS, fractals, round_up

Int8 = NDArray[np.int8]


def nd_to_nz(weight: Int8, block: tuple[int, int] = (ROWS, COLUMNS)) -> Int8:
    """Lay an ND matrix out in fractals.

    Args:
        weight: int8 [n, k], any strides.
        block: rows and columns of a fractal; the streams use 16 × 32.

    Returns:
        int8 [k1, n1, 16, 32] (in general [·, ·, *block]), zero padded.

    Raises:
        ValueError: not a non-empty int8 matrix.

    Source: facts/sparse_codec.md 1.
    """
    from slimspec.sparse.kernels import fill_nz, panel

    n, k = require_matrix(weight)
    if block != (ROWS, COLUMNS):
        rows, columns = block
        high, wide = round_up(n, rows), round_up(k, columns)
        padded = np.pad(weight, ((0, high - n), (0, wide - k)))
        blocks = padded.reshape(high // rows, rows, wide // columns, columns)
        return np.ascontiguousarray(blocks.transpose(2, 0, 1, 3))
    n1, k1 = fractals(n, k)
    nz = np.empty((k1, n1, ROWS, COLUMNS), np.int8)
    fill_nz(panel(weight), nz.view(np.uint64))
    return nz


def nz_to_nd(nz: Int8, n: int, k: int) -> Int8:
    """Return the ND matrix of a fractal layout; padding is dropped, not looked at.

    Args:
        nz: int8 [k1, n1, 16, 32].
        n: rows of the matrix.
        k: byte columns of the matrix.

    Returns:
        int8 [n, k].

    Raises:
        ValueError: shape or dtype of `nz` does not belong to (n, k).

    Source: facts/sparse_codec.md 1.
    """
    from slimspec.sparse.kernels import fill_panel, frozen

    n1, k1 = fractals(n, k)
    expected = (k1, n1, ROWS, COLUMNS)
    if nz.dtype != np.int8 or nz.shape != expected or n < 1 or k < 1:
        raise ValueError(f"nz is {nz.dtype} {nz.shape}, expected int8 {expected} of n={n}, k={k}")
    padded = np.empty((ROWS * n1, COLUMNS * k1), np.int8)
    fill_panel(frozen(np.ascontiguousarray(nz).view(np.uint64)), padded.view(np.uint64))
    return np.ascontiguousarray(padded[:n, :k])


def require_matrix(weight: NDArray[np.generic]) -> tuple[int, int]:
    """Return (n, k) of a non-empty int8 matrix.

    Raises:
        ValueError: the array is something else.
    """
    if weight.dtype != np.int8 or weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(
            f"weight is {weight.dtype} {list(weight.shape)}, expected int8 [n, k] with n, k >= 1"
        )
    return weight.shape[0], weight.shape[1]
