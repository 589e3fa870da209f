"""Two fast exponentials of torch's vector classes, as float32 operations.

    exp_u20(x)   2^n · p(r),  n = floor(x·log2 e + 1/2),  r = x − n·ln 2,  p of degree 5
    exp_fast(x)  bits of round(2^23·(y − q(y − floor y)) + 2^23·127),  y = x·log2 e,  q of degree 3

The second is off by up to 1e-4 and serves where the result is rounded to 16 bits anyway. Both give
0 below ln of the least normal number, and expect x <= 0.

Source: pytorch aten/src/ATen/cpu/vec/vec256/vec256_float.h and vec512/vec512_float.h (exp_u20,
fexp_u20), coefficients; Malossi et al., Fast Exponential Computation on SIMD Architectures, 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.power import fused

Array = NDArray[np.float32]
F32 = np.float32

LOG2_E, LN_2 = F32(1.44269504), F32(0.693147182)
LEAST = F32(-87.3365402)  # ln of the least normal float32
U20 = tuple(map(F32, (0.00828929059, 0.0418978221, 0.166676521, 0.499991506, 0.999999701, 1.0)))
FAST = tuple(
    map(
        F32,
        (-0.079204240219773236, -0.22433836478672356, 0.30354260500649682, 0.00010703434948458272),
    )
)


def exp_u20(x: Array) -> Array:
    """e^x within 20 units in the last place. Args: x (...) float32 <= 0. Returns: same shape."""
    bounded = np.maximum(x, LEAST)
    n = np.floor(fused(bounded, _like(LOG2_E, x), _like(F32(0.5), x)))
    r = fused(-n, _like(LN_2, x), bounded)
    scale = np.ldexp(F32(1), n.astype(np.int32) - 1).astype(F32)
    return np.where(x < LEAST, F32(0), _horner(U20, r) * scale * F32(2))


def exp_fast(x: Array) -> Array:
    """e^x within about 1e-4 of its size. Args: x (...) float32 <= 0. Returns: same shape."""
    y = np.maximum(x, LEAST) * LOG2_E
    y = y - _horner(FAST, y - np.floor(y))
    bits = fused(_like(F32(2**23), x), y, _like(F32(2**23 * 127), x))
    return np.where(x < LEAST, F32(0), np.rint(bits).astype(np.int32).view(F32))


def _horner(coefficients: tuple[np.float32, ...], r: Array) -> Array:
    """Highest degree first, one fused multiply-add per degree."""
    value = _like(coefficients[0], r)
    for c in coefficients[1:]:
        value = fused(r, value, _like(c, r))
    return value


def _like(c: np.float32, x: Array) -> Array:
    return np.broadcast_to(c, x.shape)
