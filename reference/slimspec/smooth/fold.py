"""Fold a scale into the layers around a tensor: x / s here, W·s there, y unchanged.

    norm:   weight / s, bias / s          producer: W / s[:, None], b / s
    consumers: W·s[None, :]

In exact arithmetic the outputs stay the same. In the model's dtype "v0" divides and "v1" multiplies
by 1/s, which is rounded first; that is visible in the last bit (math.md 8.1, 8.2).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, sub, to_dtype
from slimspec.quantize.affine import Variant


class Affine(NamedTuple):
    """A norm's or linear's parameters: weight [k] or [n, k], bias [k] or [n], or None."""

    weight: NDArray
    bias: NDArray | None


def _divided(x: NDArray, scale: NDArray, variant: Variant) -> NDArray:
    if variant == "v0":
        return div(x, scale, x.dtype)
    return mul(x, div(1.0, scale, scale.dtype), x.dtype)


def fold_norm(norm: Affine, scale: NDArray, variant: Variant) -> Affine:
    """Return the norm whose outputs are divided by `scale`.

    Args: norm weight [k], bias [k] or None; scale [k]. Returns: dtypes as given.
    Source: math.md 8.1; msmodelslim processor/anti_outlier/common/subgraph_fusion.py:186-222.
    """
    bias = None if norm.bias is None else _divided(norm.bias, scale, variant)
    return Affine(_divided(norm.weight, scale, variant), bias)


def fold_producer(linear: Affine, scale: NDArray, variant: Variant) -> Affine:
    """Return the linear whose outputs are divided by `scale`.

    Args: linear weight [n, k], bias [n] or None; scale [n]. Returns: dtypes as given.
    Source: math.md 8.1; subgraph_fusion.py:79-183.
    """
    bias = None if linear.bias is None else _divided(linear.bias, scale, variant)
    return Affine(_divided(linear.weight, scale[:, None], variant), bias)


def fold_consumer(w: NDArray, scale: NDArray) -> NDArray:
    """Return W·s for a linear whose inputs were divided by s. Args: w [n, k]; scale [k]."""
    return mul(w, scale, w.dtype)


def fuse_norm(w: NDArray, norm_weight: NDArray) -> NDArray:
    """Return W·diag(g): the linear that takes over its norm's weight, which becomes ones.

    Rotations need this first. Computed in float32. Args: w [n, k]; norm_weight [k].
    Source: math.md 11.1; msmodelslim processor/quarot/common/quarot_utils.py:170-205.
    """
    return to_dtype(as_float32(w) * as_float32(norm_weight), w.dtype)


def shift_consumer(linear: Affine, shift: NDArray) -> Affine:
    """Return the linear whose inputs come without `shift`: bias + shift·Wᵀ, on the original W.

    A missing bias becomes zeros. Args: weight [n, k]; shift [k]. Source: math.md 8.1 (is_shift).
    """
    w, dtype = linear.weight, linear.weight.dtype
    exact = shift.astype(np.float64) @ w.astype(np.float64).T  # no order of sums shows in float32
    moved = to_dtype(exact.astype(np.float32), dtype)
    bias = np.zeros(w.shape[0], dtype) if linear.bias is None else linear.bias
    return Affine(w, add(bias, moved, dtype))


def shift_producer(linear: Affine, shift: NDArray, scale: NDArray) -> Affine:
    """Return W / s and (b - shift) / s: outputs without `shift`, divided by `scale` (v0).

    Args: weight [n, k]; shift, scale [n]. Source: math.md 8.1 (is_shift).
    """
    w, dtype = linear.weight, linear.weight.dtype
    bias = np.zeros(w.shape[0], dtype) if linear.bias is None else linear.bias
    moved = div(sub(bias, shift, dtype), scale, dtype)
    return Affine(div(w, scale[:, None], dtype), moved)


def value_rows_scale(scale: NDArray, rows: int, heads: int) -> tuple[NDArray, NDArray]:
    """Return (scale of o's columns, scale of the rows that make its input), V0's rule by size.

    rows = heads·d        the value projection itself: s for both
    rows = 3·heads·d      fused q, k, v: [ones, ones, s]
    rows < heads·d        the value projection of GQA, ratio = heads·d // rows query heads each:
                          their mean
    else                  fused GQA: q, then k and v of (rows - heads·d)/2 each: [ones, mean]
    Args: scale [heads·d] of the output projection's inputs; rows of the projection before it.
    Returns: [heads·d], [rows]. Raises: ValueError if the sizes fit none. Source: math.md 8.1.
    """
    size = scale.size
    if size % heads:
        raise ValueError(f"{size} channels do not divide into {heads} heads")
    if rows == size:
        return scale, scale
    if rows == 3 * size:
        return scale, np.concatenate([np.ones(2 * size, scale.dtype), scale])
    kv_rows = rows if rows < size else (rows - size) // 2
    if kv_rows < 1 or size % kv_rows or (rows > size and (rows - size) % 2):
        raise ValueError(f"{rows} rows before {size} channels are neither q, k, v nor v alone")
    from .scales import grouped_mean

    kv_heads = heads * kv_rows // size
    o, v = grouped_mean(scale, heads, kv_heads)
    return o, np.concatenate([np.ones(rows - kv_rows, scale.dtype), v])
