"""Which operations must have which adversarial property in at least one of their vectors.

`PROPERTIES` maps a property to its predicate and to the operations it applies to; `missing` looks
for it in the data of the vectors.
"""

from collections.abc import Callable, Iterator

from slimspec.golden.predicates import (
    absmax_negative,
    both_zeros,
    by_reciprocal,
    covers,
    empty_expert,
    extreme_exponents,
    float_ends,
    fold_by_reciprocal,
    gives_both_ends,
    gives_lowest_int8,
    half_and_bfloat,
    infinite_results,
    lowest_int4,
    lowest_int8,
    masked,
    nan_and_infinities,
    nibbles_differ,
    nine_bits,
    offset_of_cache,
    past_24_bits,
    past_31_bits,
    past_both_ends,
    quantized_in_float64,
    range_of_zero,
    remainder,
    scaled_in_float64,
    shared_heads,
    subnormal,
    ties_at_every_code,
    ties_of_small_floats,
    zero_row,
)
from slimspec.golden.vectors import VectorCase, cases

INT8, INT4, BYTES = range(-128, 128), range(-8, 8), range(256)
QUANTIZERS = ("quantize", "quantize_static", "quantize_kv", "quantize_heads", "requantize")
SCALED = ("quantize_dynamic", "quantize_weight", "fake_quantize", "quantize_flat")
WEIGHTS = ("quantize_weight", "quantize_two_level", "quantize_ssz", "quantize_fp8", "quantize_mx",
           "quantize_flat", "quantize_lowbit")  # fmt: skip
KERNELS = ("attention_int8", "mla_attention_int8", "mla_attention_latent", "decode_attention")
SUMS = ("matmul_int8", "grouped_matmul_int8")
EPILOGUES = ("dequantize", "dequantize_per_token", "requantize")
FOLDS = ("fold_norm", "fold_producer")

