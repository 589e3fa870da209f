"""Compiled passes of affine weight quantization over rows, the same bits as the plain form.

Importing this module imports numba: do so only where large weights are at hand. Every kernel works
row by row, so that a thread pool over row ranges cannot change a bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from slimspec.numeric.kernels import bf16_value

_U = np.uint32
_SIGN_SHIFT = np.int32(31)
_ZERO = np.float32(0)
_TINY = np.float32(2.0**-24)  # the last digit of float16 subnormals


def available() -> bool:
    """Return False under NUMBA_DISABLE_JIT=1, where loops run in the interpreter."""
    return not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


def over_rows(kernel: Callable, threads: int, arrays: list[NDArray], *rest: object) -> None:
    """Call `kernel` on row ranges of all `arrays`, one range per thread; `rest` is passed whole."""
    rows = arrays[0].shape[0]
    threads = max(1, min(threads, rows))
    edges = [rows * i // threads for i in range(threads + 1)]
    ranges = [slice(a, b) for a, b in itertools.pairwise(edges)]
    if threads == 1:
        kernel(*arrays, *rest)
        return
    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(kernel, *(a[part] for a in arrays), *rest) for part in ranges]
        for task in tasks:
            task.result()


@njit(nogil=True, cache=True)
def _row_extrema(bits, low, high, mask):  # type: ignore[no-untyped-def]
    """Write each row's extrema as integers that order as the floats do: integer loops vectorize.

    The key flips all bits but the sign of a negative float; NaN sorts past the infinities.
    """
    rows, length = bits.shape
    for r in range(rows):
        lo = np.int32(0x7FFFFFFF)
        hi = np.int32(-0x80000000)
        for j in range(length):
            i = np.int32(bits[r, j])
            key = np.int32(i ^ ((i >> _SIGN_SHIFT) & mask))
            lo = min(lo, key)
            hi = max(hi, key)
        low[r] = lo
        high[r] = hi


def row_extrema(x: NDArray, threads: int = 1) -> tuple[NDArray, NDArray]:
    """Return minimum and maximum of each row; a row with NaN or infinity shows one of them.

    Args: x [rows, length >= 1] float32, float16 or bfloat16, C-contiguous.
    Returns: lo, hi [rows], dtype of x.
    """
    signed = np.dtype(f"i{x.dtype.itemsize}")
    mask = np.int32(np.iinfo(signed).max)
    low, high = np.empty(x.shape[0], np.int32), np.empty(x.shape[0], np.int32)
    over_rows(_row_extrema, threads, [x.view(signed), low, high], mask)
    lo, hi = (keys ^ ((keys >> _SIGN_SHIFT) & mask) for keys in (low, high))  # its own inverse
    return lo.astype(signed).view(x.dtype), hi.astype(signed).view(x.dtype)


@njit(nogil=True, cache=True)
def _finite_fp16_value(bits):  # type: ignore[no-untyped-def]
    """float16 bits -> float32, not for infinity and NaN: without branches the loop vectorizes."""
    b = _U(bits)
    magnitude = _U(b & _U(0x7FFF))
    normal = _U(_U(magnitude << _U(13)) + _U(0x38000000))  # exponent bias 15 -> 127
    tiny = np.float32(np.float32(np.int32(magnitude)) * _TINY).view(np.uint32)
    value = normal if magnitude >= _U(0x400) else tiny
    return _U(value | _U(_U(b & _U(0x8000)) << _U(16))).view(np.float32)


@njit(nogil=True, cache=True)
def _keep_fp16(x):  # type: ignore[no-untyped-def]
    """Round float32 half to even to the 11 bits of a normal float16.

    Below 2^-14 a float16 has fewer; both round to the integer 0 afterwards.
    """
    u = np.float32(x).view(np.uint32)
    return _U(_U(u + _U(0xFFF) + ((u >> _U(13)) & _U(1))) & _U(0xFFFFE000)).view(np.float32)


@njit(nogil=True, cache=True)
def _keep_bf16(x):  # type: ignore[no-untyped-def]
    """Round float32 half to even to the 8 bits of a bfloat16."""
    u = np.float32(x).view(np.uint32)
    return _U(_U(u + _U(0x7FFF) + ((u >> _U(16)) & _U(1))) & _U(0xFFFF0000)).view(np.float32)


@njit(nogil=True, cache=True)
def _code(value, low, high):  # type: ignore[no-untyped-def]
    return np.int8(min(max(np.rint(value), low), high))


@njit(nogil=True, cache=True)
def _encode_fp32(x, scale, offset, out, low, high):  # type: ignore[no-untyped-def]
    rows, length = x.shape
    for r in range(rows):
        s, z = scale[r], offset[r]
        for j in range(length):
            out[r, j] = _code(x[r, j] / s + z, low, high)


@njit(nogil=True, cache=True)
def _encode_bf16(bits, scale, offset, out, low, high):  # type: ignore[no-untyped-def]
    rows, length = bits.shape
    for r in range(rows):
        s, z = scale[r], offset[r]
        if z == _ZERO:  # adding nothing, rounding again changes nothing
            for j in range(length):
                out[r, j] = _code(_keep_bf16(bf16_value(bits[r, j]) / s), low, high)
        else:
            for j in range(length):
                moved = _keep_bf16(bf16_value(bits[r, j]) / s) + z
                out[r, j] = _code(_keep_bf16(moved), low, high)


@njit(nogil=True, cache=True)
def _encode_fp16(bits, scale, offset, out, low, high):  # type: ignore[no-untyped-def]
    rows, length = bits.shape
    for r in range(rows):
        s, z = scale[r], offset[r]
        if z == _ZERO:
            for j in range(length):
                out[r, j] = _code(_keep_fp16(_finite_fp16_value(bits[r, j]) / s), low, high)
        else:
            for j in range(length):
                moved = _keep_fp16(_finite_fp16_value(bits[r, j]) / s) + z
                out[r, j] = _code(_keep_fp16(moved), low, high)


def encode_rows(
    x: NDArray,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    low: int,
    high: int,
    threads: int = 1,
) -> NDArray[np.int8]:
    """Return clip(round_half_even(x / scale + offset)) per row, rounding as x's dtype does.

    Args: x [rows, length] float32, float16 or bfloat16, C-contiguous, finite; scale > 0 and
    offset [rows] float32, holding values of x's dtype. Returns: int8 [rows, length].
    """
    out = np.empty(x.shape, np.int8)
    kernel = {"float32": _encode_fp32, "float16": _encode_fp16}.get(x.dtype.name, _encode_bf16)
    values = x if x.dtype == np.float32 else x.view(np.uint16)
    over_rows(kernel, threads, [values, scale, offset, out], np.float32(low), np.float32(high))
    return out
