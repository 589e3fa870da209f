"""MLA attention with a quantized latent: only the part of k without rotary position is int8.

The cached key of a token is [latent (c) | rope (r)]; the value is the latent itself. The latent has
one scale (one key/value head); the rope part stays float.

    q int8    S = T((fp32(qn₈·kn₈ᵀ)·fl32(q_scale·k_scale) + q_rope·k_ropeᵀ))·T(softmax_scale)
              out = `int8_pv.attend`(S, kn₈, k_scale)
    q float   k̂n = T(kn₈·k_scale);  float attention over [k̂n | k_rope] with values k̂n

Source: integer_semantics.md B.10; math.md 9.2 (FAKQuant).
"""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.check import require
from slimspec.matmul.floating import matmul_float
from slimspec.matmul.profiles import Numerics, to_output
from slimspec.numeric import add, as_float32, mul, to_dtype

from .fa3 import int_scores, softmax_input
from .floating import attention_float
from .int8_pv import ProbabilityQuant, attend

F32 = np.float32


def mla_attention_int8(
    q_nope: NDArray[np.int8],
    q_rope: NDArray,
    k_nope: NDArray[np.int8],
    k_rope: NDArray,
    scales: tuple[NDArray, NDArray],
    softmax_scale: float,
    p_scale: NDArray | None = None,
    mask: NDArray | None = None,
    block: int | None = None,
    score_dtype: DTypeLike = np.float16,
    out_dtype: DTypeLike = np.float16,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """Attention over an int8 latent with int8 queries.

    Args:
        q_nope: (h, t, c) int8, absorbed queries.
        q_rope: (h, t, r) float.
        k_nope: (s, c) int8 latent, also the value.
        k_rope: (s, r) float.
        scales: of q (h,) and of the latent (1,).
        softmax_scale: of the model (1/√(head size)), not of c + r.
        p_scale: (h,) offline, None online.
        mask: (t, s) float or None.
        block, score_dtype, out_dtype, numerics: as `attention_int8`.

    Returns:
        (h, t, c) of out_dtype.

    Raises:
        TypeError, ValueError: dtype or shape is not the above.
    """
    require("q_nope", q_nope, (np.int8,), "(h, t, c)", 3)
    require("k_nope", k_nope, (np.int8,), "(s, c)", 2)
    q_scale, k_scale = (as_float32(s).reshape(-1) for s in scales)
    out = np.zeros(q_nope.shape, F32)
    for h in range(q_nope.shape[0]):
        latent = int_scores(q_nope[h], k_nope, mul(q_scale[h], k_scale[0], F32))
        both = add(latent, matmul_float(q_rope[h], k_rope), F32)
        scores = softmax_input(to_output(both, score_dtype, numerics), F32(softmax_scale), mask)
        offline = None if p_scale is None else F32(as_float32(p_scale).reshape(-1)[h])
        out[h] = attend(scores, k_nope, k_scale[0], ProbabilityQuant(offline, block))
    return to_output(out, out_dtype, numerics)


def mla_attention_latent(
    q_nope: NDArray,
    q_rope: NDArray,
    k_nope: NDArray[np.int8],
    k_rope: NDArray,
    k_scale: NDArray,
    softmax_scale: float,
    mask: NDArray | None = None,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """Attention over an int8 latent with float queries (T = dtype of q_nope).

    Args:
        q_nope: (h, t, c) float; q_rope: (h, t, r) float.
        k_nope: (s, c) int8; k_rope: (s, r) float; k_scale: (1,) float.
        softmax_scale, mask, numerics: as `mla_attention_int8`.

    Returns:
        (h, t, c) of T.
    """
    kind = q_nope.dtype
    latent = to_output(mul(k_nope, k_scale, F32), kind, numerics)  # (s, c)
    q = np.concatenate([q_nope, to_dtype(q_rope, kind)], axis=2)  # (h, t, c + r)
    k = np.concatenate([latent, to_dtype(k_rope, kind)], axis=1)  # (s, c + r)
    return attention_float(q, k[None], latent[None], softmax_scale, mask, numerics)
