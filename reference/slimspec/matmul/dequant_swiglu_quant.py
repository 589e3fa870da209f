"""Fused epilogue: dequantize, SwiGLU, quantize with a stored scale or per token.

    v = (fp32(acc + int32 bias)·weight_scale)·activation_scale + float bias    float32
    a = swiglu(v)
    static   q = clip(rint(a/quant_scale + quant_offset))
    dynamic  a = a·quant_scale,  q = rint(clip(a·(127/max|a|))),  scale = max|a|/127

Source: integer_semantics.md B.9.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import div, mul, round_half_even, saturate_int8

from .dequantize import add_float_bias, add_int32_bias
from .per_token import scale_per_token
from .quantize_dynamic import DynamicQuant
from .quantize_static import quantize_static
from .swiglu import swiglu

F32 = np.float32


def dequant_swiglu(
    acc: NDArray[np.int32],
    weight_scale: NDArray[np.float32],
    activation_scale: NDArray[np.float32],
    bias: NDArray | None = None,
    activate_left: bool = False,
) -> NDArray[np.float32]:
    """The common part. Args: acc (t, 2c) int32, scales (2c,) and (t,) float32, bias (2c,) int32 or
    float. Returns: (t, c) float32."""
    v = scale_per_token(add_int32_bias(acc, bias), weight_scale, activation_scale)
    return swiglu(add_float_bias(v, bias), activate_left)


def dequant_swiglu_quant_static(
    acc: NDArray[np.int32],
    weight_scale: NDArray[np.float32],
    activation_scale: NDArray[np.float32],
    quant_scale: NDArray[np.float32],
    quant_offset: NDArray[np.float32],
    bias: NDArray | None = None,
    activate_left: bool = False,
) -> NDArray[np.int8]:
    """q = clip(rint(swiglu(v)/quant_scale + quant_offset)).

    Args:
        acc: (t, 2c) int32.
        weight_scale: (2c,) float32.
        activation_scale: (t,) float32.
        quant_scale, quant_offset: (c,) or (1,) float32.
        bias: (2c,) int32 or float, or None.
        activate_left: silu acts on the first half.

    Returns:
        (t, c) int8.
    """
    a = dequant_swiglu(acc, weight_scale, activation_scale, bias, activate_left)
    return quantize_static(a, quant_scale, quant_offset, form="div")


def dequant_swiglu_quant_dynamic(
    acc: NDArray[np.int32],
    weight_scale: NDArray[np.float32],
    activation_scale: NDArray[np.float32],
    quant_scale: NDArray[np.float32] | None = None,
    bias: NDArray | None = None,
    activate_left: bool = False,
) -> DynamicQuant:
    """q = rint(clip(a·(127/max|a|))), scale = max|a|/127, a = swiglu(v)·quant_scale.

    Args:
        acc, weight_scale, activation_scale, bias, activate_left: as the static form.
        quant_scale: (c,) float32 smoothing factors, or None.

    Returns:
        DynamicQuant(q (t, c) int8, scale (t,) float32); a row of zeros gives 0 and 0.
    """
    a = dequant_swiglu(acc, weight_scale, activation_scale, bias, activate_left)
    if quant_scale is not None:
        a = mul(a, quant_scale, F32)
    peak = np.max(np.abs(a), axis=-1, keepdims=True, initial=0.0)  # (t, 1)
    ratio = np.where(peak == 0, F32(0), mul(a, div(127.0, peak, F32), F32))
    q = saturate_int8(round_half_even(np.clip(ratio, F32(-128), F32(127))), nan=0)
    return DynamicQuant(q, div(peak[:, 0], 127.0, F32))
