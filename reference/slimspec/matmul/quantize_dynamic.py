"""Quantize activations per token, with a scale made from the row itself.

    a = max_j |x_ij|,  scale ≈ a / 127,  q ≈ x / scale          (7 for int4)

| variant | codes | stored scale |
|---|---|---|
| golden (canonical) | rint(x / (a·c)), c = fp32(1/127) | a·c |
| k910b | rint(x·s), s = fp32(127/a) | 1/s |
| k310p, fp16 x | half_away(fp16(x·s)), s = fp16(127/a) | a·c |
| k310p, bf16 or float32 x | half_away(fp16(fp32(x·s))), s = fp32(127/a) | a·c |

A row of zeros gets codes 0 and scale 0 in every variant.

Source: integer_semantics.md B.5; math.md 13.2.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import (
    as_float32,
    div,
    mul,
    round_half_away,
    round_half_even,
    saturate,
    to_dtype,
)
from slimspec.numeric.jit import jit_pays

from .profiles import Numerics, profile

Variant = Literal["golden", "k910b", "k310p"]
F32 = np.float32


class DynamicQuant(NamedTuple):
    """Codes int8, shape of x, and one float32 scale per row, shape of x without its last axis."""

    q: NDArray[np.int8]
    scale: NDArray[np.float32]


def quantize_dynamic(
    x: NDArray,
    smooth: NDArray | None = None,
    bits: int = 8,
    variant: Variant | None = None,
    numerics: str | Numerics = "canonical",
) -> DynamicQuant:
    """q = rint(x/scale), scale = max|x|·fp32(1/127) per row; variants as in the module's table.

    Args:
        x: (..., k) float16, bfloat16 or float32.
        smooth: (k,) float scales multiplied into x first (float32), or None.
        bits: 8 or 4.
        variant: None takes the one of the profile.
        numerics: profile name.

    Returns:
        DynamicQuant(q (..., k) int8, scale (...) float32).

    Raises:
        TypeError, ValueError: dtype, bits or variant is not the above.
    """
    variant = variant or profile(numerics).dynamic_quant
    if variant not in VARIANTS:
        raise ValueError(f"variant: expected one of {', '.join(VARIANTS)}, found {variant!r}")
    top = code_limit(bits)
    if smooth is not None:
        x = mul(x, smooth, F32)
    peak = np.max(np.abs(as_float32(x)), axis=-1, keepdims=True, initial=0.0)  # (..., 1) float32
    zero = peak == 0
    if variant == "golden" and jit_pays(x.size):
        q, scale = _golden_codes(x, peak, F32(top))
    else:
        form, rounding = VARIANTS[variant]
        ratio, scale = form(x, peak, F32(top))
        codes = np.where(zero, F32(0), as_float32(rounding(ratio)))
        q = saturate(codes, -top - 1, top, np.int8, nan=0)
    return DynamicQuant(q, np.where(zero, F32(0), scale)[..., 0])


def _golden_codes(
    x: NDArray, peak: NDArray[np.float32], top: np.float32
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The codes of `golden_ratio`, compiled: a row of zeros is 0/0, which gives 0."""
    from .kernels import quotient_codes

    scale = mul(peak, div(1.0, top, F32), F32)  # (..., 1)
    rows = np.ascontiguousarray(as_float32(x)).reshape(-1, x.shape[-1])
    q = np.empty(rows.shape, np.int8)
    quotient_codes(rows, scale.reshape(-1), top, q)
    return q.reshape(x.shape), scale


def code_limit(bits: int) -> int:
    """Largest code of a signed type: 127 or 7. Raises: ValueError for other widths."""
    if bits not in (4, 8):
        raise ValueError(f"bits: expected 4 or 8, found {bits!r}")
    return (1 << (bits - 1)) - 1


def golden_ratio(x: NDArray, peak: NDArray, top: np.float32) -> tuple[NDArray, NDArray]:
    """x/scale and scale = peak·fp32(1/top). Args: x (..., k), peak (..., 1). Returns: both."""
    scale = mul(peak, div(1.0, top, F32), F32)
    return div(x, scale, F32), scale


def k910b_ratio(x: NDArray, peak: NDArray, top: np.float32) -> tuple[NDArray, NDArray]:
    """x·s and 1/s with s = top/peak, as `golden_ratio`."""
    factor = div(top, peak, F32)
    return mul(x, factor, F32), div(1.0, factor, F32)


def k310p_ratio(x: NDArray, peak: NDArray, top: np.float32) -> tuple[NDArray, NDArray]:
    """fp16(x·s), s = top/peak in fp16 for fp16 x, and peak·fp32(1/top), as `golden_ratio`."""
    factor_dtype = np.float16 if x.dtype == np.float16 else F32
    product = mul(x, div(top, peak, factor_dtype), factor_dtype)
    return to_dtype(product, np.float16), mul(peak, div(1.0, top, F32), F32)


VARIANTS: dict[str, tuple[Callable, Callable]] = {
    "golden": (golden_ratio, round_half_even),
    "k910b": (k910b_ratio, round_half_even),
    "k310p": (k310p_ratio, round_half_away),
}
