"""A second derivation with rational arithmetic: what one rounding of the true result gives.

Nothing here uses the reference or floating point for finite results. A value v is rounded to a
format of p significant bits and least exponent e as

    u = 2^(max(floor(log2 |v|), e) - p + 1),    v -> round_half_even(v / u)·u,

and to infinity if that exceeds the largest number. Only zeros, infinities and NaN follow the IEEE
rules of float64. Slow and small: it makes golden vectors, it does not run models.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

Rule = Callable[[Fraction], int]


class Format(NamedTuple):
    """Significant bits, least exponent, largest finite number, NumPy dtype."""

    bits: int
    least: int
    largest: Fraction
    dtype: Any


F32 = Format(24, -126, Fraction(2**24 - 1) * 2**104, np.float32)
F16 = Format(11, -14, Fraction(65504), np.float16)
BF16 = Format(8, -126, Fraction(255) * 2**120, ml_dtypes.bfloat16)
FORMATS = {"F32": F32, "F16": F16, "BF16": BF16}


def nearest(value: Fraction, form: Format) -> Fraction | None:
    """Round to the format, ties to even; None for infinity."""
    if value == 0:
        return value
    unit = _unit(abs(value), form)
    rounded = round(value / unit) * unit  # Fraction rounds half to even
    return rounded if abs(rounded) <= form.largest else None


def _unit(magnitude: Fraction, form: Format) -> Fraction:
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    return Fraction(2) ** (max(exponent, form.least) - form.bits + 1)


def _apply(
    form: Format,
    exact: Callable[..., Fraction],
    ieee: Callable[..., Any],
    *operands: ArrayLike,
) -> NDArray:
    arrays = np.broadcast_arrays(*(np.asarray(o).astype(np.float64) for o in operands))
    out = np.zeros(arrays[0].shape, np.float64)
    with np.errstate(all="ignore"):
        for at in np.ndindex(out.shape):
            values = [float(a[at]) for a in arrays]
            plain = float(ieee(*(np.float64(v) for v in values)))
            if not np.isfinite(values).all() or not np.isfinite(plain) or plain == 0:
                out[at] = plain
                continue
            found = nearest(exact(*(Fraction(v) for v in values)), form)
            out[at] = np.copysign(np.inf, plain) if found is None else float(found)
            if found == 0:
                out[at] = np.copysign(0.0, plain)
        return out.astype(form.dtype)


def cast(x: ArrayLike, form: Format) -> NDArray:
    """Round x once."""
    return _apply(form, lambda a: a, lambda a: a, x)


def add(x: ArrayLike, y: ArrayLike, form: Format = F32) -> NDArray:
    """Round x + y once."""
    return _apply(form, lambda a, b: a + b, np.add, x, y)


def sub(x: ArrayLike, y: ArrayLike, form: Format = F32) -> NDArray:
    """Round x - y once."""
    return _apply(form, lambda a, b: a - b, np.subtract, x, y)


def mul(x: ArrayLike, y: ArrayLike, form: Format = F32) -> NDArray:
    """Round x·y once."""
    return _apply(form, lambda a, b: a * b, np.multiply, x, y)


def div(x: ArrayLike, y: ArrayLike, form: Format = F32) -> NDArray:
    """Round x / y once."""
    return _apply(form, lambda a, b: a / b, np.divide, x, y)


def exp(x: ArrayLike, form: Format = F32) -> NDArray:
    """Round e^x once, from 60 decimal digits of it."""
    with localcontext(prec=60):
        return _apply(form, lambda a: Fraction(_decimal(a).exp()), np.exp, x)


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def half_even(value: Fraction) -> int:
    """Nearest integer, ties to the even one."""
    return round(value)


def half_away(value: Fraction) -> int:
    """Nearest integer, ties away from zero."""
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def integers(x: ArrayLike, rule: Rule = half_even) -> list[Any]:
    """Round finite floats to Python integers, nested as x; NaN and infinities stay floats."""
    flat = [_integer(float(v), rule) for v in np.asarray(x).astype(np.float64).ravel()]
    return np.array(flat, dtype=object).reshape(np.shape(x)).tolist()


def _integer(value: float, rule: Rule) -> int | float:
    return rule(Fraction(value)) if np.isfinite(value) else value


def clipped(codes: Any, low: int, high: int, dtype: Any = np.int8) -> NDArray:
    """Clip Python integers (or infinities) to [low, high]; NaN becomes 0."""
    array = np.array(codes, dtype=object)
    flat = [0 if v != v else int(min(max(v, low), high)) for v in array.ravel()]
    return np.array(flat, dtype=dtype).reshape(array.shape)


def matmul(x: NDArray, w: NDArray) -> NDArray[np.int32]:
    """Σ_k x·w with Python integers, low 32 bits as two's complement."""
    left, right = x.tolist(), w.tolist()
    rows = [[sum(p * q for p, q in zip(a, b, strict=True)) for b in right] for a in left]
    wrapped = [[(v + 2**31) % 2**32 - 2**31 for v in row] for row in rows]
    return np.array(wrapped, np.int32).reshape(x.shape[0], w.shape[0])


def fp19(scale: ArrayLike) -> NDArray[np.float32]:
    """Keep sign, exponent and 10 mantissa bits of float32, through its decimal value."""
    flat = []
    for value in np.asarray(scale, np.float32).ravel().tolist():
        exact = Fraction(value)
        unit = (
            _unit(abs(exact), Format(11, -126, F32.largest, np.float32)) if exact else Fraction(1)
        )
        flat.append(float(int(exact / unit) * unit))  # int() truncates toward zero
    return np.array(flat, np.float32).reshape(np.shape(scale))
