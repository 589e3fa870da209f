"""The accumulator: the true integer sum, what an int32 register keeps of it, and a flag.

Whether the hardware wraps or saturates past int32 is not public; the default is to wrap, as NumPy
goldens do, and to say so: `overflow` is true exactly where the int32 value is not the true one.

Source: integer_semantics.md B.0, B.12.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .check import require, require_equal
from .integer import matmul_int8

SAFE_K = 131071  # largest k whose sum of k products of at most 2^14 stays below 2^31
Overflow = Literal["wrap", "saturate"]


class Accumulation(NamedTuple):
    """int32 accumulators (m, n) and where they are not the true sum (m, n) bool."""

    value: NDArray[np.int32]
    overflow: NDArray[np.bool_]


def matmul_exact(x: NDArray[np.int8], w: NDArray[np.int8]) -> NDArray[np.int64]:
    """The true sum Σ_k x[i, k]·w[j, k].

    Args:
        x: (m, k) int8.
        w: (n, k) int8.

    Returns:
        (m, n) int64; exact for every k that fits in memory.
    """
    total = np.zeros((x.shape[0], w.shape[0]), np.int64)
    for lo in range(0, max(x.shape[1], 1), SAFE_K):
        total += matmul_int8(x[:, lo : lo + SAFE_K], w[:, lo : lo + SAFE_K])
    return total


def accumulate(
    x: NDArray[np.int8],
    w: NDArray[np.int8],
    bias: NDArray[np.int32] | None = None,
    overflow: Overflow = "wrap",
) -> Accumulation:
    """acc = int32(Σ_k x[i, k]·w[j, k] + bias[j]) with a flag where int32 could not hold it.

    Args:
        x: (m, k) int8.
        w: (n, k) int8.
        bias: (n,) int32 or None; added to the accumulator, so it takes part in the overflow.
        overflow: "wrap" (modulo 2^32) or "saturate".

    Returns:
        Accumulation(value (m, n) int32, overflow (m, n) bool).

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    truth = matmul_exact(x, w)
    if bias is not None:
        require("bias", bias, (np.int32,), "(n,)", 1)
        require_equal("n of w and bias", w.shape[0], bias.shape[0])
        truth += bias
    return narrow(truth, overflow)


def narrow(truth: NDArray[np.int64], overflow: Overflow = "wrap") -> Accumulation:
    """int64 (...) -> int32 (...) by the named rule, with the flag."""
    info = np.iinfo(np.int32)
    lost = (truth < info.min) | (truth > info.max)
    if overflow == "saturate":
        return Accumulation(np.clip(truth, info.min, info.max).astype(np.int32), lost)
    if overflow != "wrap":
        raise ValueError(f'overflow: expected "wrap" or "saturate", found {overflow!r}')
    return Accumulation(truth.astype(np.int32), lost)
