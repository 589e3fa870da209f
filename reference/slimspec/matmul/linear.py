"""Whole quantized linears, from a float activation to a float output of the same dtype T.

    W8A8          static:  q = quantize_static(x),   y = dequantize(q·wᵀ, deq_scale, quant_bias)
    W8A8_DYNAMIC  dynamic: q, s = quantize_dynamic(x), y = dequantize_per_token(q·wᵀ, ...)
    W8A8_MIX      prefill as W8A8_DYNAMIC, decode as W8A8, over the same weight

The scales are those that the engine holds: most engines round float scales to T when they load
them (`loaded_scale`); an int64 deq_scale is never touched.

Source: math.md 4.3, 13.1, 13.2; integer_semantics.md B.2, B.3.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import as_float32, to_dtype

from .dequantize import dequantize, kernel_scale
from .integer import matmul_int8
from .per_token import Order, dequantize_per_token
from .profiles import Numerics
from .quantize_dynamic import Variant, quantize_dynamic
from .quantize_static import Form, quantize_static


def loaded_scale(scale: NDArray, model_dtype: DTypeLike) -> NDArray[np.float32]:
    """float32(T(scale)): what is left of a stored float scale after an engine loaded it as T."""
    return as_float32(to_dtype(scale, model_dtype))


def linear_w8a8(
    x: NDArray,
    w: NDArray[np.int8],
    input_scale: NDArray,
    input_offset: NDArray,
    deq_scale: NDArray,
    quant_bias: NDArray[np.int32] | None = None,
    form: Form | None = None,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """y = T(fp32(Σ_k q·w + quant_bias)·deq_scale), q = clip(rint(x/input_scale + input_offset)).

    Args:
        x: (m, k) of T: float16, bfloat16 or float32.
        w: (n, k) int8.
        input_scale, input_offset: (1,); for form "mul" the pair of `runtime_scale`.
        deq_scale: (n,) float32 or int64 words; a single float32 becomes a word (`kernel_scale`).
        quant_bias: (n,) int32 or None.
        form: of `quantize_static`; None takes the profile's.
        numerics: profile name.

    Returns:
        (m, n) of T.
    """
    q = quantize_static(x, input_scale, input_offset, form, numerics)
    scale = kernel_scale(deq_scale, quant_bias)
    return dequantize(matmul_int8(q, w), scale, quant_bias, x.dtype, numerics)


def linear_w8a8_dynamic(
    x: NDArray,
    w: NDArray[np.int8],
    weight_scale: NDArray[np.float32],
    bias: NDArray | None = None,
    variant: Variant | None = None,
    order: Order = "scale_first",
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """y = T((fp32(Σ_k q·w)·weight_scale)·s + bias), q and s from `quantize_dynamic`.

    Args:
        x: (m, k) of T.
        w: (n, k) int8.
        weight_scale: (n,) or (n, 1) float32.
        bias: (n,) float or None.
        variant, order, numerics: as `quantize_dynamic` and `dequantize_per_token`.

    Returns:
        (m, n) of T.
    """
    tokens = quantize_dynamic(x, variant=variant, numerics=numerics)
    acc = matmul_int8(tokens.q, w)
    return dequantize_per_token(acc, weight_scale, tokens.scale, bias, x.dtype, order, numerics)


@dataclass(frozen=True)
class MixTensors:
    """The tensors of a W8A8_MIX linear: those of W8A8 plus weight_scale (n,) and bias (n,)."""

    weight: NDArray[np.int8]
    input_scale: NDArray
    input_offset: NDArray
    deq_scale: NDArray
    quant_bias: NDArray[np.int32]
    weight_scale: NDArray[np.float32]
    bias: NDArray | None = None


def linear_w8a8_mix(
    x: NDArray,
    tensors: MixTensors,
    phase: Literal["prefill", "decode"],
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """Dynamic per token in prefill, static in decode.

    Args:
        x: (m, k) of T.
        tensors: MixTensors.
        phase: "prefill" or "decode".
        numerics: profile name.

    Returns:
        (m, n) of T.

    Raises:
        ValueError: another phase.
    """
    t = tensors
    if phase == "prefill":
        return linear_w8a8_dynamic(x, t.weight, t.weight_scale, t.bias, numerics=numerics)
    if phase == "decode":
        static = (t.input_scale, t.input_offset, t.deq_scale, t.quant_bias)
        return linear_w8a8(x, t.weight, *static, numerics=numerics)
    raise ValueError(f'phase: expected "prefill" or "decode", found {phase!r}')
