"""Integer runtime: exact accumulation, dequantization epilogues, activation quantization."""

from .accumulate import Accumulation, accumulate, matmul_exact, narrow
from .deq_word import DeqWord, parse_quant_param, scale_bits, trans_quant_param
from .dequant_swiglu_quant import dequant_swiglu_quant_dynamic, dequant_swiglu_quant_static
from .dequantize import dequantize, kernel_scale
from .floating import matmul_float
from .grouped import grouped_matmul_int8, matmul_int8_batched
from .int4 import matmul_int8_int4
from .integer import matmul_int8, matmul_int8_plain
from .linear import MixTensors, linear_w8a8, linear_w8a8_dynamic, linear_w8a8_mix, loaded_scale
from .per_token import NORMATIVE_ORDER, dequantize_per_token
from .profiles import PROFILES, Numerics, profile, to_output
from .quantize_dynamic import DynamicQuant, quantize_dynamic
from .quantize_dynamic_asym import AsymmetricQuant, quantize_dynamic_asym
from .quantize_static import quantize_static, runtime_scale
from .reduce_quant import reduce_quantized
from .requantize import requantize
from .swiglu import silu, swiglu
from .swiglu_quant import grouped_matmul_swiglu_quant, swiglu_quant
from .w4a4 import matmul_w4a4, matmul_w4a4_group
from .w4a8 import Halves, matmul_w4a8, split_int8
from .weight_only import antiquant, matmul_weight_only

__all__ = [
    "NORMATIVE_ORDER",
    "PROFILES",
    "Accumulation",
    "AsymmetricQuant",
    "DeqWord",
    "DynamicQuant",
    "Halves",
    "MixTensors",
    "Numerics",
    "accumulate",
    "antiquant",
    "dequant_swiglu_quant_dynamic",
    "dequant_swiglu_quant_static",
    "dequantize",
    "dequantize_per_token",
    "grouped_matmul_int8",
    "grouped_matmul_swiglu_quant",
    "kernel_scale",
    "linear_w8a8",
    "linear_w8a8_dynamic",
    "linear_w8a8_mix",
    "loaded_scale",
    "matmul_exact",
    "matmul_float",
    "matmul_int8",
    "matmul_int8_batched",
    "matmul_int8_int4",
    "matmul_int8_plain",
    "matmul_w4a4",
    "matmul_w4a4_group",
    "matmul_w4a8",
    "matmul_weight_only",
    "narrow",
    "parse_quant_param",
    "profile",
    "quantize_dynamic",
    "quantize_dynamic_asym",
    "quantize_static",
    "reduce_quantized",
    "requantize",
    "runtime_scale",
    "scale_bits",
    "silu",
    "split_int8",
    "swiglu",
    "swiglu_quant",
    "to_output",
    "trans_quant_param",
]
