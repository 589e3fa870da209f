"""AutoRound's apply step: quantize with learned rounding shifts and range factors.

The training (SignSGD on a block's error) is stochastic and is not reproduced; given its results v,
min_scale and max_scale, the integers are (math.md 3.6).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, round_half_even, to_dtype

from .affine import EPS, code_range, require_finite

SYMMETRIC_SMALLEST = EPS
ASYMMETRIC_SMALLEST = np.float32(1e-5)
_SHIFT_LIMIT = {4: np.float32(0.5), 8: np.float32(1.0)}


class Rounded(NamedTuple):
    """q float32 integers [n, k]; scale float32 [n, ceil(k/g)], holding float16 values; zero; g."""

    q: NDArray[np.float32]
    scale: NDArray[np.float32]
    zero: int
    group_size: int


def _groups(w: NDArray, group_size: int) -> NDArray[np.float32]:
    """Return [n, groups, g]; rows are padded with zeros to whole groups, 0 means one group."""
    n, k = w.shape
    g = group_size if 0 < group_size <= k else k
    padded = np.zeros((n, -(-k // g) * g), np.float32)
    padded[:, :k] = as_float32(w)
    return padded.reshape(n, -1, g)


def _clamped(scale: NDArray[np.float32], smallest: np.float32) -> NDArray[np.float32]:
    """Return the float16-rounded scale, its magnitude at least `smallest` (rounded likewise)."""
    half = to_dtype(scale, np.float16)
    least = to_dtype(smallest, np.float16)
    return as_float32(np.where(half < 0, np.minimum(half, -least), np.maximum(half, least)))


def apply_symmetric(
    w: NDArray,
    shift: NDArray | None = None,
    *,
    bits: int = 4,
    group_size: int = 0,
    min_scale: NDArray | float = 1.0,
    max_scale: NDArray | float = 1.0,
    name: str = "weight",
) -> Rounded:
    """Return q = clip(round_half_even(w/s + shift), -2^(bits-1), 2^(bits-1) - 1).

    s = fp16(max(-min(w, 0)·min_scale, max(w, 0)·max_scale) / (2^(bits-1) - 1)), at least 2^-23;
    the shift is limited to ±0.5 (4 bits) or ±1 (8 bits).
    Args: w [n, k]; shift [n, k] or None; min_scale, max_scale scalars or [n, k/g].
    Source: math.md 3.6; msmodelslim processor/quant/autoround_utils/utils.py:181-253.
    """
    require_finite(w, name)
    low, high = code_range(bits)
    groups = _groups(w, group_size)
    below, above = _extent(groups, min_scale, max_scale)
    scale = _clamped(div(np.maximum(above, below), high, np.float32), SYMMETRIC_SMALLEST)
    limit = _SHIFT_LIMIT.get(bits)
    if shift is not None and limit is not None:
        shift = np.clip(as_float32(shift), -limit, limit)
    q = np.clip(_moved(groups, scale, shift, group_size), np.float32(low), np.float32(high))
    return Rounded(_trimmed(q, w), scale, 0, groups.shape[2])


def apply_asymmetric(
    w: NDArray,
    shift: NDArray | None = None,
    *,
    bits: int = 4,
    group_size: int = 0,
    min_scale: NDArray | float = 1.0,
    max_scale: NDArray | float = 1.0,
    name: str = "weight",
) -> Rounded:
    """Return q = clip(round_half_even(w/s + shift) + 2^(bits-1), 0, 2^bits - 1), s signed.

    s = fp16(± the larger extent / (2^(bits-1) - 1)), negative where the negative extent is larger,
    |s| at least 1e-5: the larger side gets the one code more that the range has.
    Args and Source: as `apply_symmetric`, utils.py:102-178.
    """
    require_finite(w, name)
    _, high = code_range(bits)
    groups = _groups(w, group_size)
    below, above = _extent(groups, min_scale, max_scale)
    sign = np.where(above < below, np.float32(1), np.float32(-1))
    widest = sign * np.maximum(above, below)
    scale = _clamped(div(widest, high, np.float32), ASYMMETRIC_SMALLEST)
    zero = high + 1
    moved = add(_moved(groups, scale, shift, group_size), zero, np.float32)
    q = np.clip(moved, np.float32(0), np.float32(2**bits - 1))
    return Rounded(_trimmed(q, w), scale, zero, groups.shape[2])


def rounded_values(made: Rounded, dtype: np.dtype) -> NDArray:
    """Return scale·(q - zero) in `dtype`. Args: made; dtype of the model. Returns: [n, k]."""
    scale = np.repeat(made.scale, made.group_size, axis=1)[:, : made.q.shape[1]]
    return to_dtype(mul(scale, made.q - np.float32(made.zero), np.float32), dtype)


def _extent(
    groups: NDArray[np.float32], min_scale: NDArray | float, max_scale: NDArray | float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the learned extents below and above zero, each [n, groups], not negative."""
    zero = np.float32(0)
    below = -mul(np.minimum(groups.min(axis=2), zero), min_scale, np.float32)
    return below, mul(np.maximum(groups.max(axis=2), zero), max_scale, np.float32)


def _moved(
    groups: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray | None,
    group_size: int,
) -> NDArray[np.float32]:
    moved = div(groups, scale[..., None], np.float32)
    if shift is not None:
        moved = add(moved, _groups(shift, group_size), np.float32)
    return round_half_even(moved)


def _trimmed(q: NDArray[np.float32], w: NDArray) -> NDArray[np.float32]:
    return q.reshape(w.shape[0], -1)[:, : w.shape[1]]
