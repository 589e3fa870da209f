"""Quantized all-reduce of a row-parallel linear: int8 on the wire, per output channel.

    each rank:  q_r = clip(rint(y_r/reduce_scale), ±127),  ŷ_r = q_r·reduce_scale
    sum:        s = Σ_r ŷ_r                                rank order, float32
    gather:     q = clip(rint(s/gather_scale), ±127),      out = q·gather_scale

The stored scale is max/127 over devices and tokens.

Source: math.md 4.4.
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, div, mul, round_half_even, saturate

F32 = np.float32


def reduce_quantized(
    partial: NDArray[np.float32],
    reduce_scale: NDArray[np.float32],
    gather_scale: NDArray[np.float32],
) -> NDArray[np.float32]:
    """out = dq(q(Σ_r dq(q(y_r)))) with per-channel symmetric int8 in [−127, 127].

    Args:
        partial: (ranks, m, n) float, the ranks' partial outputs.
        reduce_scale: (n,) or per rank (ranks, n) float32.
        gather_scale: (n,) float32.

    Returns:
        (m, n) float32.
    """
    per_rank = np.broadcast_to(reduce_scale, (partial.shape[0], partial.shape[2]))  # (ranks, n)
    total = np.zeros(partial.shape[1:], F32)
    for y, scale in zip(partial, per_rank, strict=True):
        total = add(total, mul(quantize_channels(y, scale), scale, F32), F32)
    return mul(quantize_channels(total, gather_scale), gather_scale, F32)


def quantize_channels(y: NDArray, scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """q = clip(rint(y/scale), ±127). Args: y (m, n) float, scale (n,). Returns: (m, n) int8."""
    return saturate(round_half_even(div(y, scale, F32)), -127, 127, np.int8, nan=0)
