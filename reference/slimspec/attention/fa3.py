"""Int8 attention per head (FAQuant): int8 Q·Kᵀ, softmax, int8 P·V.

    q₈ = clip(rint(q/q_scale) + offset)                per head; likewise k, v
    qk_scale[h] = fl32(q_scale[h]·k_scale[kv(h)])
    S = T(T(fp32(q₈·k₈ᵀ)·qk_scale)·T(1/√d)) + mask     T = score dtype, fp16 in the public golden
    out = `int8_pv.attend`(S, v₈, v_scale)

Source: integer_semantics.md B.10; math.md 9.2.
"""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.check import require
from slimspec.matmul.integer import matmul_int8
from slimspec.matmul.profiles import Numerics, to_output
from slimspec.numeric import add, as_float32, div, mul, round_half_even, saturate_int8, to_dtype

from .floating import default_scale, kv_head_of
from .int8_pv import ProbabilityQuant, attend

F32 = np.float32


def quantize_heads(x: NDArray, scale: NDArray, offset: NDArray | float = 0.0) -> NDArray[np.int8]:
    """q = clip(rint(x/scale) + offset), one scale per head.

    Args:
        x: (h, t, d) float16, bfloat16 or float32.
        scale: (h,) or (h, 1) float.
        offset: (h,) or (h, 1) int8 or float, or scalar.

    Returns:
        (h, t, d) int8; NaN becomes 0.
    """
    shift = as_float32(offset)
    shift = shift.reshape(-1, 1, 1) if shift.ndim else shift
    codes = round_half_even(div(x, as_float32(scale).reshape(-1, 1, 1), F32))
    return saturate_int8(add(codes, shift, F32), nan=0)


def attention_int8(
    q: NDArray[np.int8],
    k: NDArray[np.int8],
    v: NDArray[np.int8],
    scales: tuple[NDArray, NDArray, NDArray],
    p_scale: NDArray | None = None,
    mask: NDArray | None = None,
    softmax_scale: float | None = None,
    block: int | None = None,
    p_dtype: DTypeLike = np.float32,
    score_dtype: DTypeLike = np.float16,
    out_dtype: DTypeLike = np.float16,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """softmax(q·kᵀ/√d + mask)·v on int8 codes.

    Args:
        q: (h, t, d) int8.
        k: (kv, s, d) int8.
        v: (kv, s, dv) int8.
        scales: of q (h,), k (kv,) and v (kv,), or with a trailing axis of 1.
        p_scale: (h,) for offline quantization of the probabilities, None for online.
        mask: (t, s) float added to the scores, or None.
        softmax_scale: default 1/√d.
        block: keys per online block, None for all at once.
        p_dtype: dtype in which P/p_scale is rounded.
        score_dtype: T of the scores.
        out_dtype: float16, bfloat16 or float32.
        numerics: profile name.

    Returns:
        (h, t, dv) of out_dtype.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    for name, array in (("q", q), ("k", k), ("v", v)):
        require(name, array, (np.int8,), "(h, t, d)", 3)
    q_scale, k_scale, v_scale = (as_float32(s).reshape(-1) for s in scales)
    scale = default_scale(q.shape[2]) if softmax_scale is None else F32(softmax_scale)
    out = np.zeros((*q.shape[:2], v.shape[2]), F32)
    for h, g in enumerate(kv_head_of(q.shape[0], k.shape[0])):
        qk = mul(q_scale[h], k_scale[g], F32)
        scores = to_output(int_scores(q[h], k[g], qk), score_dtype, numerics)
        scores = softmax_input(scores, scale, mask)
        offline = None if p_scale is None else F32(as_float32(p_scale).reshape(-1)[h])
        how = ProbabilityQuant(offline, block, p_dtype)
        out[h] = attend(scores, v[g], v_scale[g], how)
    return to_output(out, out_dtype, numerics)


def int_scores(q: NDArray[np.int8], k: NDArray[np.int8], qk_scale: NDArray) -> NDArray[np.float32]:
    """fp32(q·kᵀ)·qk_scale. Args: q (t, d), k (s, d) int8. Returns: (t, s) float32."""
    return mul(matmul_int8(q, k).astype(F32), qk_scale, F32)


def softmax_input(
    scores: NDArray, softmax_scale: np.float32, mask: NDArray | None
) -> NDArray[np.float32]:
    """T(scores·T(softmax_scale)) + mask in T, widened. Args: (t, s) of T. Returns: float32."""
    kind = scores.dtype
    scaled = mul(scores, to_dtype(softmax_scale, kind), kind)
    return as_float32(scaled if mask is None else add(scaled, as_float32(mask), kind))
