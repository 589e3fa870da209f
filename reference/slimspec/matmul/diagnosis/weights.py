"""What can differ in the kernels that dequantize weights."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.deq_word import scale_bits
from slimspec.matmul.integer import matmul_int8
from slimspec.matmul.profiles import to_output
from slimspec.matmul.w4a8 import group_slices, split_int8, sum_bias
from slimspec.matmul.weight_only import antiquant
from slimspec.numeric import add, mul, truncate_fp19

from .choices import CASTS
from .engine import Op

F32 = np.float32


def _antiquant(
    c: dict[str, Any], w: NDArray, scale: NDArray, antiquant_offset: NDArray | None = None,
    dtype: DTypeLike = np.float16,
) -> NDArray:  # fmt: skip
    offset = None if antiquant_offset is None else c["offset"](antiquant_offset)
    return antiquant(w, scale, offset, dtype, c["steps"])


ANTIQUANT = Op(
    "antiquant",
    {
        "steps": {
            "as the kernel of this dtype": None,
            "rounds after the addition": "stepwise",
            "rounds once": "once",
        },
        "offset": {
            "offset added": lambda o: o,
            "offset subtracted": lambda o: -o,
            "offset ignored": lambda o: None,
        },
    },
    _antiquant,
)


def _w4a8(
    c: dict[str, Any], x: NDArray, w: NDArray, scale: NDArray, scale_bias: NDArray,
    pertoken_scale: NDArray, out_dtype: DTypeLike = np.float16,
) -> NDArray:  # fmt: skip
    scale = c["scale"](scale_bits(scale) if scale.dtype.kind in "iu" else scale)
    halves = split_int8(x)
    low = halves.lo + np.int8(c["low"])
    high = _grouped(halves.hi, w, scale, c["register"])
    y = add(mul(16.0, high, F32), _grouped(low, w, scale, c["register"]), F32)
    if c["bias"]:
        y = add(y, sum_bias(scale_bias), F32)
    return c["cast"](mul(y, pertoken_scale[:, None], F32), out_dtype)


def _grouped(x: NDArray, w: NDArray, scale: NDArray, register: DTypeLike) -> NDArray:
    total = np.zeros((x.shape[0], w.shape[0]), register)
    for g, span in enumerate(group_slices(x.shape[1], scale.shape[1])):
        acc = matmul_int8(x[:, span], w[:, span]).astype(F32)
        part = to_output(mul(acc, scale[:, g], F32), register)
        total = to_output(add(total, part, F32), register)
    return total


MATMUL_W4A8 = Op(
    "matmul_w4a8",
    {
        "register": {"fp16 accumulator": np.float16, "accumulated in float32": F32},
        "bias": {"scale_bias added": True, "scale_bias missing": False},
        "low": {"low half is (x & 15) − 8": 0, "low half without −8": 8},
        "scale": {"float32 scale": lambda s: s, "scale truncated to FP19": truncate_fp19},
        "cast": CASTS,
    },
    _w4a8,
)
