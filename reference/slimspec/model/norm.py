"""Normalisation of hidden states: RMSNorm and LayerNorm, in float32 inside.

Source: transformers models/llama/modeling_llama.py (LlamaRMSNorm); pytorch
aten/src/ATen/native/cpu/layer_norm_kernel.cpp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, mul, to_dtype
from slimspec.numeric.reduction import cascade_mean

F32 = np.float32
SERVICE_EPS = 1e-6


def rms_norm(x: NDArray, weight: NDArray, eps: float, bias: NDArray | None = None) -> NDArray:
    """T(weight · T(x · 1/√(mean(x²) + eps))), plus the bias that anti-outlier steps add.

    Args:
        x: (..., k) float16, bfloat16 or float32 (T).
        weight: (k,) float.
        eps: added to the mean square.
        bias: (k,) float or None.

    Returns:
        (..., k) of T.
    """
    wide = as_float32(x)
    mean = cascade_mean(wide * wide)[..., None]  # (..., 1)
    inverse = F32(1) / np.sqrt(mean + F32(eps))
    y = mul(weight, to_dtype(wide * inverse, x.dtype), x.dtype)
    return y if bias is None else add(y, bias, x.dtype)


def service_norm(x: NDArray, weight: NDArray, bias: NDArray | None = None) -> NDArray[F32]:
    """float32(weight · W(x · 1/√(mean(x²) + 1e-6))) + bias, W the dtype of the weight.

    The norm that the one-click service puts in the place of a model's own while it smooths, and
    keeps: whatever eps the model has, and float32 for what follows, also in a 16-bit model.

    Args: x (..., k) float; weight (k,) of W; bias (k,) float or None. Returns: (..., k).
    Source: msmodelslim ir/rms_norm.py:30-52, ir/norm_bias.py:30-54,
    processor/anti_outlier/iter_smooth/processor.py (_replace_norm_modules).
    """
    wide = as_float32(x)
    mean = cascade_mean(wide * wide)[..., None]
    inverse = F32(1) / np.sqrt(mean + F32(SERVICE_EPS))
    y = as_float32(mul(weight, to_dtype(wide * inverse, weight.dtype), weight.dtype))
    return y if bias is None else add(y, bias, F32)


def layer_norm(x: NDArray, weight: NDArray, bias: NDArray, eps: float) -> NDArray:
    """T((x − mean) / √(var + eps) · weight + bias), var the mean square distance to the mean.

    Args: x (..., k) of T; weight, bias (k,) float; eps. Returns: (..., k) of T.
    """
    wide = as_float32(x)
    centred = wide - cascade_mean(wide)[..., None]
    inverse = F32(1) / np.sqrt(cascade_mean(centred * centred)[..., None] + F32(eps))
    return to_dtype(centred * inverse * as_float32(weight) + as_float32(bias), x.dtype)
