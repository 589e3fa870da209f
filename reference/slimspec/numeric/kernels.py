"""Compiled casts between float32 and the 16-bit floats, the same bits as `bf16` and `fp16`.

Importing this module imports numba: do so only where large arrays are at hand. With
NUMBA_DISABLE_JIT=1 the array functions take the plain form. The scalar functions are for use inside
other kernels.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from .bf16 import bf16_to_float32, float32_to_bf16
from .fp16 import float32_to_fp16, fp16_to_float32
from .jit import jit_enabled

_U = np.uint32
_TINY = np.float32(2.0**-24)
_HALF = np.float32(0.5)  # its last digit is 2^-24, so adding it rounds to fp16 subnormals
_HALF_BITS = _U(0x3F000000)
_INF = _U(0x7F800000)
_FP16_NORMAL = _U(0x38800000)  # 2^-14
_FP16_PAST = _U(0x477FF000)  # 65520, halfway to 2^16: rounds to 0x7C00


@njit(nogil=True, cache=True, inline="always")
def bf16_bits(x):  # type: ignore[no-untyped-def]
    """float32 -> bfloat16 bits as uint32, nearest even, NaN -> quiet NaN with its sign."""
    u = np.float32(x).view(np.uint32)
    sign, m = _U((u >> _U(16)) & _U(0x8000)), _U(u & _U(0x7FFFFFFF))
    number = _U(min(m, _INF))  # computed for NaN too, then dropped: selects are vectorised
    rounded = _U(_U(number + _U(0x7FFF) + ((number >> _U(16)) & _U(1))) >> _U(16))
    return _U(sign | (_U(0x7FC0) if m > _INF else rounded))


@njit(nogil=True, cache=True, inline="always")
def bf16_value(bits):  # type: ignore[no-untyped-def]
    """bfloat16 bits -> float32."""
    return _U(_U(bits) << _U(16)).view(np.float32)


@njit(nogil=True, cache=True, inline="always")
def fp16_bits(x):  # type: ignore[no-untyped-def]
    """float32 -> fp16 bits as uint32, nearest even, overflow -> inf, NaN as `bf16_bits`."""
    u = np.float32(x).view(np.uint32)
    sign, m = _U((u >> _U(16)) & _U(0x8000)), _U(u & _U(0x7FFFFFFF))
    number = _U(min(max(m, _FP16_NORMAL), _FP16_PAST))  # from 65520 on: fp16 infinity
    normal = _U(_U(number + _U(0xFFF) + ((number >> _U(13)) & _U(1))) >> _U(13)) - _U(0x1C000)
    small = _U(min(m, _FP16_NORMAL)).view(np.float32)
    subnormal = np.float32(small + _HALF).view(np.uint32) - _HALF_BITS
    finite = _U(subnormal) if m < _FP16_NORMAL else _U(normal)
    return _U(sign | (_U(0x7E00) if m > _INF else finite))


@njit(nogil=True, cache=True, inline="always")
def fp16_value(bits):  # type: ignore[no-untyped-def]
    """fp16 bits -> float32."""
    b = _U(bits)
    sign = _U(_U(b & _U(0x8000)) << _U(16))
    e = _U(_U(b >> _U(10)) & _U(31))
    m = _U(b & _U(0x3FF))
    if e == _U(0):
        magnitude = np.float32(np.float32(m) * _TINY).view(np.uint32)
    elif e == _U(31):
        magnitude = _U(_U(0x7F800000) | _U(m << _U(13)))
    else:
        magnitude = _U(_U(_U(e + _U(112)) << _U(23)) | _U(m << _U(13)))
    return _U(sign | magnitude).view(np.float32)


@njit(nogil=True, cache=True)
def _narrow_bf16(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = np.uint16(bf16_bits(x[i]))


@njit(nogil=True, cache=True)
def _narrow_fp16(x, out):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = np.uint16(fp16_bits(x[i]))


@njit(nogil=True, cache=True)
def _widen_bf16(bits, out):  # type: ignore[no-untyped-def]
    for i in range(bits.size):
        out[i] = bf16_value(bits[i])


@njit(nogil=True, cache=True)
def _widen_fp16(bits, out):  # type: ignore[no-untyped-def]
    for i in range(bits.size):
        out[i] = fp16_value(bits[i])


def narrow(x: NDArray[np.float32], dtype: DTypeLike) -> NDArray:
    """Round float32 to float16 or bfloat16. Args: x float32, any layout. Returns: `dtype`."""
    half = np.dtype(dtype) == np.float16
    if not jit_enabled():
        bits = float32_to_fp16(x) if half else float32_to_bf16(x)
        return bits.view(dtype)
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(flat.shape, np.uint16)
    (_narrow_fp16 if half else _narrow_bf16)(flat, out)
    return out.view(dtype).reshape(x.shape)


def widen(x: NDArray) -> NDArray[np.float32]:
    """Widen float16 or bfloat16 to float32. Args: x, any layout. Returns: float32, same shape."""
    half = x.dtype == np.float16
    if not half and x.dtype != ml_dtypes.bfloat16:
        raise TypeError(f"expected float16 or bfloat16, found {x.dtype}")
    bits = np.ascontiguousarray(x).view(np.uint16)
    if not jit_enabled():
        return fp16_to_float32(bits) if half else bf16_to_float32(bits)
    out = np.empty(bits.size, np.float32)
    (_widen_fp16 if half else _widen_bf16)(bits.reshape(-1), out)
    return out.reshape(x.shape)
