"""Integer matmul with packed int4 weights: unpack, then the int8 form.

Two nibbles per byte, the even element in the low one, along `axis` of the weight: 1 (k) or 0 (n).

Source: integer_semantics.md B.7; math.md 6.3.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.pack import unpack_int4

from .check import require
from .integer import matmul_int8


def matmul_int8_int4(
    x: NDArray[np.int8], w_packed: NDArray[np.int8], axis: int = 1
) -> NDArray[np.int32]:
    """y[i, j] = Σ_k x[i, k]·w[j, k] with w int4, packed in pairs along `axis`.

    Args:
        x: (m, k) int8 (or int4 values in int8).
        w_packed: (n, k/2) int8 for axis 1, (n/2, k) for axis 0.
        axis: the packed axis of w.

    Returns:
        (m, n) int32.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    require("w_packed", w_packed, (np.int8,), "(n, k/2) or (n/2, k)", 2)
    return matmul_int8(x, unpack_int4(w_packed, axis=axis))
