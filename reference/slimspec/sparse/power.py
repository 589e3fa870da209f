"""Non-uniform grid of the co-sparse quantizer: integers stand for a power of the weight.

    q = sign(w)·clip(round(|w|^a / s), 7),   s = amax^a / 7,   ŵ = sign(q)·(|q|·s)^(1/a)

The exponent a minimises the mean squared error by a bounded Brent search on [0.1, 0.9].

Source: facts/math.md 7.1 (nonuniform); the recorded co-sparse cases show search and bounds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, round_half_even
from slimspec.numeric.power import power
from slimspec.numeric.reduction import cascade_mean
from slimspec.sparse.outliers import fraction_mask
from slimspec.sparse.split import NORMAL_BOUND, SparseWeight, quantize_split

Float32 = NDArray[np.float32]
EXPONENTS = (0.1, 0.9)
TOLERANCE = 1e-5
Point = tuple[float, float]
GOLDEN = 0.5 * (3.0 - 5.0**0.5)
ROOT_EPS = float(np.sqrt(np.finfo(np.float64).eps))


def quantize_power(w: NDArray, fraction: float = 0.01) -> SparseWeight:
    """Quantize |w|^a with the co-sparse split, one scale for the matrix.

    Args: w [n, k] float32, float16 or bfloat16; arithmetic is float32.
    Returns: q int8 in [-127, 127]; scale float32 [1], of |w|^a; ŵ raised back to 1/a.
    Raises: ValueError for NaN, infinity, or a fraction that asks for no weight.
    Source: math.md 7.1, 7.2.
    """
    rows = as_float32(w)
    outlier, threshold = fraction_mask(rows, fraction, per_row=False)
    exponent = best_exponent(rows, threshold)
    raised = _raise(rows, exponent)
    split = quantize_split(raised, outlier, power(threshold, exponent))
    return SparseWeight(split.q, split.scale, _raise(split.approximate, 1 / exponent))


def best_exponent(w: Float32, amax: Float32) -> float:
    """Return the exponent of least mean squared error on the grid of the bulk.

    Args: w float32 [n, k]; amax float32 [1], the bound of the bulk.
    """

    def error(exponent: float) -> float:
        scale = power(amax, exponent) / np.float32(NORMAL_BOUND)
        steps = round_half_even(_raise(w, exponent) / scale)
        bound = np.float32(NORMAL_BOUND)
        lost = w - _raise(np.clip(steps, -bound, bound) * scale, 1 / exponent)
        return float(cascade_mean((lost * lost).reshape(-1)))

    with np.errstate(divide="ignore", invalid="ignore"):
        return minimize_bounded(error, *EXPONENTS)


def _raise(x: Float32, exponent: float) -> Float32:
    return np.sign(x) * power(np.abs(x), exponent)


def minimize_bounded(
    f: Callable[[float], float], low: float, high: float, tolerance: float = TOLERANCE
) -> float:
    """Return where f is smallest on [low, high]: Brent's search without derivatives.

    Keeps the best point x, the second best w and the one before it v; steps to the minimum of their
    parabola where that lies inside and halves the step before last, else by the golden section.

    Args: f any function; low < high; tolerance of the place. Returns: the best point seen.
    Source: Brent, Algorithms for Minimization without Derivatives (1973), chapter 5.
    """
    x = w = v = low + GOLDEN * (high - low)
    fx = fw = fv = f(x)
    step = before = 0.0
    while True:
        middle, least = 0.5 * (low + high), ROOT_EPS * abs(x) + tolerance / 3
        if abs(x - middle) <= 2 * least - 0.5 * (high - low):
            return x
        parabola = _parabola_step((x, fx), (w, fw), (v, fv)) if abs(before) > least else None
        if parabola is not None and _acceptable(parabola, before, x, low, high):
            before, step = step, parabola[0] / parabola[1]
            if min(x + step - low, high - x - step) < 2 * least:
                step = least if middle >= x else -least
        else:
            before = low - x if x >= middle else high - x
            step = GOLDEN * before
        u = x + (max(step, least) if step >= 0 else min(step, -least))
        fu = f(u)
        if fu <= fx:
            low, high = (x, high) if u >= x else (low, x)
            v, fv, w, fw, x, fx = w, fw, x, fx, u, fu
            continue
        low, high = (u, high) if u < x else (low, u)
        if fu <= fw or w == x:
            v, fv, w, fw = w, fw, u, fu
        elif fu <= fv or v in (x, w):
            v, fv = u, fu


def _parabola_step(best: Point, second: Point, third: Point) -> Point:
    """Return (p, q), q >= 0: p / q leads from the best point to the parabola's minimum."""
    r = (best[0] - second[0]) * (best[1] - third[1])
    q = (best[0] - third[0]) * (best[1] - second[1])
    p = (best[0] - third[0]) * q - (best[0] - second[0]) * r
    q = 2 * (q - r)
    return (-p, q) if q > 0 else (p, -q)


def _acceptable(
    step: tuple[float, float], before: float, x: float, low: float, high: float
) -> bool:
    p, q = step
    return abs(p) < abs(0.5 * q * before) and q * (low - x) < p < q * (high - x)
