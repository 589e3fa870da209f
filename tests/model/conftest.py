"""Tiny random models in Hugging Face layout, for every architecture."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 64,
    "torch_dtype": "float32",
}
DEEPSEEK = {
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "moe_intermediate_size": 12,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
    "routed_scaling_factor": 2.5,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 12},
    "qwen3_moe": {
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 12,
        "norm_topk_prob": True,
        "mlp_only_layers": [0],
    },
    "deepseek_v2": {**DEEPSEEK, "q_lora_rank": None},
    "deepseek_v3": {**DEEPSEEK, "n_group": 4, "topk_group": 2, "num_nextn_predict_layers": 1},
}
FAMILIES = tuple(CONFIGS)


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor, written from the model classes of transformers."""
    c, hidden = config, config["hidden_size"]
    found = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not c.get("tie_word_embeddings"):
        found["lm_head.weight"] = (c["vocab_size"], hidden)
    mtp = c.get("num_nextn_predict_layers", 0)
    for i in range(c["num_hidden_layers"] + mtp):
        name = f"model.layers.{i}"
        found |= {
            f"{name}.{n}.weight": (hidden,) for n in ("input_layernorm", "post_attention_layernorm")
        }
        found |= attention(c, f"{name}.self_attn") | feed_forward(c, i, f"{name}.mlp")
        if i >= c["num_hidden_layers"]:
            found |= {
                f"{name}.{n}.weight": (hidden,) for n in ("enorm", "hnorm", "shared_head.norm")
            }
            found[f"{name}.eh_proj.weight"] = (hidden, 2 * hidden)
            found[f"{name}.shared_head.head.weight"] = (c["vocab_size"], hidden)
    return found


def attention(c: dict[str, Any], name: str) -> dict[str, tuple[int, ...]]:
    hidden, heads, kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
    if "kv_lora_rank" in c:
        rank, nope, rope, value = (
            c[k] for k in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        )
        found = {
            "kv_a_proj_with_mqa.weight": (rank + rope, hidden),
            "kv_a_layernorm.weight": (rank,),
            "kv_b_proj.weight": (heads * (nope + value), rank),
            "o_proj.weight": (hidden, heads * value),
        }
        q = heads * (nope + rope)
        if c["q_lora_rank"] is None:
            found["q_proj.weight"] = (q, hidden)
        else:
            found |= {
                "q_a_proj.weight": (c["q_lora_rank"], hidden),
                "q_a_layernorm.weight": (c["q_lora_rank"],),
                "q_b_proj.weight": (q, c["q_lora_rank"]),
            }
    else:
        d = c.get("head_dim", hidden // heads)
        found = {
            "q_proj.weight": (heads * d, hidden),
            "k_proj.weight": (kv * d, hidden),
            "v_proj.weight": (kv * d, hidden),
            "o_proj.weight": (hidden, heads * d),
        }
        if c["model_type"] == "qwen2":
            found |= {f"{p}_proj.bias": (n * d,) for p, n in (("q", heads), ("k", kv), ("v", kv))}
        if c["model_type"].startswith("qwen3"):
            found |= {"q_norm.weight": (d,), "k_norm.weight": (d,)}
    return {f"{name}.{key}": shape for key, shape in found.items()}


def feed_forward(c: dict[str, Any], i: int, name: str) -> dict[str, tuple[int, ...]]:
    hidden, deepseek = c["hidden_size"], "n_routed_experts" in c
    dense = i < c["first_k_dense_replace"] if deepseek else i in c.get("mlp_only_layers", (0, 1))
    if dense:
        return mlp(name, hidden, c["intermediate_size"])
    count, width = c.get("n_routed_experts", c.get("num_experts")), c["moe_intermediate_size"]
    found: dict[str, tuple[int, ...]] = {f"{name}.gate.weight": (count, hidden)}
    for e in range(count):
        found |= mlp(f"{name}.experts.{e}", hidden, width)
    if deepseek:
        found |= mlp(f"{name}.shared_experts", hidden, width * c["n_shared_experts"])
        if c["model_type"] == "deepseek_v3":
            found[f"{name}.gate.e_score_correction_bias"] = (count,)
    return found


def mlp(name: str, hidden: int, width: int) -> dict[str, tuple[int, ...]]:
    parts = (("gate_proj", width, hidden), ("up_proj", width, hidden), ("down_proj", hidden, width))
    return {f"{name}.{part}.weight": (n, k) for part, n, k in parts}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Norm weights about 1; weights that keep the size of what passes through."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    size = 0.1 if len(shape) == 1 else shape[-1] ** -0.5
    centre = 1.0 if name.endswith("norm.weight") else 0.0
    return centre + size * rng.standard_normal(shape)


Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """build(family, tensors={}, **config) -> directory; None takes a member or a tensor away."""

    def make(family: str, tensors: dict[str, Any] | None = None, **changes: Any) -> Path:
        config = {**COMMON, **CONFIGS[family], "model_type": family, **changes}
        dtype = ml_dtypes.bfloat16 if config["torch_dtype"] == "bfloat16" else config["torch_dtype"]
        arrays = {n: values(n, s).astype(dtype) for n, s in shapes(config).items()}
        arrays |= tensors or {}
        folder = tmp_path / f"{family}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        kept = {n: a for n, a in arrays.items() if a is not None}
        save_file(kept, folder / "model.safetensors")
        return folder

    return make


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
