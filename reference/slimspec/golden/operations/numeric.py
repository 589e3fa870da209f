"""Rounding, saturation and casts."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import (
    e4m3_to_float32,
    e8m0_to_float32,
    float32_to_bf16,
    float32_to_e4m3,
    float32_to_fp4,
    float32_to_fp16,
    fp4_to_float32,
    round_ceil,
    round_floor,
    round_fp19,
    round_half_away,
    round_half_even,
    round_trunc,
    saturate,
    truncate_fp19,
)

from .model import Attributes, Operation, Tensors, dtype_of

RULES = {
    "half_even": round_half_even,
    "half_away": round_half_away,
    "floor": round_floor,
    "ceil": round_ceil,
    "trunc": round_trunc,
}
DECODERS = {"E4M3": e4m3_to_float32, "FP4": fp4_to_float32, "E8M0": e8m0_to_float32}


def _round(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": RULES[a["rule"]](t["x"])}


def _saturate(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    kind = dtype_of(a, "out_dtype", "I8").type
    return {"q": saturate(t["x"], a["low"], a["high"], kind, a.get("nan"))}


def _cast(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    x, to, overflow = t["x"], a["to"], a.get("overflow", "inf")
    made: Any
    if to == "F16":
        made = float32_to_fp16(x, overflow).view(np.float16)
    elif to == "BF16":
        made = float32_to_bf16(x, overflow).view(ml_dtypes.bfloat16)
    elif to == "E4M3":
        made = float32_to_e4m3(x, a.get("overflow", "saturate"))
    else:
        made = {"FP4": float32_to_fp4, "FP19": truncate_fp19, "FP19_ROUND": round_fp19}[to](x)
    return {"y": made}


def _decode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": DECODERS[a["from"]](t["codes"])}


def _floats(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    shape = (sizes.get("m", 16), sizes.get("n", 64))
    exponent = random.uniform(-20, 18, shape)
    x = (random.choice([-1.0, 1.0], shape) * 2.0**exponent).astype(np.float32)
    return {"x": x}, {"to": "F16"} | dict(attributes)


OPERATIONS = (
    Operation("round", "y = the named rounding of x to an integer", _round, ("y",)),
    Operation("saturate", "q = min(max(x, low), high), then narrowed", _saturate, ("q",)),
    Operation("cast", "y = x rounded once to the named format", _cast, ("y",), _floats),
    Operation("decode", "y = the value of a code", _decode, ("y",)),
)
