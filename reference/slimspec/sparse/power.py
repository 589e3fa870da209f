"""Non-uniform grid of the co-sparse quantizer: integers stand for a power of the weight.

    q = sign(w)·clip(round(|w|^a / s), 7),   s = amax^a / 7,   ŵ = sign(q)·(|q|·s)^(1/a)

The exponent a minimises the squared error of the bulk by Powell's search on [0.1, 0.9] from 0.7.

Source: facts/math.md 7.1 (nonuniform); torch operations of the producer's runs (the search).
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32
from slimspec.numeric.power import power
from slimspec.numeric.reduction import square_sum_root
from slimspec.sparse.minimize import minimize_powell
from slimspec.sparse.outliers import fraction_mask
from slimspec.sparse.split import NORMAL_BOUND, SparseWeight, quantize_split

Float32 = NDArray[np.float32]
START, EXPONENTS = 0.7, (0.1, 0.9)
SMALLEST = 2.0**-24  # a largest power up to this counts as 0


def quantize_power(w: NDArray, fraction: float = 0.01) -> SparseWeight:
    """Quantize |w|^a with the co-sparse split, one scale for the matrix.

    Args: w [n, k] float32, float16 or bfloat16; arithmetic is float32.
    Returns: q int8 in [-127, 127]; scale float32 [1], of |w|^a; ŵ raised back to 1/a.
    Raises: ValueError for NaN, infinity, or a fraction that asks for no weight.
    Source: math.md 7.1, 7.2.
    """
    rows = as_float32(w)
    outlier, threshold = fraction_mask(rows, fraction, per_row=False)
    exponent = np.float32(best_exponent(np.where(outlier, np.float32(0), rows)))
    raised = _raise(rows, exponent)
    split = quantize_split(raised, outlier, power(threshold, float(exponent)))
    return SparseWeight(split.q, split.scale, _raise(split.approximate, np.float32(1) / exponent))


def best_exponent(bulk: Float32) -> float:
    """Return the exponent of least squared error on its grid.

    Powers and integers are float64, ŵ and the error float32.
    Args: bulk float32 [n, k], outliers as 0.
    """
    size, sign = np.abs(bulk).astype(np.float64), np.sign(bulk)

    def error(exponent: float) -> float:
        raised = size**exponent
        top = raised.max()
        steps = NORMAL_BOUND / top if top > SMALLEST else 0.0
        q = np.minimum(np.rint(raised * steps), NORMAL_BOUND)
        back = (sign * (q / (steps or 1.0)) ** (1 / exponent)).astype(np.float32)
        norm = square_sum_root((bulk - back).reshape(-1))
        return float(norm * norm)

    return minimize_powell(error, START, *EXPONENTS)


def _raise(x: Float32, exponent: np.float32) -> Float32:
    return np.sign(x) * power(np.abs(x), float(exponent))
