"""KV cache and int8 attention."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.attention.decode import Int8Cache, decode_attention
from slimspec.attention.fa3 import attention_int8, quantize_heads
from slimspec.attention.kv_cache import dequantize_kv, quantize_kv
from slimspec.numeric import to_dtype

from .model import Attributes, Operation, Tensors, dtype_of, numerics

_NO_OFFSET = np.zeros(1, np.float32)


def _quantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    offset = t.get("offset", _NO_OFFSET)
    return {"q": quantize_kv(t["x"], t["scale"], offset, a.get("form", "mul"))}


def _dequantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    rule = a.get("rule", "canonical")
    given = t["q"], t["scale"], t.get("offset", _NO_OFFSET)
    return {"x": dequantize_kv(*given, dtype_of(a, "dtype"), rule, numerics(a))}


def _decode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    keys, values = (Int8Cache(t[f"{r}_q"], t[f"{r}_scale"]) for r in ("k", "v"))
    scale = a.get("softmax_scale")
    return {"y": decode_attention(t["q"], keys, values, a["kv_heads"], scale)}


def _heads(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"q": quantize_heads(t["x"], t["scale"])}


def _int8(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    scales = t["q_scale"], t["k_scale"], t["v_scale"]
    scale, block = a.get("softmax_scale"), a.get("block")
    y = attention_int8(
        t["q"], t["k"], t["v"], scales, t.get("p_scale"), t.get("mask"), scale, block
    )
    return {"y": y}


def _cache(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    m, k = sizes.get("m", 16), sizes.get("k", 64)
    x = to_dtype(random.standard_normal((m, k)).astype(np.float32), np.float16)
    scale = to_dtype(random.uniform(0.01, 0.05, k).astype(np.float32), np.float16)
    return {"x": x, "scale": scale, "offset": np.zeros(k, np.float16)}, dict(attributes)


def _cached(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    inputs, given = _cache(random, sizes, attributes)
    q = random.randint(-128, 128, inputs.pop("x").shape).astype(np.int8)
    return {"q": q, **inputs}, {"dtype": "F16"} | given


OPERATIONS = (
    Operation(
        "quantize_kv", "q = clip(rint(x·(1/scale) + offset)) per channel", _quantize, ("q",),
        _cache, "quantize_kv",
    ),
    Operation(
        "dequantize_kv", "x = T((q - offset)·scale)", _dequantize, ("x",), _cached, "dequantize_kv",
    ),
    Operation(
        "decode_attention", "softmax(q·k̂ᵀ·softmax_scale)·v̂ of one token, k̂ and v̂ dequantized",
        _decode, ("y",),
    ),
    Operation("quantize_heads", "q = clip(rint(x/scale)), one scale per head", _heads, ("q",)),
    Operation(
        "attention_int8", "softmax of int8 scores, probabilities as int8, int8 values", _int8,
        ("y",)
    ),
)  # fmt: skip
