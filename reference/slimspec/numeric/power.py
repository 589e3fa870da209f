"""x^y in float32 as torch computes it on CPU: SLEEF's powf in vectors, libm's powf for the rest.

    x^y = exp(y · log x), with log and its product by y held as pairs of float32 (high + low)

The coefficients are those of SLEEF 3 (sleefsimdsp.c: logkf, expkf, xpowf at 1.0 ULP), which torch's
vector classes call; every step below is one float32 operation, fused where SLEEF fuses. What fills
no pair of 16-lane vectors is raised by libm in float64 and rounded once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arithmetic import as_float32, model_dtype, to_dtype

F = np.float32
Array = NDArray[np.float32]

_LOG = (F(0.240320354700088500976562), F(0.285112679004669189453125), F(0.400007992982864379882812))
_TWO_THIRDS = (F(0.66666662693023681640625), F(3.69183861259614332084311e-09))
_LN2 = (F(0.69314718246459960938), F(-1.904654323148236017e-09))
_EXP = (
    F(0.00136324646882712841033936),
    F(0.00836596917361021041870117),
    F(0.0416710823774337768554688),
    F(0.166665524244308471679688),
    F(0.499999850988388061523438),
)
_LN2_UPPER, _LN2_LOWER = F(0.693145751953125), F(1.428606765330187045e-06)
_LOG2_E = F(1.442695040888963407359924681001892137426645954152985934135449406931)
_UNDERFLOW = F(-104)
_STEP_BYTES = 128  # torch's loop takes two AVX-512 vectors at a time


class Pair(NamedTuple):
    """The unevaluated sum high + low of two float32 arrays."""

    high: Array
    low: Array


def fused(a: Array, b: Array, c: Array) -> Array:
    """Return a·b + c rounded once to float32.

    The product is exact in float64; the sum is rounded to odd there (its last bit is set where the
    sum is inexact), so that the second rounding, to float32, decides as on the exact value.
    """
    product = a.astype(np.float64) * b
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    bits = np.atleast_1d(total).view(np.int64)
    inexact = (np.atleast_1d(lost) != 0) & np.isfinite(np.atleast_1d(total)) & (bits & 1 == 0)
    toward_zero = (np.atleast_1d(lost) < 0) == (np.atleast_1d(total) > 0)
    odd = np.where(inexact, np.where(toward_zero, bits - 1, bits + 1), bits)
    return odd.view(np.float64).astype(np.float32).reshape(np.shape(total))


def _add2(x: Pair, y: Pair) -> Pair:
    """Add pairs of any order of magnitude."""
    high = x.high + y.high
    v = high - x.high
    low = (x.high - (high - v)) + (y.high - v)
    return Pair(high, low + (x.low + y.low))


def _add(x: Pair, y: Pair) -> Pair:
    """Add pairs, |x| >= |y|."""
    high = x.high + y.high
    return Pair(high, (((x.high - high) + y.high) + x.low) + y.low)


def _single(x: Array) -> Pair:
    return Pair(x, np.zeros_like(x))


def _mul(x: Pair, y: Pair) -> Pair:
    high = x.high * y.high
    low = fused(x.high, y.high, -high)
    low = fused(x.low, y.high, low)
    return Pair(high, fused(x.high, y.low, low))


def _square(x: Pair) -> Pair:
    high = x.high * x.high
    low = fused(x.high, x.high, -high)
    return Pair(high, fused(x.high + x.high, x.low, low))


def _div(n: Pair, d: Pair) -> Pair:
    one = np.ones_like(d.high)
    t = one / d.high
    high = n.high * t
    rest = fused(-d.low, t, fused(-d.high, t, one))
    low = fused(n.low, t, fused(t, n.high, -high))
    return Pair(high, fused(high, rest, low))


def _polynomial(coefficients: tuple[np.float32, ...], x: Array) -> Array:
    """Return c0·x^m + ... + cm, each step fused."""
    value = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value = fused(value, x, np.full_like(x, c))
    return value


def _log(d: Array) -> Pair:
    """Return log d for positive finite d: d = m·2^e, 0.75 <= m < 1.5, x = (m - 1)/(m + 1)."""
    _, e = np.frexp(d * F(1 / 0.75))
    e = e.astype(np.int32) - 1
    m = np.ldexp(d, -e)
    one = np.ones_like(m)
    x = _div(_add2(_single(-one), _single(m)), _add2(_single(one), _single(m)))
    x2 = _square(x)
    ln2 = Pair(np.full_like(m, _LN2[0]), np.full_like(m, _LN2[1]))
    c = Pair(np.full_like(m, _TWO_THIRDS[0]), np.full_like(m, _TWO_THIRDS[1]))
    s = _add(_mul(ln2, _single(e.astype(np.float32))), Pair(x.high * F(2), x.low * F(2)))
    series = _add2(_mul(x2, _single(_polynomial(_LOG, x2.high))), c)
    return _add(s, _mul(_mul(x2, x), series))


def _exp(d: Pair) -> Array:
    """Return exp(d.high + d.low): d = q·log 2 + s, exp s by a polynomial."""
    q = np.rint((d.high + d.low) * _LOG2_E)
    s = _add2(d, _single(q * -_LN2_UPPER))
    s = _add2(s, _single(q * -_LN2_LOWER))
    high = s.high + s.low
    s = Pair(high, (s.high - high) + s.low)
    t = _add(s, _mul(_square(s), _single(_polynomial(_EXP, s.high))))
    t = _add(_single(np.ones_like(high)), t)
    result = np.ldexp(t.high + t.low, np.clip(q, F(-1000), F(1000)).astype(np.int32))
    return np.where(d.high < _UNDERFLOW, F(0), result)


def _pow(x: Array, y: np.float64, whole: int) -> Array:
    """Return x^y: `whole` values by SLEEF, the rest by libm. Args: x [m] float32."""
    exact = np.power(x[whole:].astype(np.float64), y).astype(np.float32)
    return np.concatenate([_sleef(x[:whole], F(y)), exact])


def _rsqrt(x: Array, whole: int, dtype: np.dtype) -> Array:
    """Return 1/sqrt(x); in the values after `whole` the root is rounded to the dtype as well."""
    root = np.sqrt(x)
    root[whole:] = as_float32(to_dtype(root[whole:], dtype))
    return np.divide(F(1), root, dtype=np.float32)


def _sleef(x: Array, y: np.float32) -> Array:
    """Return x^y for x >= 0 (NaN below), y not 0."""
    regular = (x > F(0)) & np.isfinite(x)
    base = np.where(regular, x, F(1))
    log = _log(base)
    result = _exp(_mul(log, _single(np.full_like(base, y))))
    at_zero, at_inf = (F(0), F(np.inf)) if y > 0 else (F(np.inf), F(0))
    result = np.where(x == F(0), at_zero, np.where(np.isposinf(x), at_inf, result))
    return np.where(np.isnan(x) | (x < F(0)), F(np.nan), result)


def power(x: NDArray, exponent: float) -> NDArray:
    """Return x^exponent as torch.pow(tensor, number) does on CPU.

    In 16-bit dtypes the exponent is first rounded to the dtype: 0.9 means 0.8984375 in bfloat16.
    0 and 1 are exact, 1/2 is the square root, -1/2 is 1/sqrt, -1 is 1/x; everything else is raised
    in float32 and rounded to the dtype. torch takes roots from a vendor library that may be one
    last digit off; the root here is the exact one, rounded.
    Args: x float32/float16/bfloat16, not negative (negative gives NaN); exponent any number.
    Returns: dtype and shape of x. Raises: TypeError for other dtypes.
    Source: pytorch aten/src/ATen/native/cpu/PowKernel.cpp; SLEEF src/libm/sleefsimdsp.c.
    """
    dtype = model_dtype(x.dtype)
    flat = as_float32(x).reshape(-1)
    step = _STEP_BYTES // dtype.itemsize
    whole = flat.size // step * step
    roots = dtype != np.float16  # float16 has no short cut for roots
    y = np.float64(exponent if dtype == np.float32 else np.asarray(exponent).astype(dtype))
    with np.errstate(all="ignore"):
        if exponent == 0:
            result = np.ones_like(flat)
        elif exponent == 1:
            result = flat
        elif exponent == 0.5 and roots:
            result = np.sqrt(flat)
        elif exponent == -0.5 and roots:
            result = _rsqrt(flat, whole, dtype)
        elif exponent == -1 and roots:
            result = F(1) / flat
        else:
            result = _pow(flat, y, whole)
    return to_dtype(result, dtype).reshape(x.shape)
