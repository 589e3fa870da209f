"""Choices that several operations share: rounding, narrowing and output casts, right and wrong."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.deq_word import scale_bits
from slimspec.matmul.dequantize import read_scale
from slimspec.matmul.profiles import to_output
from slimspec.numeric import (
    add,
    as_float32,
    round_fp19,
    round_half_away,
    round_half_even,
    round_trunc,
    saturate,
    sub,
    to_dtype,
    truncate_fp19,
)

F32 = np.float32

ROUNDINGS: dict[str, Callable] = {
    "half to even": round_half_even,
    "half away from zero": round_half_away,
    "truncated toward zero": round_trunc,
}


def wrap(codes: NDArray, low: int, high: int) -> NDArray[np.int8]:
    """Keep the low bits of the integer, sign-extended: what a narrowing without clip does."""
    finite = np.nan_to_num(codes.astype(np.float64), posinf=2.0**62, neginf=-(2.0**62))
    span = high - low + 1
    return ((finite.astype(np.int64) - low) % span + low).astype(np.int8)


def clip(codes: NDArray, low: int, high: int) -> NDArray[np.int8]:
    """Saturate to [low, high]."""
    return saturate(codes, low, high, np.int8, nan=0)


OFFSETS: dict[str, Callable] = {
    "added before rounding": lambda r, z, t, rnd: rnd(add(r, z, t)),
    "rounded before the offset": lambda r, z, t, rnd: add(rnd(r), z, F32),
    "offset subtracted": lambda r, z, t, rnd: rnd(sub(r, z, t)),
    "offset ignored": lambda r, z, t, rnd: rnd(r),
}

NARROWINGS: dict[str, Callable] = {
    "saturates": clip,
    "wraps instead of saturating": wrap,
    "saturates to a symmetric range": lambda codes, low, high: clip(codes, -high, high),
}


def toward_zero(y: NDArray[np.float32], dtype: DTypeLike) -> NDArray:
    """Narrow float32 by truncation: never larger in magnitude than y."""
    near = to_dtype(y, dtype)
    if near.dtype == F32:
        return near
    over = np.abs(as_float32(near)) > np.abs(y)
    bits = near.view(np.uint16)
    return np.where(over, bits - np.uint16(1), bits).astype(np.uint16).view(near.dtype)


def half_away(y: NDArray[np.float32], dtype: DTypeLike) -> NDArray:
    """Narrow float32 to nearest, ties away from zero."""
    low = toward_zero(y, dtype)
    if low.dtype == F32:
        return low
    high = (low.view(np.uint16) + np.uint16(1)).view(low.dtype)
    with np.errstate(invalid="ignore"):
        below = np.abs(y.astype(np.float64) - low.astype(np.float64))
        above = np.abs(high.astype(np.float64) - y.astype(np.float64))
    near = to_dtype(y, dtype)
    tie = (below == above) & (below > 0)
    return np.where(tie, high.view(np.uint16), near.view(np.uint16)).view(near.dtype)


def integer_first(y: NDArray[np.float32], dtype: DTypeLike) -> NDArray:
    """Round to an integer before the cast."""
    return to_output(round_half_even(y), dtype)


CASTS: dict[str, Callable] = {
    "half to even, overflow to inf": to_output,
    "fp16 overflow saturates (sat)": lambda y, dtype: to_output(y, dtype, "sat"),
    "output truncated toward zero": toward_zero,
    "output rounded half away from zero": half_away,
    "output rounded to an integer first": integer_first,
}


def _whole(scale: NDArray) -> NDArray[np.float32]:
    """The scale with all its float32 bits, also of a word."""
    return read_scale(scale_bits(scale) if scale.dtype.kind in "iu" else scale)


SCALES: dict[str, Callable] = {
    "as stored": read_scale,
    "FP19 not truncated": _whole,
    "scale truncated to FP19": lambda s: truncate_fp19(read_scale(s)),
    "FP19 rounded instead of truncated": lambda s: round_fp19(_whole(s)),
    "scale rounded to fp16": lambda s: as_float32(to_dtype(_whole(s), np.float16)),
    "scale rounded to bf16": lambda s: as_float32(to_dtype(_whole(s), ml_dtypes.bfloat16)),
}
