"""Exact integer matmul: y[i, j] = Σ_k x[i, k]·w[j, k], int8 in, int32 out.

The definition is the sum over the integers, narrowed to int32 modulo 2^32. A product is at most
128·128 = 2^14, so nothing can overflow while k <= 131071 (131071·2^14 < 2^31).

The fast form. Float32 represents every integer up to 2^24, so a float32 sum of integer products is
exact, in any order and with or without fused multiply-add, while no partial sum can exceed 2^24.
Two certificates give that for a block of columns:

* length: block <= 1024, since 1024·2^14 = 2^24;
* norms: by Cauchy and Schwarz every partial sum is at most ‖x_i‖·‖w_j‖ over the block, so
  max_i ‖x_i‖² · max_j ‖w_j‖² <= 2^48 is enough. The squares are summed in integers.

Blocks are made as long as the norms certify and are added in int32.

For few rows, where everything waits for memory, a plain loop over int8 is faster and is exact by
itself. For many rows an x86 CPU with AVX2 has an integer instruction that beats float32 (`madd`);
the float32 form is the portable one. All of them give the same bits.

Source: integer_semantics.md B.0; performance.md "What the measurements teach" 1.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .check import require, require_equal

CHUNK = 1024  # columns for which the length alone certifies float32
EXACT = 1 << 48  # (2^24)²: bound on the product of squared norms
FEW_ROWS = 28  # below this many rows the loop over int8 is the fastest
TILE = 512  # rows of w that are converted to float32 at a time
MIN_WORK = 1 << 22  # multiply-adds that are worth a second thread, or compiled tiles


def matmul_int8_plain(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """The definition: int64 sums, narrowed modulo 2^32.

    Args:
        x: (m, k) int8.
        w: (n, k) int8.

    Returns:
        (m, n) int32.
    """
    return (x.astype(np.int64) @ w.astype(np.int64).T).astype(np.int32)


def matmul_int8(
    x: NDArray[np.int8], w: NDArray[np.int8], threads: int | None = None
) -> NDArray[np.int32]:
    """y[i, j] = Σ_k x[i, k]·w[j, k] modulo 2^32, the same bits as `matmul_int8_plain`.

    Args:
        x: (m, k) int8, any strides, any size including 0.
        w: (n, k) int8.
        threads: threads of our own kernels, default one per CPU; BLAS has its own setting.

    Returns:
        (m, n) int32.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.

    Source: integer_semantics.md B.0.
    """
    require("x", x, (np.int8,), "(m, k)", 2)
    require("w", w, (np.int8,), "(n, k)", 2)
    require_equal("k of x and w", x.shape[1], w.shape[1])
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    out = np.zeros((x.shape[0], w.shape[0]), np.int32)
    if out.size == 0 or x.shape[1] == 0:
        return out
    threads = threads or os.cpu_count() or 1
    if x.shape[0] < FEW_ROWS:
        _by_loop(x, w, out, threads)
    elif x.size * w.shape[0] < MIN_WORK or not _by_madd(x, w, out, threads):
        _by_float32(x, w, out)
    return out


def _deal(n: int, work: int, threads: int, part: Callable[[slice], None]) -> None:
    """Run `part` over ranges of the n columns of the output, one per thread if it is worth it."""
    parts = max(1, min(threads, n, work // MIN_WORK))
    if parts == 1:
        part(slice(0, n))
        return
    spans = [slice(*pair) for pair in pairwise(n * p // parts for p in range(parts + 1))]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(part, spans))


def _by_loop(x: NDArray, w: NDArray, out: NDArray, threads: int) -> None:
    """Fill `out` with the jitted loop."""
    from .kernels import COMPILED, dot_rows

    if COMPILED:
        _deal(len(w), x.size * len(w), threads, lambda s: dot_rows(x, w[s], out[:, s]))
    else:
        out[...] = matmul_int8_plain(x, w)


def _by_madd(x: NDArray, w: NDArray, out: NDArray, threads: int) -> bool:
    """Fill `out` with register tiles of multiply-add-pairs; False where the CPU has none."""
    from . import madd

    if not madd.available():
        return False
    words = madd.row_words(x)
    _deal(len(w), x.size * len(w), threads, lambda s: madd.columns(words, w, out, s))
    return True


def _by_float32(x: NDArray, w: NDArray, out: NDArray) -> None:
    """Add to `out` by float32 BLAS over certified blocks of columns, TILE rows of w at a time."""
    blocks = exact_blocks(x, w)
    xf = x.astype(np.float32)
    buffer = np.empty((min(TILE, w.shape[0]), w.shape[1]), np.float32)
    for lo in range(0, w.shape[0], TILE):
        wf = buffer[: min(TILE, w.shape[0] - lo)]  # (rows, k)
        wf[...] = w[lo : lo + TILE]
        for block in blocks:
            out[:, lo : lo + TILE] += (xf[:, block] @ wf[:, block].T).astype(np.int32)


def exact_blocks(x: NDArray[np.int8], w: NDArray[np.int8]) -> list[slice]:
    """Consecutive column ranges over which a float32 sum of products is certainly exact.

    Args:
        x: (m, k) int8, m > 0.
        w: (n, k) int8, n > 0.

    Returns:
        Slices that cover range(k).
    """
    k = x.shape[1]
    if k <= CHUNK:
        return [slice(0, k)]
    sx, sw = _squares(x), _squares(w)  # (m, c), (n, c) int64
    blocks, start, bx, bw = [], 0, sx[:, 0], sw[:, 0]
    for c in range(1, sx.shape[1]):
        tx, tw = bx + sx[:, c], bw + sw[:, c]
        if int(tx.max()) * int(tw.max()) <= EXACT:
            bx, bw = tx, tw
        else:
            blocks.append(slice(start, c * CHUNK))
            start, bx, bw = c * CHUNK, sx[:, c], sw[:, c]
    return [*blocks, slice(start, k)]


def _squares(x: NDArray) -> NDArray[np.int64]:
    from .kernels import COMPILED, chunk_squares

    if not COMPILED:
        starts = range(0, x.shape[1], CHUNK)
        return np.add.reduceat(x.astype(np.int64) ** 2, list(starts), axis=1)
    out = np.empty((x.shape[0], -(-x.shape[1] // CHUNK)), np.int64)  # (m, ceil(k / CHUNK))
    chunk_squares(x, CHUNK, out)
    return out
