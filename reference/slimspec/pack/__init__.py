"""Packing of 4-bit codes: int4 nibbles, int32 words in AWQ and other orders, FP4."""

from .awq import (
    AWQ_ORDER,
    AscendAwqWeight,
    AwqWeight,
    W4A16Weight,
    ascend_to_awq,
    awq_to_ascend,
    awq_to_w4a16,
    dequantize_awq,
    pack_ascend,
    pack_awq,
    unpack_ascend,
    unpack_awq,
    w4a16_to_awq,
)
from .compressed import pack_compressed, unpack_compressed
from .fp4 import pack_fp4, unpack_fp4
from .int4 import pack_int4, unpack_int4
from .words import pack_words, unpack_words

__all__ = [
    "AWQ_ORDER",
    "AscendAwqWeight",
    "AwqWeight",
    "W4A16Weight",
    "ascend_to_awq",
    "awq_to_ascend",
    "awq_to_w4a16",
    "dequantize_awq",
    "pack_ascend",
    "pack_awq",
    "pack_compressed",
    "pack_fp4",
    "pack_int4",
    "pack_words",
    "unpack_ascend",
    "unpack_awq",
    "unpack_compressed",
    "unpack_fp4",
    "unpack_int4",
    "unpack_words",
    "w4a16_to_awq",
]
