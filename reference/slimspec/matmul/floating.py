"""Float matmul with one fixed order of summation, so that its bits do not depend on the machine.

    y[i, j] = fl32( Σ_k x[i, k]·w[j, k] ),  k in increasing order in float64

A product of two float32 (or narrower) values is exact in float64, so every step of the sum rounds
once and fused multiply-add changes nothing. The order in which an NPU adds in float32 is not
public; this sum is within k·2^-53 of the exact one relative to Σ|x·w|, so a kernel's distance to
it is the kernel's own error.

Source: integer_semantics.md B.6 (float32 accumulate); math.md 17.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32

from .check import require_equal


def matmul_float(x: NDArray, w: NDArray) -> NDArray[np.float32]:
    """y = fl32(Σ_k x[i, k]·w[j, k]), summed in float64 in increasing k.

    Args:
        x: (m, k) float16, bfloat16 or float32.
        w: (n, k) likewise.

    Returns:
        (m, n) float32.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    from .kernels import COMPILED, float_rows

    require_equal("k of x and w", x.shape[1], w.shape[1])
    wide = as_float32(x).astype(np.float64)  # (m, k)
    wt = np.ascontiguousarray(as_float32(w).T.astype(np.float64))  # (k, n)
    out = np.zeros((x.shape[0], w.shape[0]), np.float64)
    with np.errstate(all="ignore"):
        if COMPILED:
            float_rows(np.ascontiguousarray(wide), wt, out)
        else:
            for p in range(wt.shape[0]):
                out += wide[:, p, None] * wt[p]
        return out.astype(np.float32)
