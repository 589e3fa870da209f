"""FlatQuant (W4A4_FLATQUANT): the quantizers around its transforms (`schemes.flatquant`).

    q = clip(round_half_even(x / scale) + zero);   x̂ = scale·(q - zero)

The sum comes after the rounding, unlike everywhere else in the tool; symmetric codes use all of
[-2^(bits-1), 2^(bits-1) - 1] (math.md 11.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, model_dtype, mul, round_half_even, sub, to_dtype
from slimspec.quantize.affine import code_range

SMALLEST = np.float32(1e-5)  # of a weight row's range
CLIP_START = 4.0  # clip factors are sigmoid(4) = 0.982 before training


def sigmoid(x: float) -> np.float32:
    """Return 1 / (1 + e^-x) as float32: the share of a range that a learned clip factor keeps."""
    return np.float32(1.0 / (1.0 + np.exp(-np.float64(x))))


def weight_params(
    w: NDArray, *, bits: int = 4, symmetric: bool = True, signed: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and zero of each row, in float32 whatever the dtype of w.

    lo = min(w, 0), hi = max(w, 0) per row
    symmetric:  scale = max(|lo|, hi, 1e-5) / (2^(bits-1) - 1), zero = 0
    asymmetric: scale = max(hi - lo, 1e-5) / (2^bits - 1),
                zero = round_half_even(-lo / scale) [ - 2^(bits-1) if signed ]
    Args: w [n, k] float32/float16/bfloat16. Returns: float32 [n, 1] each.
    Source: math.md 11.2; msmodelslim pytorch/llm_ptq/llm_ptq_tools/flat_quant/components/
    quantizer.py:244-277.
    """
    f32 = np.float32
    wide = as_float32(w)
    lo = np.minimum(wide.min(axis=1, keepdims=True), f32(0))
    hi = np.maximum(wide.max(axis=1, keepdims=True), f32(0))
    if symmetric:
        scale = div(np.maximum(np.maximum(-lo, hi), SMALLEST), code_range(bits)[1], f32)
        return scale, np.zeros_like(scale)
    scale = div(np.maximum(hi - lo, SMALLEST), 2**bits - 1, f32)
    return scale, _zero(lo, scale, bits, signed)


def token_params(
    x: NDArray,
    *,
    bits: int = 4,
    symmetric: bool = True,
    signed: bool = True,
    clip_ratio: float | None = None,
) -> tuple[NDArray, NDArray]:
    """Return scale and zero of each token, in the dtype of x; no smallest scale.

    As `weight_params` without the 1e-5, on a range first multiplied by clip_ratio. A token of zeros
    has scale 0, and its quantized values are NaN. Args: x [..., k]. Returns: [..., 1], dtype of x.
    Source: math.md 11.2; quantizer.py:146-190.
    """
    dtype = model_dtype(x.dtype)
    wide = as_float32(x)
    lo = np.minimum(wide.min(axis=-1, keepdims=True), np.float32(0))
    hi = np.maximum(wide.max(axis=-1, keepdims=True), np.float32(0))
    if clip_ratio is not None:
        lo, hi = (as_float32(mul(end, clip_ratio, dtype)) for end in (lo, hi))
    if symmetric:
        scale = div(np.maximum(-lo, hi), code_range(bits)[1], dtype)
        return scale, np.zeros_like(scale)
    scale = div(sub(hi, lo, dtype), 2**bits - 1, dtype)
    return scale, _zero(lo, scale, bits, signed)


def _zero(lo: NDArray, scale: NDArray, bits: int, signed: bool) -> NDArray:
    zero = round_half_even(div(-lo, scale, scale.dtype))
    return sub(zero, 2 ** (bits - 1), scale.dtype) if signed else zero


def flat_codes(
    x: NDArray, scale: NDArray, zero: NDArray, *, bits: int = 4, signed: bool = True
) -> NDArray:
    """Return clip(round_half_even(x / scale) + zero) in the dtype of x.

    The range is [-2^(bits-1), 2^(bits-1) - 1], or [0, 2^bits - 1] if not signed.
    Args: x, scale, zero broadcast, one dtype. Returns: integers as floats; 0 / 0 stays NaN.
    Source: math.md 11.2; quantizer.py:67-80.
    """
    dtype = model_dtype(x.dtype)
    low, high = code_range(bits, signed=signed)
    moved = as_float32(add(round_half_even(div(x, scale, dtype)), zero, dtype))
    return to_dtype(np.clip(moved, np.float32(low), np.float32(high)), dtype)


def flat_values(q: NDArray, scale: NDArray, zero: NDArray) -> NDArray:
    """Return scale·(q - zero) in the dtype of q. Source: math.md 11.2; quantizer.py:82-84."""
    return mul(scale, sub(q, zero, q.dtype), q.dtype)
