"""Integer runtime: exact accumulation, dequantization epilogues, activation quantization."""

from .accumulate import Accumulation, accumulate, matmul_exact, narrow
from .deq_word import DeqWord, parse_quant_param, scale_bits, trans_quant_param
from .dequantize import dequantize, kernel_scale
from .integer import matmul_int8, matmul_int8_plain
from .per_token import NORMATIVE_ORDER, dequantize_per_token
from .profiles import PROFILES, Numerics, profile, to_output
from .requantize import requantize

__all__ = [
    "NORMATIVE_ORDER",
    "PROFILES",
    "Accumulation",
    "DeqWord",
    "Numerics",
    "accumulate",
    "dequantize",
    "dequantize_per_token",
    "kernel_scale",
    "matmul_exact",
    "matmul_int8",
    "matmul_int8_plain",
    "narrow",
    "parse_quant_param",
    "profile",
    "requantize",
    "scale_bits",
    "to_output",
    "trans_quant_param",
]
