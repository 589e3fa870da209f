"""Fewer mantissa bits for float16 weights, so that the tile codec finds repeated bytes.

    w = ±m · 2^e, 1 <= m < 2;  subnormal: m = |w| · 2^15, e = -15;  zero: m = 0, e = 0;
    infinity: m = inf, e = 16

Source: facts/math.md 7.3 (quantize_l2).
"""

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, round_half_even, round_trunc, to_dtype
from slimspec.sparse.outliers import Mask

KEEP_BITS = 2
SMALLEST_NORMAL = -14  # exponent of the smallest normal float16
SUBNORMAL = -15
INFINITE = 16
POWERS_BELOW = -10  # exponents under keep_bits + this become powers of two

Float16 = NDArray[np.float16]


def split_float16(w: Float16) -> tuple[Float16, NDArray[np.int32]]:
    """Return the signed mantissa ±m and the exponent e of each float16.

    Args: w float16, any shape. Returns: float16 and int32, same shape; -0 keeps its sign.
    Source: math.md 7.3.
    """
    size = np.abs(as_float32(w))
    fraction, exponent = np.frexp(size)  # fraction in [1/2, 1)
    subnormal = size < np.float32(2.0**SMALLEST_NORMAL)
    mantissa = np.where(subnormal, np.ldexp(size, -SUBNORMAL), np.ldexp(fraction, 1))
    power = np.where(subnormal, SUBNORMAL, np.where(np.isinf(size), INFINITE, exponent - 1))
    signed = np.copysign(mantissa, as_float32(w)).astype(np.float16)
    return signed, np.where(size == 0, 0, power).astype(np.int32)


def reduce_mantissa(
    w: NDArray, keep: Mask | None = None, *, bits: int = KEEP_BITS, nearest: bool = True
) -> Float16:
    """Return w in float16 with mantissas of `bits` bits.

    m' = round_half_even(m · 2^bits) / 2^bits      (truncated if not `nearest`)
    e < -14                       -> 0             (subnormals)
    where `keep`                  -> m             (kept subnormals survive)
    -14 <= e < bits - 10          -> 1, or 2 if m > 1.5      (kept or not)

    Args: w float32, float16 or bfloat16 [n, k], rounded to float16 first; keep bool [n, k].
    Returns: float16 [n, k]; what becomes zero keeps the sign of its weight. At 2 bits magnitudes
    of 61440 and more round up to infinity.
    Source: math.md 7.3; recorded cases show the band moving with `bits` (-8 at 2 bits).
    """
    half = to_dtype(as_float32(w), np.float16)
    signed, exponent = split_float16(half)
    mantissa = np.abs(as_float32(signed))
    round_to = round_half_even if nearest else round_trunc
    reduced = np.ldexp(round_to(np.ldexp(mantissa, bits)), -bits)
    reduced = np.where(exponent < SMALLEST_NORMAL, np.float32(0), reduced)
    if keep is not None:
        reduced = np.where(keep, mantissa, reduced)
    power = np.where(mantissa > np.float32(1.5), np.float32(2), np.float32(1))
    small = (exponent >= SMALLEST_NORMAL) & (exponent < bits + POWERS_BELOW)
    size = np.ldexp(np.where(small, power, reduced), exponent)
    return to_dtype(np.sign(as_float32(half)) * size, np.float16)
