"""Quantization types, one file each: float linear -> tensors -> float linear -> y.

>>> from slimspec import schemes
>>> schemes.get("W8A16").label
'W8A16'
"""

from .attention_base import AttentionScheme, QuantizedAttention, attention_schemes
from .base import Scheme, get, register, schemes
from .records import InputParams, Linear, Options, QuantizedLinear

__all__ = [
    "AttentionScheme",
    "InputParams",
    "Linear",
    "Options",
    "QuantizedAttention",
    "QuantizedLinear",
    "Scheme",
    "attention_schemes",
    "get",
    "register",
    "schemes",
]
