"""Softmax with int8 probabilities: the second half of int8 attention, one head.

Keys come in blocks of b (flash attention); m is the running row maximum, l the denominator:

    m' = max(m, max S_b),  c = exp(m − m'),  P = exp(S_b − m')
    online   p_scale = fl32(max P / 127) per row and block;  P₈ = rint(P/p_scale)
    offline  p_scale is given;                               P₈ = clip(rint(P/p_scale))
    l = l·c + ΣP                              the denominator takes the float P
    O = O·c + fp32(P₈·V)·fl32(v_scale·p_scale)
    out = O/l

With one block m' is the row maximum and max P = 1. `p_dtype` float16 rounds P/p_scale to fp16
before rint, as the paged kernel does.

Source: integer_semantics.md B.10; math.md 9.2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.integer import matmul_int8
from slimspec.numeric import add, div, mul, round_half_even, saturate_int8, to_dtype

from .softmax import exponentials, normalized, row_max, row_sum

F32 = np.float32


@dataclass(frozen=True)
class ProbabilityQuant:
    """How P becomes int8: p_scale None is online, a float32 is offline; keys per block."""

    p_scale: np.float32 | None = None
    block: int | None = None
    p_dtype: DTypeLike = np.float32


def quantize_probabilities(
    p: NDArray[np.float32], how: ProbabilityQuant
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """P₈ and its scale.

    Args:
        p: (t, b) float32 in [0, 1].
        how: online or offline, and the dtype in which P/p_scale is rounded.

    Returns:
        (P₈ (t, b) int8, p_scale (t, 1) float32); a row of zeros gives 0 and 0 online.
    """
    if how.p_scale is None:
        scale = div(p.max(axis=1, keepdims=True, initial=0.0), 127.0, F32)
    else:
        scale = np.full((p.shape[0], 1), how.p_scale, F32)
    ratio = np.where(scale == 0, F32(0), div(p, scale, F32)).astype(F32)
    codes = round_half_even(to_dtype(ratio, how.p_dtype))
    return saturate_int8(codes, nan=0), scale


def attend(
    scores: NDArray[np.float32],
    v: NDArray[np.int8],
    v_scale: np.float32,
    how: ProbabilityQuant,
) -> NDArray[np.float32]:
    """softmax(S)·V with int8 probabilities and values.

    Args:
        scores: (t, s) float32, scaled and masked.
        v: (s, d) int8.
        v_scale: float32.
        how: quantization of the probabilities.

    Returns:
        (t, d) float32.
    """
    t, s = scores.shape
    peak = np.full((t, 1), -np.inf, F32)
    total = np.zeros((t, 1), F32)
    out = np.zeros((t, v.shape[1]), F32)
    step = how.block or max(s, 1)
    for lo in range(0, s, step):
        part = scores[:, lo : lo + step]
        higher = np.maximum(peak, row_max(part))
        correction = exponentials(peak, higher)  # (t, 1); 0 in the first block
        p = exponentials(part, higher)
        p8, p_scale = quantize_probabilities(p, how)
        acc = matmul_int8(p8, np.ascontiguousarray(v[lo : lo + step].T))  # (t, d) int32
        update = mul(acc.astype(F32), mul(v_scale, p_scale, F32), F32)
        total = add(mul(total, correction, F32), row_sum(p), F32)
        out = add(mul(out, correction, F32), update, F32)
        peak = higher
    return normalized(out, total)
