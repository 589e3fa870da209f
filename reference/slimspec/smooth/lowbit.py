"""do_smooth: the smoothing that precedes low-bit sparse quantization (W8A8S).

    s = max(a^alpha / max(w, 1e-5)^(1 - alpha), 1e-5),  a = max|x - shift|, shift = (max + min)/2

alpha is searched on a coarse grid of 11 points and on a fine one around the best of them; the loss
is the squared distance of the quantized product (math.md 7.1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, round_half_even
from slimspec.numeric.power import power

from .fold import Affine

Array = NDArray[np.float32]
POINTS = 10
SMALLEST = np.float32(1e-5)


def lowbit_scale(a: Array, w: Array, alpha: float) -> Array:
    """Return s of one alpha. Args: a, w [k] float32 channel maxima. Returns: [k] float32."""
    bounded = np.maximum(w, SMALLEST)
    with np.errstate(over="ignore"):
        return np.maximum(power(a, alpha) / power(bounded, 1 - alpha), SMALLEST)


def _fake_tensor(x: Array) -> Array:
    """Return x in symmetric int8 of the whole tensor, ±127; zeros stay zeros."""
    scale = np.abs(x).max() / np.float32(127)
    return (
        np.clip(round_half_even(x / scale), np.float32(-127), np.float32(127)) * scale
        if scale
        else x
    )


def smoothing_loss(
    x: Array, w: Array, scale: Array, fake_weight: Callable[[Array], Array]
) -> float:
    """Return ‖x·Wᵀ - Q(x/s)·Qw(W·s)ᵀ‖².

    Args: x [t, k], w [n, k], scale [k] float32; fake_weight: the weight quantizer of the layer,
    dequantized. Source: math.md 7.1.
    """
    error = x @ w.T - _fake_tensor(x / scale) @ fake_weight(w * scale).T
    return float(np.sum(error.astype(np.float64) ** 2))


def search_lowbit_alpha(loss: Callable[[float], float], points: int = POINTS) -> float:
    """Return the alpha of the smallest loss: coarse over [0, 1], then fine around the best.

    Args: loss of an alpha; points: intervals of both grids. Source: math.md 7.1.
    """
    best, smallest = 0.0, np.inf
    width = 1.0 / (points + 1)
    for pass_ in range(2):
        low, high = (0.0, 1.0) if pass_ == 0 else (best - width, best + width)
        for alpha in np.linspace(low, high, points + 1):
            value = loss(float(alpha))
            if value < smallest:
                best, smallest = float(alpha), value
    return best


def fold_lowbit(
    norm: Affine, consumers: list[Affine], scale: Array, shift: Array
) -> tuple[Affine, list[Affine]]:
    """Return the norm and its linears with scale and shift folded in, float32.

    norm.weight / s, (norm.bias - shift)/s; every linear: bias + shift·Wᵀ, then W·s.
    Args: norm weight [k], bias [k] or None; linears [n, k]; scale, shift [k].
    Returns: (norm, linears) with biases created where there were none. Source: math.md 7.1.
    """
    weight = as_float32(norm.weight) / scale
    bias = np.zeros_like(scale) if norm.bias is None else as_float32(norm.bias)
    folded = []
    for linear in consumers:
        w = as_float32(linear.weight)
        old = np.zeros(w.shape[0], np.float32) if linear.bias is None else as_float32(linear.bias)
        folded.append(Affine(w * scale, old + shift @ w.T))
    return Affine(weight, (bias - shift) / scale), folded
