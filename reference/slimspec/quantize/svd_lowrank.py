"""A float branch of low rank (svd_res): the best directions of a weight by a random projection.

    G normal [k, r];  Q = orth(W·G), then twice Q = orth(W·orth(Wᵀ·Q));  QᵀW = U·S·Vᵀ
    l2 = Q·U·S  [n, r],   l1 = Vᵀ  [r, k],   what is quantized: W - T(l2·l1)

A wide weight is taken transposed. With as many directions as the rank the result depends on G, so
the numbers are those of the producer's seed; signs of a direction are the library's choice.

Source: math.md 16 (svd_res); msmodelslim processor/svd_residual/processor.py:131-226; pytorch
torch/_lowrank.py (svd_lowrank, niter 2); Halko et al., arXiv 0909.4061, algorithm 5.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, sub, to_dtype
from slimspec.numeric.torch_random import TorchStream

from .affine import require_finite

SEED = 42  # set before each decoder layer
DEFAULT_RANK = 32
ROUNDS = 2


class LowRank(NamedTuple):
    """The factors: l1 [r, k] and l2 [n, r], float32."""

    l1: NDArray[np.float32]
    l2: NDArray[np.float32]


def svd_lowrank(w: NDArray, rank: int, stream: TorchStream, name: str = "weight") -> LowRank:
    """Return the factors of a weight.

    Args: w [n, k] float32, float16 or bfloat16; rank at most min(n, k); stream of random numbers,
        from which rank · min(n, k) are taken.
    Raises: ValueError for NaN, infinity or a rank that is too high.
    """
    require_finite(w, name)
    if not 1 <= rank <= min(w.shape):
        raise ValueError(f"{name}: rank {rank}, expected 1 to {min(w.shape)} for {list(w.shape)}")
    wide = as_float32(w)
    tall = wide.T if w.shape[0] < w.shape[1] else wide
    q = _orthogonal(tall @ stream.normal(tall.shape[1] * rank).reshape(-1, rank))
    for _ in range(ROUNDS):
        q = _orthogonal(tall @ _orthogonal(tall.T @ q))
    u, s, vt = np.linalg.svd(q.T @ tall, full_matrices=False)
    left, right = q @ u, vt.T
    if tall is not wide:
        left, right = right, left
    return LowRank(np.ascontiguousarray(right.T), left * s)


def residual(w: NDArray, factors: LowRank) -> NDArray:
    """Return W - T(l2·l1) in T, the dtype of w."""
    return sub(w, to_dtype(factors.l2 @ factors.l1, w.dtype), w.dtype)


def _orthogonal(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.linalg.qr(x)[0]


__all__ = ["DEFAULT_RANK", "SEED", "LowRank", "residual", "svd_lowrank"]
