"""KV cache, int8 and FP8 attention, latent attention."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.attention import attention_float, mla_attention_int8, mla_attention_latent
from slimspec.attention.decode import Int8Cache, decode_attention
from slimspec.attention.fa3 import attention_int8, int_scores, quantize_heads, softmax_input
from slimspec.attention.floating import default_scale, kv_head_of
from slimspec.attention.int8_pv import ProbabilityQuant, quantize_probabilities
from slimspec.attention.kv_cache import dequantize_kv, quantize_kv
from slimspec.attention.softmax import exponentials, row_max
from slimspec.matmul.profiles import to_output
from slimspec.numeric import as_float32, mul, to_dtype
from slimspec.observe.per_head import PerHeadObserver, per_head_qparams
from slimspec.schemes.faquant import e4m3_heads

from .model import Attributes, Operation, Tensors, batches, dtype_of, numerics

_NO_OFFSET = np.zeros(1, np.float32)


def _quantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    offset = t.get("offset", _NO_OFFSET)
    return {"q": quantize_kv(t["x"], t["scale"], offset, a.get("form", "mul"))}


def _dequantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    rule = a.get("rule", "canonical")
    given = t["q"], t["scale"], t.get("offset", _NO_OFFSET)
    return {"x": dequantize_kv(*given, dtype_of(a, "dtype"), rule, numerics(a))}


def _decode(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    keys, values = (
        Int8Cache(t[f"{r}_q"], t[f"{r}_scale"], t.get(f"{r}_offset", _NO_OFFSET))
        for r in ("k", "v")
    )
    scale = a.get("softmax_scale")
    return {"y": decode_attention(t["q"], keys, values, a["kv_heads"], scale)}


def _observe(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    observer = PerHeadObserver(a.get("ratio", 1.0))
    for x in batches(t):
        observer.update(x)
    low, high = observer.range()
    scale, _ = per_head_qparams(low, high, a.get("element", "int8"))
    return {"low": low, "high": high, "scale": scale}


def _heads(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"q": quantize_heads(t["x"], t["scale"])}


def _fp8_heads(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": e4m3_heads(t["x"], t.get("scale"))}


def _int8(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    scales = t["q_scale"], t["k_scale"], t["v_scale"]
    scale, block = a.get("softmax_scale"), a.get("block")
    y = attention_int8(
        t["q"], t["k"], t["v"], scales, t.get("p_scale"), t.get("mask"), scale, block
    )
    return {"y": y} | ({} if block else _steps(t, scale))


def _steps(t: Tensors, softmax_scale: float | None) -> dict[str, NDArray]:
    """Scores and int8 probabilities of every head, all keys in one block."""
    q, k = t["q"], t["k"]
    scale = default_scale(q.shape[2]) if softmax_scale is None else np.float32(softmax_scale)
    found: list[tuple[NDArray, NDArray, NDArray]] = []
    for h, g in enumerate(kv_head_of(q.shape[0], k.shape[0])):
        qk = mul(as_float32(t["q_scale"]).reshape(-1)[h], as_float32(t["k_scale"]).reshape(-1)[g],
                 np.float32)  # fmt: skip
        s = softmax_input(to_output(int_scores(q[h], k[g], qk), np.float16), scale, t.get("mask"))
        p_scale = np.float32(t["p_scale"].reshape(-1)[h]) if "p_scale" in t else None
        p = exponentials(s, row_max(s))
        found.append((s, *quantize_probabilities(p, ProbabilityQuant(p_scale))))
    return dict(zip(("scores", "p", "p_scale"), map(np.stack, zip(*found, strict=True)),
                    strict=True))  # fmt: skip


def _float(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"y": attention_float(t["q"], t["k"], t["v"], a.get("softmax_scale"), t.get("mask"))}


def _latent(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    parts = t["q_nope"], t["q_rope"], t["k_nope"], t["k_rope"]
    y = mla_attention_latent(*parts, t["k_scale"], a["softmax_scale"], t.get("mask"))
    return {"y": y}


def _latent_int8(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    parts = t["q_nope"], t["q_rope"], t["k_nope"], t["k_rope"]
    scales = t["q_scale"], t["k_scale"]
    given = a["softmax_scale"], t.get("p_scale"), t.get("mask"), a.get("block")
    return {"y": mla_attention_int8(*parts, scales, *given)}


def _cache(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    m, k = sizes.get("m", 16), sizes.get("k", 64)
    x = to_dtype(random.standard_normal((m, k)).astype(np.float32), np.float16)
    scale = to_dtype(random.uniform(0.01, 0.05, k).astype(np.float32), np.float16)
    return {"x": x, "scale": scale, "offset": np.zeros(k, np.float16)}, dict(attributes)


def _cached(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    inputs, given = _cache(random, sizes, attributes)
    q = random.randint(-128, 128, inputs.pop("x").shape).astype(np.int8)
    return {"q": q, **inputs}, {"dtype": "F16"} | given


def _heads_of_codes(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    """m queries and n keys of size k, g query heads over one."""
    m, n, k, g = (sizes.get(s, d) for s, d in (("m", 8), ("n", 32), ("k", 64), ("g", 4)))
    q, keys, v = (random.randint(-127, 128, s).astype(np.int8) for s in ((g, m, k), (1, n, k),
                                                                         (1, n, k)))  # fmt: skip
    scales = {f"{r}_scale": np.asarray(random.uniform(0.005, 0.02, c), np.float32)
              for r, c in (("q", g), ("k", 1), ("v", 1))}  # fmt: skip
    return {"q": q, "k": keys, "v": v, **scales}, dict(attributes)


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
    Operation(
        "observe_heads", "ends of the shortest window with int(ratio·t) samples per head, scale",
        _observe, ("low", "high", "scale"),
    ),
    Operation("quantize_heads", "q = clip(rint(x/scale)), one scale per head", _heads, ("q",)),
    Operation(
        "round_heads_fp8", "y = T(e4m3(clip(x/scale, ±448))·scale), per head or per token",
        _fp8_heads, ("y",),
    ),
    Operation(
        "attention_int8", "softmax of int8 scores, probabilities as int8, int8 values", _int8,
        ("y",), _heads_of_codes,
    ),
    Operation("attention_float", "y = T(softmax(q·kᵀ·softmax_scale + mask)·v)", _float, ("y",)),
    Operation(
        "mla_attention_latent", "float queries over the dequantized latent [k_nope | k_rope]",
        _latent, ("y",),
    ),
    Operation(
        "mla_attention_int8", "S = q_nope·k_nopeᵀ·(q_scale·k_scale) + q_rope·k_ropeᵀ, int8 P·V",
        _latent_int8, ("y",),
    ),
)  # fmt: skip
