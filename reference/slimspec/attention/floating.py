"""Float attention: what the quantized forms are compared with.

    S = (q·kᵀ)·softmax_scale + mask,  P = exp(S − max S),  out = T((P·v)/ΣP)

All steps are float32 with the summation order of `matmul_float`; the output is rounded once.
Query head i reads key/value head i // (heads/kv_heads).

Source: math.md 9.2.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.check import require_equal
from slimspec.matmul.floating import matmul_float
from slimspec.matmul.profiles import Numerics, to_output
from slimspec.numeric import add, as_float32, mul

from .softmax import exponentials, normalized, row_max, row_sum

F32 = np.float32


def attention_float(
    q: NDArray,
    k: NDArray,
    v: NDArray,
    softmax_scale: float | None = None,
    mask: NDArray | None = None,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """out[h] = T(softmax(q[h]·k[kv(h)]ᵀ·softmax_scale + mask)·v[kv(h)]).

    Args:
        q: (h, t, d) float16, bfloat16 or float32 (T).
        k: (kv, s, d) float.
        v: (kv, s, dv) float.
        softmax_scale: default 1/√d.
        mask: (t, s) float added to the scores, or None.
        numerics: profile name.

    Returns:
        (h, t, dv) of T.

    Raises:
        ValueError: kv does not divide h.
    """
    scale = default_scale(q.shape[-1]) if softmax_scale is None else F32(softmax_scale)
    out = np.zeros((*q.shape[:2], v.shape[2]), F32)
    for h, g in enumerate(kv_head_of(q.shape[0], k.shape[0])):
        scores = mul(matmul_float(q[h], k[g]), scale, F32)  # (t, s)
        scores = scores if mask is None else add(scores, as_float32(mask), F32)
        p = exponentials(scores, row_max(scores))
        out[h] = normalized(matmul_float(p, v[g].T), row_sum(p))
    return to_output(out, q.dtype, numerics)


def default_scale(d: int) -> np.float32:
    """fl32(1/√d). Args: d head size. Returns: float32."""
    return F32(1.0 / np.sqrt(np.float64(d)))


def kv_head_of(heads: int, kv_heads: int) -> list[int]:
    """Key/value head of every query head. Raises: ValueError unless kv_heads divides heads."""
    if kv_heads == 0:
        require_equal("heads of q and k", heads, 0)
        return []
    if heads % kv_heads:
        raise ValueError(f"heads: {kv_heads} key/value heads do not divide {heads} query heads")
    return [h // (heads // kv_heads) for h in range(heads)]
