"""Quantize activations per token with an offset made from the row.

    span = max − min over the row
    scale ≈ span/255,  offset = 127 − max/scale (not rounded),  q = clip(rint(x/scale + offset))

| variant | scale | codes |
|---|---|---|
| golden (canonical) | span·fp32(1/255) | rint(x/scale + offset) |
| k910b | max(span/255, 1e-12) | rint(x·(1/scale) + offset) |

With 4 bits 255 becomes 15 and 127 becomes 7. A row of equal values has span 0: `golden` divides
by zero there, so its codes are 0 and scale and offset are stored as they come (0 and ±inf or NaN).

Source: integer_semantics.md B.5. The 310P form is not public in enough detail.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, round_half_even, saturate, sub

from .quantize_dynamic import code_limit

F32 = np.float32
MIN_SCALE = np.float32(1e-12)


class AsymmetricQuant(NamedTuple):
    """Codes int8, shape of x; scale and offset float32, shape of x without its last axis."""

    q: NDArray[np.int8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]


def quantize_dynamic_asym(
    x: NDArray, bits: int = 8, variant: Literal["golden", "k910b"] = "golden"
) -> AsymmetricQuant:
    """q = clip(rint(x/scale + offset)), scale = (max − min)·fp32(1/255), offset = 127 − max/scale.

    Args:
        x: (..., k) float16, bfloat16 or float32, k > 0.
        bits: 8 or 4.
        variant: as in the module's table.

    Returns:
        AsymmetricQuant(q (..., k) int8, scale (...) float32, offset (...) float32).

    Raises:
        TypeError, ValueError: dtype, bits or variant is not the above.
    """
    if variant not in ("golden", "k910b"):
        raise ValueError(f"variant: expected golden or k910b, found {variant!r}")
    top = code_limit(bits)
    wide = as_float32(x)
    high = wide.max(axis=-1, keepdims=True)  # (..., 1) float32
    span = sub(high, wide.min(axis=-1, keepdims=True), F32)
    steps = F32(2 * top + 1)
    if variant == "golden":
        scale = mul(span, div(1.0, steps, F32), F32)
        ratio = div(wide, scale, F32)
    else:
        scale = np.maximum(div(span, steps, F32), MIN_SCALE)
        ratio = mul(wide, div(1.0, scale, F32), F32)
    offset = sub(F32(top), div(high, scale, F32), F32)
    codes = round_half_even(add(ratio, offset, F32))
    q = saturate(codes, -top - 1, top, np.int8, nan=0)
    return AsymmetricQuant(q, scale[..., 0], offset[..., 0])
