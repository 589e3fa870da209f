"""Dequantize with a scale per output channel and one per token (W8A8_DYNAMIC, prefill of MIX).

    scale_first (normative)  y = (fp32(acc)·weight_scale)·pertoken_scale [+ bias]
    token_first              y = fp32(acc)·(pertoken_scale·weight_scale) [+ bias]

Both orders are in public kernels. Every product rounds, so the orders differ in the last bit of
float32 for about a third of random inputs and, rarely, by one unit of the output dtype. A float
scale per channel is never truncated to FP19 here.

Source: integer_semantics.md B.3; math.md 13.2.
"""

from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .check import require
from .dequantize import add_float_bias, add_int32_bias, read_scale, scaled
from .profiles import Numerics, to_output

Order = Literal["scale_first", "token_first"]
NORMATIVE_ORDER: Order = "scale_first"


def dequantize_per_token(
    acc: NDArray[np.int32],
    weight_scale: NDArray[np.float32],
    pertoken_scale: NDArray[np.float32],
    bias: NDArray | None = None,
    out_dtype: DTypeLike = np.float16,
    order: Order = NORMATIVE_ORDER,
    numerics: str | Numerics = "canonical",
) -> NDArray:
    """out = T((fp32(acc)·weight_scale)·pertoken_scale + bias).

    Args:
        acc: (m, n) int32.
        weight_scale: (n,), (n, 1) or scalar float, widened to float32.
        pertoken_scale: (m,) float32.
        bias: (n,) int32 (added to acc) or float (added last), or None.
        out_dtype: float16, bfloat16 or float32.
        order: which product is made first.
        numerics: profile name.

    Returns:
        (m, n) of out_dtype.

    Raises:
        TypeError, ValueError: dtype, shape or order is not the above.
    """
    y = scale_per_token(add_int32_bias(acc, bias), weight_scale, pertoken_scale, order)
    return to_output(add_float_bias(y, bias), out_dtype, numerics)


def scale_per_token(
    acc: NDArray[np.int32],
    weight_scale: NDArray[np.float32],
    pertoken_scale: NDArray[np.float32],
    order: Order = NORMATIVE_ORDER,
) -> NDArray[np.float32]:
    """The two products in float32; shapes as `dequantize_per_token`. Returns: (m, n) float32."""
    require("pertoken_scale", pertoken_scale, (np.float32,), "(m,)", 1)
    channel = read_scale(weight_scale)  # (n,)
    token = pertoken_scale[:, None]  # (m, 1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if order == "scale_first":
            return np.multiply(scaled(acc, channel), token, dtype=np.float32)
        if order == "token_first":
            return scaled(acc, np.multiply(token, channel, dtype=np.float32))
    raise ValueError(f'order: expected "scale_first" or "token_first", found {order!r}')
