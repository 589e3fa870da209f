"""flex_awq_ssz: search alpha with the quantizer that the weights will meet.

    candidate   s = max|x|^alpha;   loss = rms(Q(x/s)·SSZ(W·s)ᵀ - x·Wᵀ) / rms(x·Wᵀ)
    result      s = max(mean|x|^alpha, 1e-5)

The inputs are quantized per column in their own dtype; weights, product and error are float32, as
what the producer deploys computes (math.md 8.2; msmodelslim ir/w4a8_dynamic.py: the extremes of a
type per token run over axis 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, div, mul, sub, to_dtype
from slimspec.numeric.power import power
from slimspec.numeric.reduction import cascade_mean
from slimspec.quantize.affine import codes, dequantize, qparams, require_finite
from slimspec.quantize.ssz import quantize_ssz

from .flex import STEP, grid, product
from .scales import absmax


class FlexAwqLoss:
    """The loss of alpha for one group of linears.

    Source: math.md 8.2; msmodelslim processor/anti_outlier/flex_smooth/alpha_beta_search.py
    (FlexAWQSSZAlphaBetaSearcher); which steps are float32 is measured on a recorded run.
    """

    def __init__(self, x: NDArray, w: NDArray, *, bits: int = 4) -> None:
        """Args: x [t, k] activations, w [n, k] weights, one dtype; bits of the weights."""
        require_finite(x, "activation")
        require_finite(w, "weight")
        self._x, self._w, self._bits = x, w, bits
        self._peak = absmax(x)
        self._golden = product(x, w)
        squares = mul(self._golden, self._golden, x.dtype)
        self._normal = power(np.atleast_1d(cascade_mean(squares.reshape(-1))), 0.5)

    def __call__(self, alpha: float) -> float:
        """Return the loss; NaN where a column of x is zero (its scale is zero)."""
        dtype = self._x.dtype
        scale = power(self._peak, alpha)
        with np.errstate(all="ignore"):
            x, scaled = div(self._x, scale, dtype), mul(self._w, scale, dtype)
            if not (np.isfinite(as_float32(x)).all() and np.isfinite(as_float32(scaled)).all()):
                return float("nan")
            x = _fake_input(x)
            made = quantize_ssz(scaled, bits=self._bits)
            w = dequantize(made.q, as_float32(made.scale), as_float32(made.offset))
            y = as_float32(x) @ as_float32(w).T
            error = sub(y, as_float32(self._golden), np.float32)
            squares = mul(error, error, np.float32).reshape(-1)
            rms = power(np.atleast_1d(cascade_mean(squares)), 0.5)
            return float(div(rms, as_float32(self._normal), np.float32)[0])


def search_flex_awq(loss: FlexAwqLoss, step: float = STEP) -> float:
    """Return the alpha of the smallest loss; of equal losses the last one, 0 if none is a number.

    Args: step of the grid. Source: math.md 8.2; alpha_beta_search.py (search_alpha).
    """
    alpha, best = 0.0, np.inf
    for candidate in grid(step):
        value = loss(float(candidate))
        if value <= best:
            alpha, best = float(candidate), value
    return alpha


def _fake_input(x: NDArray) -> NDArray:
    """Quantize each column of x (t, k), symmetric int8, and bring back. Returns: dtype of x."""
    low, high = x.min(axis=0, keepdims=True), x.max(axis=0, keepdims=True)
    scale, offset = qparams(low, high, symmetric=True, variant="v1")
    return to_dtype(dequantize(codes(x, scale, offset), scale, offset), x.dtype)


__all__ = ["FlexAwqLoss", "search_flex_awq"]
