"""Quantize activations with a stored scale and offset (static W8A8).

Four forms are in public kernels; all of them keep the codes within 1 of each other:

| form | steps | dtype |
|---|---|---|
| div (canonical) | clip(rint(x/s + z)) | float32 |
| mul | clip(rint(x·r + z)), r = T(1/T(s)) given by the caller | float32 |
| atb | clip(rint(x/s) + z): rounds before the offset | float32 |
| atb_kernel (k310p) | clip(x/s + z), then rint | fp16: divide, add and clip each in fp16 |

Here s and z are the values as the kernel gets them: of the model's dtype T (`runtime_scale`).
ATB clips at −127 instead of −128 under an environment switch: argument `low`. Its kernel divides
bf16 inputs in float32 before the result becomes fp16.

Source: integer_semantics.md B.4; math.md 13.1.
"""

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import add, as_float32, div, mul, round_half_even, saturate, to_dtype

from .profiles import Numerics, profile

Form = Literal["div", "mul", "atb", "atb_kernel"]
Offset = NDArray | float


def quantize_static(
    x: NDArray,
    scale: NDArray,
    offset: Offset = 0.0,
    form: Form | None = None,
    numerics: str | Numerics = "canonical",
    low: int = -128,
    high: int = 127,
) -> NDArray[np.int8]:
    """q = clip(rint(x/scale + offset), low, high); other forms as in the module's table.

    Args:
        x: (...) float16, bfloat16 or float32.
        scale: (k,), (1,) or scalar; for form "mul" the reciprocal.
        offset: as scale, integer-valued.
        form: which formula; None takes the one of the profile.
        numerics: profile name.
        low, high: clip range, −8 and 7 for int4.

    Returns:
        int8, shape of x; NaN becomes 0.

    Raises:
        TypeError, ValueError: dtype or form is not the above.
    """
    form = form or profile(numerics).static_quant
    if form not in FORMS:
        raise ValueError(f"form: expected one of {', '.join(FORMS)}, found {form!r}")
    return saturate(FORMS[form](x, scale, offset, low, high), low, high, np.int8, nan=0)


def runtime_scale(
    input_scale: NDArray, input_offset: NDArray, model_dtype: DTypeLike
) -> tuple[NDArray, NDArray]:
    """What loaders hand to form "mul": r = T(1/T(scale)) and z = T(offset), T the model's dtype.

    Args:
        input_scale, input_offset: (1,) as stored.
        model_dtype: float16, bfloat16 or float32.

    Returns:
        (r, z) of model_dtype.
    """
    scale = to_dtype(input_scale, model_dtype)
    return div(1.0, scale, model_dtype), to_dtype(as_float32(input_offset), model_dtype)


def _div(x: NDArray, scale: NDArray, offset: Offset, low: int, high: int) -> NDArray:
    return round_half_even(add(div(x, scale, np.float32), offset, np.float32))


def _mul(x: NDArray, scale: NDArray, offset: Offset, low: int, high: int) -> NDArray:
    return round_half_even(add(mul(x, scale, np.float32), offset, np.float32))


def _atb(x: NDArray, scale: NDArray, offset: Offset, low: int, high: int) -> NDArray:
    return add(round_half_even(div(x, scale, np.float32)), offset, np.float32)


def _atb_kernel(
    x: NDArray, scale: NDArray, offset: NDArray | float, low: int, high: int
) -> NDArray:
    # One float32 division rounded to fp16 serves fp16 and bf16 inputs alike.
    shifted = add(div(x, scale, np.float16), offset, np.float16)  # fp16
    return round_half_even(np.clip(shifted, np.float16(low), np.float16(high)))  # fp16


FORMS = {"div": _div, "mul": _mul, "atb": _atb, "atb_kernel": _atb_kernel}