PROPERTIES: dict[str, tuple[Callable[[VectorCase], bool], tuple[str, ...]]] = {
    "ties at every code": (
        ties_at_every_code,
        (*QUANTIZERS, *SCALED, "quantize_dynamic_asym"),
    ),
    "ties between small floats": (
        ties_of_small_floats,
        ("cast", "quantize_mx", "quantize_fp8"),
    ),
    "saturation at both ends": (past_both_ends, QUANTIZERS),
    "both ends among the outputs": (
        gives_both_ends,
        ("dequant_swiglu_quant_static", "quantize_dynamic_asym", "quantize_weight", "saturate"),
    ),
    "saturation of floats at both ends": (
        float_ends,
        ("cast", "round_heads_fp8", "dequantize"),
    ),
    "an overflow of float16": (
        infinite_results,
        ("dequantize", "matmul_w4a8", "antiquant", "fold_norm", "runtime_scale", "reduce_mantissa"),
    ),
    "a scale or offset that saturates nine bits": (nine_bits, ("requantize", "trans_quant_param")),
    "zeros of both signs": (
        both_zeros,
        ("quantize_static", "quantize_kv", "quantize_heads", "quantize_dynamic", "quantize_weight",
         "round", "cast", "fold_norm", "fake_quantize", "hadamard_transform", "reduce_mantissa"),
    ),
    "subnormal numbers": (
        subnormal,
        ("quantize", "quantize_static", "quantize_kv", "quantize_heads", "quantize_dynamic",
         "quantize_weight", "quantize_mx", "quantize_fp8", "cast", "fold_norm", "smooth_scale",
         "hadamard_transform", "round_heads_fp8", "reduce_mantissa", "encode_deq_scale",
         "trans_quant_param", "fake_quantize", "dequantize", "antiquant", "qparams"),
    ),
    "NaN and infinities": (
        nan_and_infinities,
        ("quantize_static", "quantize_kv", "quantize_heads", "saturate", "cast"),
    ),
    "a row, token, head or group of zeros": (
        zero_row,
        (*WEIGHTS, "quantize_dynamic", "quantize_dynamic_asym", "optimize_hqq", "observe_heads",
         "round_heads_fp8", "quantize_mx_dualscale", "dequant_swiglu_quant_dynamic",
         "linear_w8a8_mix"),
    ),
    "a range of zero": (range_of_zero, ("qparams",)),
    "largest magnitude negative": (
        absmax_negative,
        (*WEIGHTS, "quantize_dynamic", "quantize_gptq", "observe_heads", "round_heads_fp8",
         "fake_quantize", "qparams"),
    ),
    "remainders of blocks and tiles": (
        remainder,
        ("quantize_mx", "dequantize_mx", "nd_to_nz", "nz_to_nd", "tile_encode", "tile_decode",
         "matmul_int8", "grouped_matmul_int8", "matmul_int8_int4"),
    ),
    "-128 among the inputs": (
        lowest_int8,
        (*SUMS, "matmul_int8_int4", "split_int8", "matmul_w4a8", "antiquant", "dequantize_weight",
         "dequantize_kv", *KERNELS, "fold_w8a8", "matmul_weight_only"),
    ),
    "-128 among the outputs": (
        gives_lowest_int8,
        (*QUANTIZERS, "quantize_weight", "quantize_dynamic_asym", "saturate", "nz_to_nd",
         "dequant_swiglu_quant_static"),
    ),
    "a key that is masked": (masked, ("attention_int8", "attention_float", *KERNELS[1:3])),
    "query heads that share a key": (
        shared_heads, ("attention_int8", "attention_float", "decode_attention"),
    ),
    "an expert without a token": (empty_expert, ("grouped_matmul_int8",)),
    "-8 among int4 codes": (
        lowest_int4,
        ("pack_int4", "unpack_int4", "matmul_int8_int4", "matmul_w4a8", "matmul_w4a4",
         "matmul_w4a4_group", "scale_bias"),
    ),
    "nibbles that differ": (
        nibbles_differ,
        ("pack_int4", "unpack_int4", "pack_fp4", "pack_words", "unpack_words", "matmul_int8_int4",
         "awq_to_w4a16", "w4a16_to_awq"),
    ),
    "sums past 2^24": (past_24_bits, ("matmul_int8", *EPILOGUES)),
    "sums past 2^31": (past_31_bits, ("matmul_int8", "dequantize")),
    "division and reciprocal differ": (by_reciprocal, ("quantize_static", "quantize", "quantize_kv",
                                                      "quantize_dynamic", "quantize_heads")),
    "folds by division and reciprocal differ": (fold_by_reciprocal, FOLDS),
    "float32 and float64 differ in codes": (quantized_in_float64, ("quantize_static", "quantize",
                                                                   "quantize_dynamic")),
    "float32 and float64 differ in outputs": (
        scaled_in_float64, ("dequantize", "dequantize_per_token", "dequantize_kv"),
    ),
    "float16 and bfloat16 arithmetic": (
        half_and_bfloat,
        ("quantize", "qparams", "quantize_weight", *FOLDS, "quantize_kv", "smooth_scale",
         "fold_w8a8"),
    ),
    "every int8 code": (
        covers("q", "x", "w", "y", "weight", values=INT8),
        ("dequantize_weight", "dequantize_kv", "antiquant", "split_int8", "matmul_int8", "quantize",
         "quantize_static", "quantize_kv", "quantize_heads", "quantize_weight", "tile_decode"),
    ),
    "every int4 code": (
        covers("q", "x", "w", values=INT4),
        ("pack_int4", "unpack_int4", "dequantize_weight", "matmul_w4a4", "quantize"),
    ),
    "exponents of 2^-127, 2^127 and NaN": (
        extreme_exponents, ("dequantize_mx", "encode_mx", "decode"),
    ),
    "an offset in the cache": (
        offset_of_cache, ("quantize_kv", "dequantize_kv", "decode_attention"),
    ),
    "every unsigned code": (
        covers("codes", "packed", "words", "weight", values=BYTES),
        ("decode", "pack_fp4", "dequantize_mx"),
    ),
}  # fmt: skip


def missing() -> Iterator[str]:
    """Yield one line for each operation and property without a vector."""
    for name, (holds, ops) in PROPERTIES.items():
        yield from (f"{op}: no vector has {name}" for op in ops if not any(map(holds, cases(op))))
