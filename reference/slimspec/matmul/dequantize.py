"""Dequantize accumulators: y = T(fp32(acc + quant_bias) · deq_scale [+ float bias]).

Derivation. The checkpoint holds deq_scale = input_scale·weight_scale and quant_bias =
rint(bias / deq_scale − Σ_k q_w·input_offset). With acc = Σ q_x·q_w the float result is
(acc − Σ q_w·input_offset)·deq_scale + bias = (acc + quant_bias)·deq_scale.

Steps and dtypes:
    1. t = acc + quant_bias       int32, wraps (int32 bias only)
    2. f = fp32(t)                float32, half to even beyond 2^24
    3. d = deq_scale              float32 as given, or FP19 if the scale comes as 64-bit words
    4. y = f · d                  float32
    5. y = y + bias               float32 (float bias only)
    6. out = T(y)                 half to even, overflow by the numerics profile

Source: integer_semantics.md B.2; math.md 13.1.
"""

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import as_float32

from .check import require
from .deq_word import parse_quant_param, trans_quant_param
from .profiles import Numerics, to_output

FLOATS = (np.float32, np.float16, ml_dtypes.bfloat16)


def dequantize(
    acc: NDArray[np.int32],
    deq_scale: NDArray,
    quant_bias: NDArray | None = None,
    out_dtype: DTypeLike = np.float16,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """out = T(fp32(acc + quant_bias)·deq_scale), or T(fp32(acc)·deq_scale + bias).

    Args:
        acc: (..., n) int32.
        deq_scale: (n,), (n, 1), (1,) or scalar; floats are used as they are, int64/uint64 are words
            of which the hardware reads FP19.
        quant_bias: (n,) int32, added to the accumulator; or float, added after the scale.
        out_dtype: float16, bfloat16 or float32.
        numerics: profile name.

    Returns:
        (..., n) of out_dtype.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.

    Source: integer_semantics.md B.2, B.11; math.md 13.1.
    """
    y = scaled(add_int32_bias(acc, quant_bias), read_scale(deq_scale))
    return to_output(add_float_bias(y, quant_bias), out_dtype, numerics)


def read_scale(scale: NDArray) -> NDArray[np.float32]:
    """Scale as the multiplier sees it: floats widened, words -> FP19; (n,) or scalar float32."""
    scale = np.asarray(scale)
    if scale.dtype.kind in "iu":
        scale = parse_quant_param(scale).scale
    require("scale", scale, FLOATS, "(n,) or (n, 1)", (0, 1, 2))
    if scale.ndim == 2 and scale.shape[1] != 1:
        raise ValueError(f"scale: expected (n,) or (n, 1), found {scale.shape}")
    return as_float32(scale.reshape(-1) if scale.ndim else scale)


def kernel_scale(scale: NDArray, bias: NDArray | None = None) -> NDArray:
    """The scale that the quant matmul operator passes on: one float becomes a word.

    A float scale of length 1 is turned into a 64-bit word, so it is truncated to FP19, unless a
    float bias is present; a float scale per channel stays as it is.

    Source: integer_semantics.md B.2 step 2; math.md 13.1.
    """
    float_bias = bias is not None and bias.dtype.kind not in "iu"
    if scale.dtype == np.float32 and scale.shape[:1] == (1,) and not float_bias:
        return trans_quant_param(scale)
    return scale


def add_int32_bias(acc: NDArray[np.int32], bias: NDArray | None) -> NDArray[np.int32]:
    """acc + bias in int32, modulo 2^32, if the bias is int32; acc otherwise."""
    acc = np.asarray(acc)
    if acc.dtype != np.int32:
        raise TypeError(f"acc: expected int32 (..., n), found {acc.dtype} {acc.shape}")
    if bias is None or bias.dtype != np.int32:
        return acc
    return np.add(acc, bias, dtype=np.int32)


def add_float_bias(y: NDArray[np.float32], bias: NDArray | None) -> NDArray[np.float32]:
    """y + float32(bias) in float32 if the bias is a float; y otherwise."""
    if bias is None or bias.dtype == np.int32:
        return y
    require("bias", bias, (np.int32, *FLOATS), "(n,)", (0, 1))
    return np.add(y, as_float32(bias), dtype=np.float32)


def scaled(acc: NDArray[np.int32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32(acc)·scale: the accumulator is rounded half to even, then the product."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.multiply(acc.astype(np.float32), scale, dtype=np.float32)
