"""What can differ in the KV cache: operations for `slimspec.matmul.diagnosis.diagnose`."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.diagnosis.choices import CASTS, NARROWINGS, OFFSETS, ROUNDINGS
from slimspec.matmul.diagnosis.engine import Op
from slimspec.numeric import add, as_float32, div, mul, sub

F32 = np.float32


def _quantize(c: dict[str, Any], x: NDArray, scale: NDArray, offset: Any = 0.0) -> NDArray[np.int8]:
    common = x.dtype if x.dtype == scale.dtype else F32
    ratio = c["quotient"](x, scale, common)
    return c["narrow"](c["offset"](ratio, offset, common, c["round"]), -128, 127)


QUANTIZE_KV = Op(
    "quantize_kv",
    {
        "quotient": {
            "multiplies by 1/scale": lambda x, s, t: mul(x, div(1.0, s, s.dtype), t),
            "divides by the scale": div,
        },
        "offset": OFFSETS,
        "round": ROUNDINGS,
        "narrow": NARROWINGS,
    },
    _quantize,
)


def _dequantize(
    c: dict[str, Any],
    q: NDArray[np.int8],
    scale: NDArray,
    offset: Any = 0.0,
    dtype: DTypeLike = np.float16,
) -> NDArray:
    return c["cast"](mul(c["offset"](as_float32(q), offset), scale, F32), dtype)


DEQUANTIZE_KV = Op(
    "dequantize_kv",
    {
        "offset": {
            "offset subtracted": lambda q, z: sub(q, z, F32),
            "offset ignored (scale only)": lambda q, z: q,
            "offset added": lambda q, z: add(q, z, F32),
        },
        "cast": CASTS,
    },
    _dequantize,
)
