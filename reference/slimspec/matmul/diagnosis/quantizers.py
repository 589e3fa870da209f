"""What can differ in the activation quantizers."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.quantize_dynamic import (
    code_limit,
    golden_ratio,
    k310p_ratio,
    k910b_ratio,
)
from slimspec.numeric import as_float32, div, mul

from .choices import NARROWINGS, OFFSETS, ROUNDINGS
from .engine import Op

F32 = np.float32


def _static(
    c: dict[str, Any], x: NDArray, scale: NDArray, offset: Any = 0.0, low: int = -128,
    high: int = 127,
) -> NDArray[np.int8]:  # fmt: skip
    dtype = c["precision"]
    ratio = c["quotient"](x, scale, dtype)
    return c["narrow"](c["offset"](ratio, offset, dtype, c["round"]), low, high)


def _reciprocal(x: NDArray, scale: NDArray, dtype: Any) -> NDArray:
    return mul(x, div(1.0, scale, F32), dtype)


def _own_reciprocal(x: NDArray, scale: NDArray, dtype: Any) -> NDArray:
    return mul(x, div(1.0, div(scale, 1.0, x.dtype), x.dtype), dtype)


QUANTIZE_STATIC = Op(
    "quantize_static",
    {
        "quotient": {
            "divides": div,
            "reciprocal instead of division": _reciprocal,
            "reciprocal rounded to the dtype of x": _own_reciprocal,
        },
        "precision": {
            "float32": F32,
            "fp16 arithmetic": np.float16,
            "bf16 arithmetic": ml_dtypes.bfloat16,
        },
        "offset": OFFSETS,
        "round": ROUNDINGS,
        "narrow": NARROWINGS,
    },
    _static,
    {frozenset({"fp16 arithmetic"}): "k310p (fp16 divide and add)"},
)


def _dynamic(
    c: dict[str, Any], x: NDArray, smooth: NDArray | None = None, bits: int = 8
) -> tuple[NDArray, NDArray]:
    top = code_limit(bits)
    if smooth is not None:
        x = mul(x, smooth, F32)
    peak = c["range"](np.abs(as_float32(x)))  # (..., 1)
    ratio, scale = c["form"](x, peak, F32(top + c["divisor"]))
    zero = peak == 0
    codes = np.where(zero, F32(0), as_float32(c["round"](ratio)))
    return c["narrow"](codes, -top - 1, top), np.where(zero, F32(0), scale)[..., 0]


def _per_row(magnitude: NDArray) -> NDArray:
    return np.max(magnitude, axis=-1, keepdims=True, initial=0.0)


def _per_tensor(magnitude: NDArray) -> NDArray:
    return np.full((*magnitude.shape[:-1], 1), magnitude.max(initial=0.0), F32)


def _divided(x: NDArray, peak: NDArray, top: np.float32) -> tuple[NDArray, NDArray]:
    scale = div(peak, top, F32)
    return div(x, scale, F32), scale


def _reciprocal_of_scale(x: NDArray, peak: NDArray, top: np.float32) -> tuple[NDArray, NDArray]:
    scale = div(peak, top, F32)
    return mul(x, div(1.0, scale, F32), F32), scale


QUANTIZE_DYNAMIC = Op(
    "quantize_dynamic",
    {
        "form": {
            "golden": golden_ratio,
            "multiplied by 127/max (k910b)": k910b_ratio,
            "fp16 product": k310p_ratio,
            "scale is max/127 by division": _divided,
            "reciprocal instead of division": _reciprocal_of_scale,
        },
        "range": {"per token": _per_row, "one scale for the whole tensor": _per_tensor},
        "divisor": {"127": 0, "128 instead of 127": 1},
        "round": ROUNDINGS,
        "narrow": NARROWINGS,
    },
    _dynamic,
    {
        frozenset({"fp16 product", "half away from zero"}): "k310p (fp16 product, half away)",
        frozenset({"multiplied by 127/max (k910b)"}): "k910b",
    },
)
