"""W8A8S from "co_sparse": one threshold for the whole matrix splits bulk and outliers.

Source: facts/math.md 7.2.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32
from slimspec.sparse.outliers import fraction_mask
from slimspec.sparse.split import SparseWeight, quantize_split


def quantize_cosparse(
    w: NDArray, fraction: float = 0.01, *, per_channel: bool = False
) -> SparseWeight:
    """Quantize with the outliers above the c-th largest |w| of the matrix, c = int(fraction·n·k).

    amax = that threshold itself; with `per_channel` the largest |w| of the row below it. The
    integers are stored as they are.

    Args: w [n, k] float32, float16 or bfloat16; arithmetic is float32.
    Returns: q int8 in [-127, 127]; scale float32 [1] or [n, 1].
    Raises: ValueError for NaN, infinity, or a fraction that asks for no weight.
    Source: math.md 7.2.
    """
    rows = as_float32(w)
    outlier, threshold = fraction_mask(rows, fraction, per_row=False)
    bulk = np.where(outlier, np.float32(0), np.abs(rows))
    amax = bulk.max(axis=1, keepdims=True) if per_channel else threshold
    return quantize_split(rows, outlier, amax)
