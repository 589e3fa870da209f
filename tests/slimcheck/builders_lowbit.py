"""Tiny valid directories of the int4, FP8 and FP4 types, of FlatQuant, SVD, KV and attention.

As builders.py: written with the safetensors library and json alone, nothing comes from slimspec.
Every linear type is a function (rng, name, n, k, group, profile, dtype) -> tensors by suffix.
"""

import math
import sys
from typing import Any

import ml_dtypes
import numpy as np

Draft = sys.modules["slimcheck_builders"].Draft  # loaded first, by the same fixture

H, INNER, VOCAB, HEADS, KV_HEADS, LAYERS = 64, 128, 8, 4, 2, 2
KV = H // HEADS * KV_HEADS
LINEARS = {
    "self_attn.q_proj": (H, H),
    "self_attn.k_proj": (KV, H),
    "self_attn.v_proj": (KV, H),
    "self_attn.o_proj": (H, H),
    "mlp.gate_proj": (INNER, H),
    "mlp.up_proj": (INNER, H),
    "mlp.down_proj": (H, INNER),
}
_DTYPES = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
_CONFIG = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_BLOCK = 32


def make(
    profile: str,
    type_: str,
    dtype: str = "BF16",
    *,
    group: int = 0,
    wrapper: str = "",
    kv: bool = False,
    fa: bool = False,
    experts: int = 0,
    rename: str = "",
    seed: int = 0,
) -> Any:
    """A valid directory: two layers, a bias on every q_proj.

    `rename` replaces o_proj by a name of its own; `wrapper` is FLATQUANT or SVD.
    """
    rng = np.random.default_rng(seed)
    d = _DTYPES[dtype]
    label = _wrapped(type_, wrapper)
    draft = Draft(profile, label, {}, _metadata(profile, label, type_, group))
    draft.config = {
        "model_type": "qwen2", "num_hidden_layers": LAYERS, "torch_dtype": _CONFIG[dtype],
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    }  # fmt: skip
    draft.add("model.embed_tokens.weight", rng.normal(size=(VOCAB, H)).astype(d), "FLOAT")
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for leaf, (n, k) in _linears(experts if layer else 0).items():
            name = prefix + (leaf.replace("o_proj", rename) if rename else leaf)
            for suffix, array in _TYPES[type_](rng, name, n, k, group, profile, d).items():
                draft.add(f"{name}.{suffix}", array, label)
            for suffix, array in _WRAPPERS[wrapper](rng, name, n, k).items():
                draft.add(f"{name}.{suffix}", array, "FLOAT" if wrapper == "SVD" else label)
            if leaf.endswith("q_proj") and not wrapper:
                bias = rng.normal(size=n).astype(d if profile in ("L0", "A0") else np.float32)
                own = type_ == "W4A4_MXFP4_DUALSCALE" and profile == "A1"
                draft.add(f"{name}.bias", bias, label if own else "FLOAT")
        if kv:
            _add_kv(draft, rng, prefix + "self_attn.", d)
        if fa:
            _add_fa(draft, rng, prefix + "self_attn.", profile)
        norm = f"{prefix}input_layernorm.weight"
        draft.add(norm, rng.normal(size=H).astype(d), "FLOAT")
    draft.add("model.norm.weight", rng.normal(size=H).astype(d), "FLOAT")
    draft.add("lm_head.weight", rng.normal(size=(VOCAB, H)).astype(d), "FLOAT")
    return draft


def _linears(experts: int) -> dict[str, tuple[int, int]]:
    if not experts:
        return LINEARS
    found = {leaf: size for leaf, size in LINEARS.items() if "mlp" not in leaf}
    for e in range(experts):
        found |= {
            f"mlp.experts.{e}.{leaf[4:]}": size for leaf, size in LINEARS.items() if "mlp" in leaf
        }
    return found


def _wrapped(type_: str, wrapper: str) -> str:
    if not wrapper or wrapper in type_:
        return type_
    if type_.endswith("_DYNAMIC"):
        return type_.removesuffix("DYNAMIC") + f"{wrapper}_DYNAMIC"
    return f"{type_}_{wrapper}"


