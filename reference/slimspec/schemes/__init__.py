"""Quantization types, one file each: float linear -> tensors -> float linear -> y.

>>> from slimspec import schemes
>>> schemes.get("W8A16").label
'W8A16'
"""

from . import (
    c8,
    faquant,
    flatquant,
    float_linear,
    svd,
    w4a4_dynamic,
    w4a4_mxfp4,
    w4a4_mxfp4_dualscale,
    w4a8_dynamic,
    w4a8_mxfp,
    w4a16,
    w8a8,
    w8a8_dynamic,
    w8a8_mix,
    w8a8_mxfp8,
    w8a8s,
    w8a8sc,
    w8a16,
    w16a16s,
    w16a16sc,
    wfp8afp8_dynamic,
)
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
    "c8",
    "faquant",
    "flatquant",
    "float_linear",
    "get",
    "register",
    "schemes",
    "svd",
    "w4a4_dynamic",
    "w4a4_mxfp4",
    "w4a4_mxfp4_dualscale",
    "w4a8_dynamic",
    "w4a8_mxfp",
    "w4a16",
    "w8a8",
    "w8a8_dynamic",
    "w8a8_mix",
    "w8a8_mxfp8",
    "w8a8s",
    "w8a8sc",
    "w8a16",
    "w16a16s",
    "w16a16sc",
    "wfp8afp8_dynamic",
]
