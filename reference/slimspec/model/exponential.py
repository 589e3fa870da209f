"""Three exponentials of torch's vector classes, as float32 operations.

    exp_sleef    2^q · (1 + s + s²·p(s)),  q = rint(x·log2 e),  s = x − q·ln 2  within 1 unit
    exp_degree5  2^n · p(r),  n = floor(x·log2 e + 1/2),  r = x − n·ln 2        within 20 units
    exp_degree3  bits of round(2^23·(y − p(y − floor y)) + 2^23·127),  y = x·log2 e  within 1e-4

The first is every `exp` of a vector; the others serve fused attention, the last where its result is
rounded to 16 bits anyway, and expect x <= 0. Sums over a row run in as many lanes as a vector has.

Source: pytorch aten/src/ATen/cpu/vec/vec512/vec512_float.h (exp, exp_u20, fexp_u20) and
functional_base.h (reduce_all), native/cpu/Loops.h (vectorized_loop); SLEEF
src/libm/sleefsimdsp.c (expf at 1.0 ULP), coefficients; Malossi et al., Fast Exponential
Computation on SIMD Architectures, 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.swiglu import exp_float32
from slimspec.numeric import mul

Array = NDArray[np.float32]
F32 = np.dtype(np.float32)
LANES = 16  # of an AVX-512 vector of float32

_LOG2E = np.float32(1.44269504)
_LN2 = np.float32(0.693147182)
_LN2_PARTS = (np.float32(0.693145751953125), np.float32(1.428606765330187045e-06))
_SLEEF = tuple(
    map(
        np.float32,
        (0.000198527617612853646, 0.00139304355252534151, 0.00833336077630519867,
         0.0416664853692054749, 0.166666671633720398, 0.5),
    )
)  # fmt: skip
_DEGREE5 = tuple(
    map(np.float32, (0.00828929059, 0.0418978221, 0.166676521, 0.499991506, 0.999999701, 1.0))
)
_DEGREE3 = tuple(
    map(
        np.float32,
        (-0.079204240219773236, -0.22433836478672356, 0.30354260500649682, 0.00010703434948458272),
    )
)
_SMALLEST, _LARGEST = np.array([0xC2AEAC50, 0x42B17218], np.uint32).view(np.float32)
_UNDERFLOW, _OVERFLOW = np.float32(-104), np.float32(100)  # past them exp_sleef gives 0 and inf


def exp_vectors(x: Array, lanes: int) -> Array:
    """e^x of an elementwise step: `exp_sleef` in pairs of whole vectors, what is left exact.

    Args: x (...) float32; lanes of a vector. Returns: same shape.
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    whole = flat.size // (2 * lanes) * (2 * lanes)
    return np.concatenate([exp_sleef(flat[:whole]), exp_float32(flat[whole:])]).reshape(x.shape)


def exp_sleef(x: Array) -> Array:
    """e^x. Args: x (...) float32. Returns: same shape."""
    bounded = np.clip(x, _UNDERFLOW, _OVERFLOW)
    q = np.rint(mul(bounded, _LOG2E, F32))
    s = _fused(q, -_LN2_PARTS[0], bounded)
    s = _fused(q, -_LN2_PARTS[1], s)
    series = _fused(mul(s, s, F32), _horner(_SLEEF, s), s)
    half = q.astype(np.int32) >> 1
    with np.errstate(over="ignore"):
        up = np.ldexp(np.float32(1) + series, half)
        result = np.ldexp(up, q.astype(np.int32) - half)
    result = np.where(x > _OVERFLOW, np.float32(np.inf), result)
    return np.where(x < _UNDERFLOW, np.float32(0), result)


def exp_degree5(x: Array) -> Array:
    """e^x; 0 below ln of the smallest normal. Args: x (...) float32, at most 88."""
    y = np.clip(x, _SMALLEST, _LARGEST)
    n = np.floor(_fused(y, _LOG2E, np.float32(0.5)))
    value = _horner(_DEGREE5, _fused(n, -_LN2, y))
    power = np.ldexp(np.float32(1), n.astype(np.int32) - 1)
    result = mul(mul(value, power, F32), np.float32(2), F32)
    return np.where(x < _SMALLEST, np.float32(0), result)


def exp_degree3(x: Array) -> Array:
    """e^x; 0 below ln of the smallest normal. Args: x (...) float32, at most 88."""
    y = mul(np.clip(x, _SMALLEST, _LARGEST), _LOG2E, F32)
    value = _horner(_DEGREE3, y - np.floor(y))
    bits = _fused(y - value, np.float32(2**23), np.float32(127 * 2**23))
    result = np.rint(bits).astype(np.int32).view(np.float32)
    return np.where(x < _SMALLEST, np.float32(0), result)


def lane_sum(p: Array, *, tail_in_lanes: bool) -> Array:
    """Row sums: 16 lanes down the row, halves folded onto halves.

    Args:
        p: (t, s) float32.
        tail_in_lanes: what is left of a row goes to the first lanes before they are folded (a row
            shorter than a vector: one by one), as in torch's softmax; else one by one at the end,
            as in its fused attention.

    Returns:
        (t,) float32.
    """
    t, s = p.shape
    whole = s // LANES * LANES
    lanes = np.zeros((t, LANES), np.float32)
    for start in range(0, whole, LANES):
        lanes += p[:, start : start + LANES]
    tail = p[:, whole:]
    if whole and tail_in_lanes:
        lanes[:, : s - whole] += tail
        tail = tail[:, :0]
    width = LANES
    while width > 1:
        width //= 2
        lanes = lanes[:, :width] + lanes[:, width:]
    total = lanes[:, 0]
    for column in range(tail.shape[1]):
        total = total + tail[:, column]
    return total


def _horner(coefficients: tuple[np.float32, ...], x: Array) -> Array:
    """Highest degree first, one fused multiply-add per degree."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = _fused(value, x, coefficient)
    return value


def _fused(a: Array, b: Array | np.float32, c: Array | np.float32) -> Array:
    """fl32(a·b + c): the product is exact in float64, so at most one rounding is doubled."""
    return (a.astype(np.float64) * b + np.float64(c)).astype(np.float32)
