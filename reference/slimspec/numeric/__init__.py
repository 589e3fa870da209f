"""Float formats and rounding as bits; imports nothing of this project."""

from .arithmetic import add, as_float32, div, model_dtype, mul, sub, to_dtype
from .bf16 import bf16_to_float32, float32_to_bf16
from .fp16 import float32_to_fp16, fp16_to_float32
from .fp19 import round_fp19, truncate_fp19
from .rounding import (
    round_ceil,
    round_floor,
    round_half_away,
    round_half_away_by_floor,
    round_half_even,
    round_trunc,
)
from .saturate import (
    saturate,
    saturate_int4,
    saturate_int8,
    saturate_int9,
    saturate_int16,
    saturate_int32,
    saturate_uint4,
    saturate_uint8,
)

__all__ = [
    "add",
    "as_float32",
    "bf16_to_float32",
    "div",
    "float32_to_bf16",
    "float32_to_fp16",
    "fp16_to_float32",
    "model_dtype",
    "mul",
    "round_ceil",
    "round_floor",
    "round_fp19",
    "round_half_away",
    "round_half_away_by_floor",
    "round_half_even",
    "round_trunc",
    "saturate",
    "saturate_int4",
    "saturate_int8",
    "saturate_int9",
    "saturate_int16",
    "saturate_int32",
    "saturate_uint4",
    "saturate_uint8",
    "sub",
    "to_dtype",
    "truncate_fp19",
]
