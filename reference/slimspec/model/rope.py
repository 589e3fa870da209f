"""Rotary position embedding: frequencies of each kind, and the rotation.

    angle(p, i) = p·f_i,   (a, b) -> (a·cos − b·sin, b·cos + a·sin)  for the pair i of a head

Pairs are (i, i + d/2) ("half"); models that store pairs as (2i, 2i + 1) are reordered first.

Source: transformers modeling_rope_utils.py; YaRN, arXiv 2309.00071 section 3; llama3 as published
with Llama 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, mul, to_dtype

F32 = np.float32
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Rope:
    """What config.json says about rotary positions.

    Attributes:
        kind: "default", "linear", "llama3" or "yarn".
        dim: rotated columns of a head, even.
        theta: base of the frequencies.
        factor: by how much the context was stretched.
        original: positions the model was trained on before.
        low, high: llama3 low_freq_factor and high_freq_factor.
        beta_fast, beta_slow, mscale, mscale_all_dim, attention_factor: yarn.
    """

    kind: str
    dim: int
    theta: float
    factor: float = 1.0
    original: float = 0.0
    low: float = 1.0
    high: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None


def yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """0.1·mscale·ln(factor) + 1, and 1 for factors up to 1: yarn's attention temperature."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def frequencies(rope: Rope) -> tuple[Array, float]:
    """Return the frequencies f (dim/2,) float32 and the factor on cos and sin."""
    base = F32(1) / _powers(rope)
    return KINDS[rope.kind](rope, base)


def cos_sin(rope: Rope, positions: NDArray[np.int64], dtype: np.dtype) -> tuple[NDArray, NDArray]:
    """cos and sin of every position's angles, rounded to the model dtype.

    The angle is one float32 product; its cosine is taken in float64 and rounded to float32.

    Args: rope; positions (t,) integers; dtype. Returns: two (t, dim/2) of dtype.
    """
    f, factor = frequencies(rope)
    angle = (positions.astype(F32)[:, None] * f).astype(np.float64)  # (t, dim / 2)
    cos, sin = (g(angle).astype(F32) * F32(factor) for g in (np.cos, np.sin))
    return to_dtype(cos, dtype), to_dtype(sin, dtype)


def rotate(x: NDArray, cos: NDArray, sin: NDArray) -> NDArray:
    """Rotate each pair (i, i + d/2) by the angles of its position; three rounded operations.

    Args: x (h, t, d) of T; cos, sin (t, d/2) of T. Returns: (h, t, d) of T.
    """
    a, b = np.split(x, 2, axis=-1)  # (h, t, d / 2) each
    left = add(mul(a, cos, x.dtype), mul(-as_float32(b), sin, x.dtype), x.dtype)
    right = add(mul(b, cos, x.dtype), mul(a, sin, x.dtype), x.dtype)
    return np.concatenate([left, right], axis=-1)


def halves_of_pairs(x: NDArray) -> NDArray:
    """Reorder columns 0, 1, 2, 3, .. to 0, 2, .., 1, 3, ..: pairs (2i, 2i+1) to (i, i + d/2)."""
    return np.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)


def _powers(rope: Rope) -> Array:
    """theta^(2i/dim), float32 (dim/2,)."""
    exponent = np.arange(0, rope.dim, 2).astype(F32) / F32(rope.dim)
    return (np.float64(rope.theta) ** exponent.astype(np.float64)).astype(F32)


def _default(rope: Rope, base: Array) -> tuple[Array, float]:
    return base, 1.0


def _linear(rope: Rope, base: Array) -> tuple[Array, float]:
    return base / F32(rope.factor), 1.0


def _llama3(rope: Rope, base: Array) -> tuple[Array, float]:
    """Long waves are stretched by factor, short ones kept, those between interpolated."""
    wave = F32(2 * math.pi) / base
    smooth = (F32(rope.original) / wave - F32(rope.low)) / F32(rope.high - rope.low)
    mixed = (F32(1) - smooth) * (base / F32(rope.factor)) + smooth * base
    long, short = wave > F32(rope.original / rope.low), wave < F32(rope.original / rope.high)
    return np.where(long, base / F32(rope.factor), np.where(short, base, mixed)), 1.0


def _yarn(rope: Rope, base: Array) -> tuple[Array, float]:
    """Dimensions that turn often keep f, those that turn rarely get f/factor, a ramp between."""
    low = max(math.floor(_turning_dim(rope, rope.beta_fast)), 0)
    high: float = min(math.ceil(_turning_dim(rope, rope.beta_slow)), rope.dim - 1)
    high = high + 0.001 if low == high else high
    ramp = np.clip(
        (np.arange(rope.dim // 2, dtype=F32) - F32(low)) / F32(high - low), F32(0), F32(1)
    )
    keep = F32(1) - ramp
    stretched = F32(1) / (F32(rope.factor) * _powers(rope))
    return stretched * (F32(1) - keep) + base * keep, _yarn_attention(rope)


def _turning_dim(rope: Rope, turns: float) -> float:
    """The dimension whose wave turns `turns` times over the original context."""
    wave = rope.original / (turns * 2 * math.pi)
    return rope.dim * math.log(wave) / (2 * math.log(rope.theta))


def _yarn_attention(rope: Rope) -> float:
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return yarn_scale(rope.factor, rope.mscale) / yarn_scale(rope.factor, rope.mscale_all_dim)
    return yarn_scale(rope.factor)


KINDS: dict[str, Callable[[Rope, Array], tuple[Array, float]]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
