"""Attention as torch's fused CPU kernel computes it (`scaled_dot_product_attention`).

    S = q·kᵀ · scale;  P = e^(S − max S);  out = T((T(P)·v) · (1 / Σ P))

Unlike the eager form nothing is rounded to T between the products, and the weights are rounded
before they are divided by their sum. In whole vectors of 16 columns the exponential is a
polynomial: of degree 5 for float32, of degree 3 (about 13 bits) for 16-bit models. What is left of
a row takes the exact one.

Source: pytorch aten/src/ATen/native/cpu/FlashAttentionKernel.cpp (cpu_flash_attention),
aten/src/ATen/cpu/vec/vec512/vec512_float.h (exp_u20, fexp_u20); Malossi et al., Fast Exponential
Computation on SIMD Architectures. Keys come in blocks of 512 there; here in one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.swiglu import exp_float32
from slimspec.numeric import as_float32, mul, to_dtype

from .numerics import F32, Numerics
from .sums import blocked

Array = NDArray[np.float32]
LANES = 16
_LOG2E, _LN2 = np.array([0x3FB8AA3B, 0x3F317218], np.uint32).view(np.float32).astype(np.float64)
_SMALLEST, _LARGEST = np.array([0xC2AEAC50, 0x42B17218], np.uint32).view(np.float32)
_DEGREE5: Array = np.array(
    [0.00828929059, 0.0418978221, 0.166676521, 0.499991506, 0.999999701, 1], np.float32
)
_DEGREE3: Array = np.array(
    [-0.079204240219773236, -0.22433836478672356, 0.30354260500649682, 0.00010703434948458272],
    np.float32,
)


def attend_fused(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    scale: float,
    hidden: NDArray[np.bool_] | None,
    numerics: Numerics,
) -> NDArray:
    """Attention of every head in the fused kernel's steps; arguments and result as `attend`."""
    h, t, _ = q.shape
    out = np.empty((t, h, v.shape[2]), q.dtype)
    for i in range(h):
        g = i // (h // len(k))
        keys = np.ascontiguousarray(as_float32(k[g]).T)  # (d, s)
        scores = mul(blocked(as_float32(q[i]), keys), np.float32(scale), F32)
        if hidden is not None:
            scores = np.where(hidden, np.float32(-np.inf), scores)
        p = exponentials(scores - scores.max(axis=1, keepdims=True), numerics.dtype)
        inverse = np.float32(1) / lane_sum(p)[:, None]  # (t, 1)
        rounded = as_float32(to_dtype(p, numerics.dtype))
        out[:, i] = mul(blocked(rounded, as_float32(v[g])), inverse, numerics.dtype)
    return out.reshape(t, h * v.shape[2])


def exponentials(x: Array, dtype: np.dtype) -> Array:
    """e^x of each row: the polynomial in whole vectors, then the exact one. Args: x (t, s)."""
    whole = x.shape[1] // LANES * LANES
    fast = exp_degree5 if dtype == F32 else exp_degree3
    return np.concatenate([fast(x[:, :whole]), exp_float32(x[:, whole:])], axis=1)


def exp_degree3(x: Array) -> Array:
    """2^(y − p(y − floor y)), y = x·log2 e, by putting y − p into the exponent and mantissa bits.

    Args: x (...) float32, at most 88; values below ln of the smallest normal give 0.
    """
    y = mul(np.clip(x, _SMALLEST, _LARGEST), np.float32(_LOG2E), F32)
    fraction = y - np.floor(y)
    value = np.full_like(y, _DEGREE3[0])
    for coefficient in _DEGREE3[1:]:
        value = _fused(value, fraction.astype(np.float64), coefficient)
    bits = _fused(y - value, np.float64(2**23), np.float32(127 * 2**23))
    result = np.rint(bits).astype(np.int32).view(np.float32)
    return np.where(x < _SMALLEST, np.float32(0), result)


def exp_degree5(x: Array) -> Array:
    """2^n · p(x − n·ln 2), n = floor(x·log2 e + 1/2), each step a fused multiply-add in float32.

    Args: x (...) float32, at most 88; values below ln of the smallest normal give 0.
    """
    y = np.clip(x, _SMALLEST, _LARGEST)
    n = np.floor(_fused(y, _LOG2E, np.float32(0.5)))
    r = _fused(n, -_LN2, y)
    value = np.full_like(r, _DEGREE5[0])
    for coefficient in _DEGREE5[1:]:
        value = _fused(value, r.astype(np.float64), coefficient)
    power = np.ldexp(np.float32(1), n.astype(np.int32) - 1)
    result = mul(mul(value, power, F32), np.float32(2), F32)
    return np.where(x < _SMALLEST, np.float32(0), result)


def lane_sum(p: Array) -> Array:
    """Row sums: 16 lanes down the row, halves folded onto halves, then the rest one by one."""
    whole = p.shape[1] // LANES * LANES
    sums = np.zeros((len(p), LANES), np.float32)
    for start in range(0, whole, LANES):
        sums += p[:, start : start + LANES]
    lanes = LANES
    while lanes > 1:
        lanes //= 2
        sums = sums[:, :lanes] + sums[:, lanes:]
    total = sums[:, 0]
    for column in range(whole, p.shape[1]):
        total = total + p[:, column]
    return total


def _fused(a: Array, b: NDArray | np.float64, c: NDArray | np.float32) -> Array:
    """fl32(a·b + c): the product is exact in float64, so at most one rounding is doubled."""
    return (a.astype(np.float64) * b + np.float64(c)).astype(np.float32)
