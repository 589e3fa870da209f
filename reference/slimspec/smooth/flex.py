"""m6 / flex smoothing: search alpha and beta so that the quantized product stays close.

    s = max|x|^alpha · max|W|^(-beta);   loss = rms(Q(x/s)·Q(W·s)ᵀ - x·Wᵀ) / rms(x·Wᵀ)

First alpha over a grid with beta = 1 - alpha, then beta at that alpha. Each elementary operation
rounds to the dtype of the inputs; matrix products accumulate in float32, in the order of the BLAS
(math.md 8.1 m6, 8.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, div, mul, sub, to_dtype
from slimspec.numeric.power import power
from slimspec.numeric.reduction import cascade_mean
from slimspec.quantize.affine import require_finite

from .fake_quant import fake_int8_rows, fake_int8_tensor
from .scales import absmax

STEP = 0.05


@dataclass(frozen=True)
class AlphaBeta:
    """The chosen exponents and their loss."""

    alpha: float
    beta: float
    loss: float


def grid(step: float = STEP) -> NDArray[np.float64]:
    """Return 0, step, ..., 1 in two decimals. Raises: ValueError for a step not in (0, 1]."""
    if not 0 < step <= 1:
        raise ValueError(f"search step: expected 0 < step <= 1, found {step}")
    return np.round(np.arange(0.0, 1.0 + step, step), 2)


def product(x: NDArray, w: NDArray) -> NDArray:
    """Return x·Wᵀ, accumulated in float32 and rounded to the dtype of x.

    Args: x [t, k], w [n, k], one dtype. Returns: [t, n].
    """
    return to_dtype(as_float32(x) @ as_float32(w).T, x.dtype)


def _rms(x: NDArray) -> NDArray:
    return power(cascade_mean(mul(x, x, x.dtype).reshape(-1)), 0.5)


class FlexLoss:
    """The loss of (alpha, beta) for one group of linears.

    act_symmetric: activations per token, symmetric (V1 and the V0 option); else per tensor,
    asymmetric, unclipped (V0).
    Source: math.md 8.1, 8.2; msmodelslim processor/anti_outlier/flex_smooth/
    alpha_beta_search.py:32-118.
    """

    def __init__(self, x: NDArray, w: NDArray, *, act_symmetric: bool = True) -> None:
        """Args: x [t, k] activations, w [n, k] weight, one dtype (float32, float16, bfloat16)."""
        require_finite(x, "activation")
        require_finite(w, "weight")
        if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1] or x.dtype != w.dtype:
            raise ValueError(
                f"expected x [t, k] and w [n, k] of one dtype, found {x.shape} {x.dtype} and "
                f"{w.shape} {w.dtype}"
            )
        self._x, self._w = x, w
        self._peaks = absmax(x), absmax(w)
        self._fake = fake_int8_rows if act_symmetric else fake_int8_tensor
        with np.errstate(all="ignore"):
            self._golden = product(x, w)
            self._normal = _rms(self._golden)

    def __call__(self, alpha: float, beta: float) -> float:
        """Return the loss; NaN where a column of x is zero (its scale is zero)."""
        dtype = self._x.dtype
        scale = mul(power(self._peaks[0], alpha), power(self._peaks[1], -beta), dtype)
        with np.errstate(all="ignore"):
            x = self._fake(div(self._x, scale, dtype))
            w = fake_int8_rows(mul(self._w, scale, dtype))
            error = np.abs(sub(product(x, w), self._golden, dtype))
            return float(div(_rms(error), self._normal, dtype))


def search_alpha(loss: FlexLoss, step: float = STEP, limit: float = np.inf) -> AlphaBeta:
    """Return the alpha of the smallest loss with beta = 1 - alpha; of equal losses the last one.

    Args: loss; step of the grid; limit: no larger loss counts (1 in V0). If none counts, alpha is 0
    and the loss is the limit. Source: math.md 8.1 (m6); alpha_beta_search.py:120-140.
    """
    alpha, best = 0.0, limit
    for candidate in grid(step):
        value = loss(candidate, 1.0 - candidate)
        if value <= best:
            alpha, best = float(candidate), value
    return AlphaBeta(alpha, 1.0 - alpha, best)


def search_alpha_beta(loss: FlexLoss, step: float = STEP, limit: float = np.inf) -> AlphaBeta:
    """Return the exponents of the smallest loss: first alpha, then beta at that alpha.

    If no beta of the grid is at least as good as 1 - alpha was, beta is 0, as in the producer.
    Args: loss; step, limit: as `search_alpha`.
    Source: math.md 8.1 (m6); alpha_beta_search.py:142-182.
    """
    start = search_alpha(loss, step, limit)
    beta, best = 0.0, start.loss
    for candidate in grid(step):
        value = loss(start.alpha, candidate)
        if value <= best:
            beta, best = float(candidate), value
    return AlphaBeta(start.alpha, beta, best)


def alpha_curve(loss: FlexLoss, step: float = STEP) -> NDArray[np.float64]:
    """Return the losses of the first pass, [points] float64."""
    return np.array([loss(a, 1.0 - a) for a in grid(step)], np.float64)
