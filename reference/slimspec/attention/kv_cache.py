"""Int8 KV cache (C8): one scale and offset per channel of the cached key and value.

    quantize    q = clip(rint(x·(1/scale) + offset))       steps in D
                q = clip(rint(x/scale) + offset)           form "div"
    dequantize  x̂ = (q − offset)·scale                     canonical

D is the common dtype of x and scale, float32 if they differ; each step rounds to D. q − offset is
an integer of at most 9 bits and exact in every dtype, so dequantization rounds once.

Consumers disagree when an offset is not zero: some ignore it (`scale_only`), some add it
(`plus_offset`). With offset 0 the three rules are one.

Source: integer_semantics.md B.10; math.md 9.1.
"""

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.profiles import Numerics, to_output
from slimspec.numeric import add, as_float32, div, mul, round_half_even, saturate_int8, sub

Rule = Literal["canonical", "scale_only", "plus_offset"]
F32 = np.float32


def quantize_kv(
    x: NDArray,
    scale: NDArray,
    offset: NDArray | float = 0.0,
    form: Literal["mul", "div"] = "mul",
) -> NDArray[np.int8]:
    """q = clip(rint(x·(1/scale) + offset), −128, 127).

    Args:
        x: (s, kv_dim) float16, bfloat16 or float32, keys or values of s tokens.
        scale: (kv_dim,) float.
        offset: (kv_dim,) float or scalar, integer-valued.
        form: "mul" by the rounded reciprocal, or "div" with the offset added after rounding.

    Returns:
        (s, kv_dim) int8; NaN becomes 0.

    Raises:
        TypeError, ValueError: dtype or form is not the above.
    """
    common = x.dtype if x.dtype == scale.dtype else F32
    if form == "mul":
        ratio = mul(x, div(1.0, scale, scale.dtype), common)
        return saturate_int8(round_half_even(add(ratio, offset, common)), nan=0)
    if form == "div":
        codes = round_half_even(div(x, scale, common))
        return saturate_int8(add(codes, offset, F32), nan=0)
    raise ValueError(f'form: expected "mul" or "div", found {form!r}')


def dequantize_kv(
    q: NDArray[np.int8],
    scale: NDArray,
    offset: NDArray | float = 0.0,
    dtype: DTypeLike = np.float16,
    rule: Rule = "canonical",
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """x̂ = T((q − offset)·scale), or what another rule makes of it.

    Args:
        q: (s, kv_dim) int8.
        scale, offset: as `quantize_kv`.
        dtype: T: float16, bfloat16 or float32.
        rule: "canonical", "scale_only" (offset ignored) or "plus_offset".
        numerics: profile name.

    Returns:
        (s, kv_dim) of dtype.

    Raises:
        TypeError, ValueError: dtype or rule is not the above.
    """
    if rule not in ("canonical", "scale_only", "plus_offset"):
        raise ValueError(f"rule: expected canonical, scale_only or plus_offset, found {rule!r}")
    shifted = as_float32(q)
    if rule == "canonical":
        shifted = sub(shifted, offset, F32)
    elif rule == "plus_offset":
        shifted = add(shifted, offset, F32)
    return to_output(mul(shifted, scale, F32), dtype, numerics)
