"""Tiny random models with a tokenizer and calibration texts."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent))  # modules that several tests share

HIDDEN, WIDE, HEADS, KV, VOCABULARY = 64, 128, 4, 2, 300
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
COMMON = {
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 128,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": HIDDEN // HEADS},
    "qwen3_moe": {
        "head_dim": HIDDEN // HEADS,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "norm_topk_prob": True,
    },
    "deepseek_v3": {
        "num_key_value_heads": HEADS,
        "q_lora_rank": 32,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "v_head_dim": 16,
        "moe_intermediate_size": 64,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "scoring_func": "sigmoid",
        "first_k_dense_replace": 1,
    },
}
FAMILIES["deepseek_mtp"] = {
    **FAMILIES["deepseek_v3"],
    "model_type": "deepseek_v3",
    "num_nextn_predict_layers": 1,
}
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Quantization maps weights to integers with a scale.",
    "Numbers: 0 1 2 3 5 8 13 21 34 55 89 144.",
    "def add(a, b): return a + b",
)
Build = Callable[..., Path]


def _mlp(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.gate_proj.weight", (width, HIDDEN)
    yield f"{name}.up_proj.weight", (width, HIDDEN)
    yield f"{name}.down_proj.weight", (HIDDEN, width)


def _attention(c: dict[str, Any], name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    d = HIDDEN // HEADS
    if "kv_lora_rank" in c:
        yield f"{name}.q_a_proj.weight", (32, HIDDEN)
        yield f"{name}.q_a_layernorm.weight", (32,)
        yield f"{name}.q_b_proj.weight", (HEADS * 32, 32)
        yield f"{name}.kv_a_proj_with_mqa.weight", (32 + 16, HIDDEN)
        yield f"{name}.kv_a_layernorm.weight", (32,)
        yield f"{name}.kv_b_proj.weight", (HEADS * 32, 32)
    else:
        for part, heads in (("q", HEADS), ("k", KV), ("v", KV)):
            yield f"{name}.{part}_proj.weight", (heads * d, HIDDEN)
            if c["model_type"] == "qwen2":
                yield f"{name}.{part}_proj.bias", (heads * d,)
        if c["model_type"].startswith("qwen3"):
            yield f"{name}.q_norm.weight", (d,)
            yield f"{name}.k_norm.weight", (d,)
    yield f"{name}.o_proj.weight", (HIDDEN, HIDDEN)


def shapes(c: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0)):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (HIDDEN,)
        yield from _attention(c, f"{layer}.self_attn")
        yield f"{layer}.post_attention_layernorm.weight", (HIDDEN,)
        experts = c.get("num_experts") or c.get("n_routed_experts", 0)
        if experts and i >= c.get("first_k_dense_replace", 0):
            yield f"{layer}.mlp.gate.weight", (experts, HIDDEN)
            if "n_routed_experts" in c:
                yield f"{layer}.mlp.gate.e_score_correction_bias", (experts,)
                yield from _mlp(f"{layer}.mlp.shared_experts", 64)
            for e in range(experts):
                yield from _mlp(f"{layer}.mlp.experts.{e}", 64)
        else:
            yield from _mlp(f"{layer}.mlp", WIDE)
        if i >= c["num_hidden_layers"]:
            yield f"{layer}.embed_tokens.weight", (VOCABULARY, HIDDEN)
            yield f"{layer}.enorm.weight", (HIDDEN,)
            yield f"{layer}.hnorm.weight", (HIDDEN,)
            yield f"{layer}.eh_proj.weight", (HIDDEN, 2 * HIDDEN)
            yield f"{layer}.shared_head.norm.weight", (HIDDEN,)
            yield f"{layer}.shared_head.head.weight", (VOCABULARY, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Norms about 1 with a few outlier channels; weights that keep the size of what passes."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:
        return shape[-1] ** -0.5 * rng.standard_normal(shape)
    if not name.endswith("norm.weight"):
        return 0.01 * rng.standard_normal(shape)
    found = 1 + 0.1 * rng.standard_normal(shape)
    found[:: max(1, shape[0] // 3)] *= 8
    return found


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer: one token for each byte, with the specials a model has."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(family, dtype) -> directory of a model, one each per session."""
    made: dict[tuple[str, str], Path] = {}

    def make(family: str = "llama", dtype: str = "bfloat16") -> Path:
        if (family, dtype) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{dtype}")
            config = {"model_type": family, **COMMON, **FAMILIES[family], "torch_dtype": dtype}
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
            arrays = {n: values(n, s).astype(DTYPES[dtype]) for n, s in shapes(config)}
            save_file(arrays, folder / "model.safetensors")
            write_tokenizer(folder)
            made[family, dtype] = folder
        return made[family, dtype]

    return make


@pytest.fixture(scope="session")
def calib_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "calib.jsonl"
    lines = [json.dumps({"inputs_pretokenized": text}) for text in TEXTS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
