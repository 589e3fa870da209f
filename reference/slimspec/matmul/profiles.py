"""Named numerics profiles: what differs between the kernels of different chips.

| profile | fp16 overflow | static activation quantizer | dynamic quantizer |
|---|---|---|---|
| canonical | inf, NaN stays | float32, divide, round, clip | float32, half to even |
| sat | ±65504, NaN -> 0 | as canonical | as canonical |
| k310p | as canonical | fp16 divide, fp16 add, clip, round | fp16, half away from zero |

`canonical` is normative. The fp16 overflow of the 310P is not public; `k310p` keeps inf.

Source: integer_semantics.md B.0, B.11, B.12.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import float32_to_fp16, to_dtype


@dataclass(frozen=True)
class Numerics:
    """One profile; the fields name the rules that it selects."""

    name: str
    fp16_overflow: Literal["inf", "saturate"]
    static_quant: Literal["div", "atb_kernel"]
    dynamic_quant: Literal["golden", "k310p"]


PROFILES = {
    p.name: p
    for p in (
        Numerics("canonical", "inf", "div", "golden"),
        Numerics("sat", "saturate", "div", "golden"),
        Numerics("k310p", "inf", "atb_kernel", "k310p"),
    )
}


def profile(numerics: str | Numerics) -> Numerics:
    """Look a profile up by name; a `Numerics` passes through. Raises: ValueError."""
    if isinstance(numerics, Numerics):
        return numerics
    if numerics not in PROFILES:
        raise ValueError(f"numerics: expected one of {', '.join(PROFILES)}, found {numerics!r}")
    return PROFILES[numerics]


def to_output(
    y: NDArray[np.float32], out_dtype: DTypeLike, numerics: str | Numerics = "canonical"
) -> NDArray:
    """Round float32 once, half to even, to the output dtype, with the overflow of the profile.

    Args:
        y: float32, any shape.
        out_dtype: float16, bfloat16 or float32; only float16 can saturate.
        numerics: profile.

    Returns:
        Array of `out_dtype`, shape of y.
    """
    if np.dtype(out_dtype) == np.float16:
        return float32_to_fp16(y, profile(numerics).fp16_overflow).view(np.float16)
    return to_dtype(y, out_dtype)
