"""Many integer matmuls at once: a batch of equal shapes, or experts over ragged runs of tokens.

    batched  y[b] = x[b]·w[b]^T
    grouped  y[t] = x[t]·w[e(t)]^T, where expert e takes the next group_sizes[e] rows of x

Source: integer_semantics.md B.3 (grouped matmul); group list types as npu_grouped_matmul has them.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .check import require, require_equal
from .integer import matmul_int8


def matmul_int8_batched(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int32]:
    """y[b, i, j] = Σ_k x[b, i, k]·w[b, j, k] modulo 2^32.

    Args:
        x: (b, m, k) int8.
        w: (b, n, k) int8.

    Returns:
        (b, m, n) int32.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    require("x", x, (np.int8,), "(b, m, k)", 3)
    require("w", w, (np.int8,), "(b, n, k)", 3)
    require_equal("b of x and w", x.shape[0], w.shape[0])
    out = np.zeros((x.shape[0], x.shape[1], w.shape[1]), np.int32)
    for b in range(x.shape[0]):
        out[b] = matmul_int8(x[b], w[b])
    return out


def group_edges(
    group_list: ArrayLike, experts: int, tokens: int, kind: Literal["count", "cumsum"] = "count"
) -> list[int]:
    """Row where each expert starts, and the end: 0 = edge[0] <= ... <= edge[e] = t.

    Args:
        group_list: (e,) rows per expert ("count") or their running sum ("cumsum").
        experts: e.
        tokens: t.
        kind: which of the two.

    Returns:
        e + 1 integers.

    Raises:
        ValueError: a wrong length, a negative size, or sizes that do not add up to t.
    """
    sizes = np.asarray(group_list)
    if sizes.shape != (experts,) or (experts and sizes.dtype.kind not in "iu"):
        raise ValueError(f"group_list: expected ({experts},) integers, found {sizes!r}")
    wide = sizes.astype(np.int64)
    edges = np.concatenate(([0], np.cumsum(wide) if kind == "count" else wide))  # (e + 1,)
    if (np.diff(edges) < 0).any() or edges[-1] != tokens:
        raise ValueError(f"group_list: {sizes.tolist()} does not divide {tokens} rows")
    return [int(e) for e in edges]


def grouped_matmul_int8(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    group_list: ArrayLike,
    kind: Literal["count", "cumsum"] = "count",
) -> NDArray[np.int32]:
    """y[t, j] = Σ_k x[t, k]·w[e(t), j, k] modulo 2^32.

    Args:
        x: (t, k) int8, rows sorted by expert.
        w: (e, n, k) int8.
        group_list: (e,) rows per expert, 0 allowed, or their running sum.
        kind: "count" or "cumsum".

    Returns:
        (t, n) int32.

    Raises:
        TypeError, ValueError: dtype or shape is not the above, or the groups do not fit t.
    """
    require("x", x, (np.int8,), "(t, k)", 2)
    require("w", w, (np.int8,), "(e, n, k)", 3)
    edges = group_edges(group_list, w.shape[0], x.shape[0], kind)
    out = np.zeros((x.shape[0], w.shape[1]), np.int32)
    for e, (lo, hi) in enumerate(pairwise(edges)):
        out[lo:hi] = matmul_int8(x[lo:hi], w[e])
    return out


def per_row(values: NDArray, edges: list[int]) -> NDArray:
    """Repeat a value per expert (e, ...) for each of its rows: (t, ...)."""
    return np.repeat(values, np.diff(edges), axis=0)
