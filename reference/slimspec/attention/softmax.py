"""The pieces of softmax in float32, each with one fixed order: exponentials and row sums.

    P = fl32(exp(S − max S)),  l = fl32(Σ P),  softmax = P/l

A row that is masked everywhere (all −inf) has P = 0 and l = 0, and gives zeros.

Source: integer_semantics.md B.10.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.floating import matmul_float
from slimspec.matmul.swiglu import exp_float32
from slimspec.numeric import div, sub

F32 = np.float32


def row_max(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest score of each row, −inf for an empty row. Args: (t, s). Returns: (t, 1)."""
    return scores.max(axis=1, keepdims=True, initial=-np.inf).astype(F32)


def exponentials(scores: NDArray[np.float32], peak: NDArray[np.float32]) -> NDArray[np.float32]:
    """fl32(exp(S − peak)), 0 where S is −inf. Args: (t, s), (t, 1) float32. Returns: (t, s)."""
    masked = np.isneginf(scores)
    return exp_float32(np.where(masked, F32(-np.inf), sub(scores, peak, F32)))


def row_sum(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Σ over the row in increasing order. Args: p (t, s) float32. Returns: (t, 1) float32."""
    return matmul_float(p, np.ones((1, p.shape[1]), F32))


def normalized(o: NDArray[np.float32], denominator: NDArray[np.float32]) -> NDArray[np.float32]:
    """o/l, and 0 for rows with l = 0. Args: o (t, d), l (t, 1) float32. Returns: (t, d)."""
    return np.where(denominator == 0, F32(0), div(o, denominator, F32))
