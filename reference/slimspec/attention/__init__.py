"""Quantized attention: int8 KV cache, int8 Q·K·V per head, MLA with an int8 latent."""

from .decode import Int8Cache, decode_attention
from .fa3 import attention_int8, quantize_heads
from .floating import attention_float
from .int8_pv import ProbabilityQuant, attend, quantize_probabilities
from .kv_cache import dequantize_kv, quantize_kv
from .mla import mla_attention_int8, mla_attention_latent

__all__ = [
    "Int8Cache",
    "ProbabilityQuant",
    "attend",
    "attention_float",
    "attention_int8",
    "decode_attention",
    "dequantize_kv",
    "mla_attention_int8",
    "mla_attention_latent",
    "quantize_heads",
    "quantize_kv",
    "quantize_probabilities",
]