def _metadata(profile: str, label: str, type_: str, group: int) -> dict[str, Any]:
    found: dict[str, Any] = {"model_quant_type": label}
    if profile in ("A0", "A1"):
        found["version"] = "1.0.0"
    if profile == "A1":
        size = _BLOCK if "MXFP" in type_ else group
        found |= {"metadata": {}, "group_size": size, "optional": {}}
    elif profile == "A0" and group:
        found["group_size"] = group
    return found


def _codes(rng: Any, n: int, k: int, low: int = -7) -> np.ndarray:
    q = rng.integers(low, 8, size=(n, k)).astype(np.int8)
    q[:, 0] = 7
    return q


def _pack(q: np.ndarray, axis: int) -> np.ndarray:
    """Even index in the low nibble."""
    even, odd = (q[0::2], q[1::2]) if axis == 0 else (q[:, 0::2], q[:, 1::2])
    return ((even & 15) | (odd << 4)).astype(np.int8)


def _scales(rng: Any, n: int, k: int, group: int, dtype: Any) -> np.ndarray:
    return rng.uniform(0.005, 0.02, size=(n, k // group if group else 1)).astype(dtype)


def _w4a16(rng, name, n, k, group, profile, d) -> dict:
    scale = _scales(rng, n, k, group, np.float32 if group else d)
    q = _codes(rng, n, k)
    return {
        "weight": q if profile == "L0" else _pack(q, 0 if group else 1),
        "weight_scale": scale,
        "weight_offset": rng.integers(-3, 4, size=scale.shape).astype(scale.dtype),
    }


def _bias_sums(level: np.ndarray, scale: np.ndarray, name: str) -> np.ndarray:
    """8 Σ level · scale by name; [n, k] without sum and factor for other names."""
    terms = level.astype(np.float32) * scale
    leaf = name.rpartition(".")[2]
    if leaf in ("o_proj", "down_proj"):
        blocks = terms.reshape(len(terms), 16, -1).sum(axis=2, dtype=np.float32)
        return blocks * np.float32(8)
    if leaf in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
        return terms.sum(axis=1, keepdims=True, dtype=np.float32) * np.float32(8)
    return terms


def _w4a8(rng, name, n, k, group, profile, d) -> dict:
    q = _codes(rng, n, k)
    scale = rng.uniform(0.001, 0.002, size=(n, 1)).astype(np.float32)
    found = {"weight_scale": scale, "weight_offset": np.zeros((n, 1), np.float32)}
    level, used = q, scale
    if group:
        second = rng.integers(8, 18, size=(n, k // group)).astype(np.float32)
        found["weight_scale_second"] = second
        found["weight_offset_second"] = np.zeros(second.shape, np.int64)
        level = q.astype(np.float32) * np.repeat(second, group, axis=1)
        used = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    if profile == "L0":
        return found | {"weight": q}
    return found | {"weight": _pack(q, 0), "scale_bias": _bias_sums(level, used, name)}


def _w4a4(rng, name, n, k, group, profile, d) -> dict:
    scale = _scales(rng, n, k, group, np.float32)
    return {
        "weight": _codes(rng, n, k),
        "weight_scale": scale,
        "weight_offset": np.zeros_like(scale),
    }


def _e4m3(rng: Any, n: int, k: int) -> np.ndarray:
    return rng.normal(size=(n, k)).astype(ml_dtypes.float8_e4m3fn)


def _fp4(rng: Any, n: int, k: int) -> np.ndarray:
    codes = rng.integers(0, 16, size=(n, k)).astype(np.uint8)
    codes[:, 0] = 7
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def _exponents(rng: Any, n: int, k: int) -> np.ndarray:
    return rng.integers(115, 125, size=(n, -(-k // _BLOCK))).astype(np.uint8)


def _mxfp8(rng, name, n, k, group, profile, d) -> dict:
    return {"weight": _e4m3(rng, n, k), "weight_scale": _exponents(rng, n, k)}


def _mxfp4(rng, name, n, k, group, profile, d) -> dict:
    return {"weight": _fp4(rng, n, k), "weight_scale": _exponents(rng, n, k)}


def _dualscale(rng, name, n, k, group, profile, d) -> dict:
    dual = rng.uniform(0.5, 2, size=(n, 2, 1)).astype(np.float32)
    return _mxfp4(rng, name, n, k, group, profile, d) | {"weight_dual_scale": dual}


def _wfp8(rng, name, n, k, group, profile, d) -> dict:
    scale = rng.uniform(0.001, 0.002, size=(n, 1)).astype(np.float32)
    zeros = np.zeros_like(scale)
    return {"weight": _e4m3(rng, n, k), "weight_scale": scale, "weight_offset": zeros}


def _dynamic(rng, name, n, k, group, profile, d) -> dict:
    q = rng.integers(-126, 127, size=(n, k)).astype(np.int8)
    q[:, 0] = 127
    wide = d if profile in ("L0", "A0") else np.float32
    scale = _scales(rng, n, k, group, wide)
    return {"weight": q, "weight_scale": scale, "weight_offset": np.zeros_like(scale)}


_TYPES = {
    "W4A16": _w4a16,
    "W4A8_DYNAMIC": _w4a8,
    "W4A4_DYNAMIC": _w4a4,
    "W4A4_FLATQUANT_DYNAMIC": _w4a4,
    "W8A8_MXFP8": _mxfp8,
    "W4A8_MXFP": _mxfp4,
    "W4A4_MXFP4": _mxfp4,
    "W4A4_MXFP4_DUALSCALE": _dualscale,
    "WFP8AFP8_DYNAMIC": _wfp8,
    "W8A8_DYNAMIC": _dynamic,
}


def _factors(k: int) -> tuple[int, int]:
    """The nearest pair of factors of equal parity."""
    a = math.isqrt(k)
    a += a * a < k
    while math.isqrt(a * a - k) ** 2 != a * a - k:
        a += 1
    b = math.isqrt(a * a - k)
    return a - b, a + b


def _flatquant(rng, name, n, k) -> dict:
    left, right = _factors(k)
    return {
        "left_trans": np.linalg.qr(rng.normal(size=(left, left)))[0].astype(np.float32),
        "right_trans": np.linalg.qr(rng.normal(size=(right, right)))[0].astype(np.float32),
        "clip_ratio": np.array([0.98], np.float32),
    }


def _svd(rng, name, n, k) -> dict:
    return {
        "svd_lowrank_l1": rng.normal(size=(4, k)).astype(np.float32),
        "svd_lowrank_l2": rng.normal(size=(n, 4)).astype(np.float32),
    }


_WRAPPERS = {"": lambda *_: {}, "FLATQUANT": _flatquant, "SVD": _svd}


def _add_kv(draft: Any, rng: Any, attention: str, d: Any) -> None:
    for host in ("k_proj", "v_proj"):
        scale = rng.uniform(0.01, 0.05, size=KV).astype(d)
        draft.add(f"{attention}{host}.kv_cache_scale", scale, "C8")
        draft.add(f"{attention}{host}.kv_cache_offset", np.zeros_like(scale), "C8")
    draft.description |= {"kv_cache_type": "C8", "kv_quant_type": "C8"}


def _add_fa(draft: Any, rng: Any, attention: str, profile: str) -> None:
    for role, heads in (("fa_q", HEADS), ("fa_k", KV_HEADS), ("fa_v", KV_HEADS)):
        scale = rng.uniform(0.01, 0.05, size=(heads, 1)).astype(np.float32)
        draft.add(f"{attention}{role}.scale", scale, "FAQuant")
        draft.add(f"{attention}{role}.offset", np.zeros((heads, 1), np.int8), "FAQuant")
    newer = profile in ("A1", "MF")
    draft.description["fa_quant_type"] = "FAKQuant" if newer else "FAQuant"
    if newer:
        draft.description[f"{attention}quant_type"] = "INT8"
