"""Float formats and rounding as bits; imports nothing of this project."""

from .arithmetic import add, as_float32, div, exp2, log2, model_dtype, mul, sub, to_dtype
from .bf16 import bf16_to_float32, float32_to_bf16
from .deq_word import decode_deq_scale, encode_deq_scale
from .e8m0 import e8m0_to_exponent, e8m0_to_float32, exponent_to_e8m0
from .fp4 import float32_to_fp4, fp4_to_float32, nearest_fp4
from .fp8 import e4m3_to_float32, float32_to_e4m3
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
    "decode_deq_scale",
    "div",
    "e4m3_to_float32",
    "e8m0_to_exponent",
    "e8m0_to_float32",
    "encode_deq_scale",
    "exp2",
    "exponent_to_e8m0",
    "float32_to_bf16",
    "float32_to_e4m3",
    "float32_to_fp4",
    "float32_to_fp16",
    "fp4_to_float32",
    "fp16_to_float32",
    "log2",
    "model_dtype",
    "mul",
    "nearest_fp4",
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
