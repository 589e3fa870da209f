"""Tiny float models with the tensor names of real ones, their weights from a seed.

`dense` is Qwen2-like (biases on q, k, v), `qwen3` Qwen3-like (q and k norms), `llama` Llama-like,
`moe` Qwen3-MoE-like (q and k norms, 4 experts), `mla` DeepSeek-V3-like (one dense layer, one with
a shared and 2 routed experts). `sparse` is `dense` with its small weights at zero, `sparse-llama`
and so on the others; `odd` is `dense` without the last column of its last down_proj.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.numeric import to_dtype

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, VOCABULARY = 64, 4, 2, 16, 2, 48
EXPERTS, EXPERT = 4, 32
Q_RANK, KV_RANK, NOPE, ROPE, VALUE = 32, 32, 16, 8, 16
_SEED = 20240

DTYPES = {"fp16": ("F16", "float16"), "bf16": ("BF16", "bfloat16"), "fp32": ("F32", "float32")}

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_float(directory: Path, dtype: str, model: str = "dense") -> None:
    """Write a tiny float model as a Hugging Face directory.

    Args:
        directory: to create; a folder `{directory}-companions` appears beside it.
        dtype: "fp16", "bf16" or "fp32".
        model: one of the names above.
    """
    source = directory.with_name(directory.name + "-companions")
    source.mkdir()
    config = {**_CONFIGS[_family(model)], "torch_dtype": DTYPES[dtype][1]}
    (source / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (source / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with CheckpointWriter(directory, profile="FLOAT") as writer:
        writer.copy_companions(source)
        for name, array in float_tensors(dtype, model):
            writer.write(name, array, None)


def float_tensors(dtype: str, model: str = "dense") -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the tensors of a tiny float model, in a fixed order."""
    # the legacy generator is the one whose stream NumPy promises never to change
    random = np.random.RandomState(_SEED)
    target = whole_dtype(DTYPES[dtype][0])
    for name, shape in _model(_LAYERS[_family(model)]):
        if name.endswith("norm.weight"):
            values = np.ones(shape, dtype=np.float32)
        else:
            values = random.standard_normal(shape).astype(np.float32)
        if model.startswith("sparse") and "_proj" in name and name.endswith(".weight"):
            values = np.where(np.abs(values) < np.float32(0.7), np.float32(0), values)
        if model == "odd" and name == f"model.layers.{LAYERS - 1}.mlp.down_proj.weight":
            values = np.ascontiguousarray(values[:, :-1])
        yield name, to_dtype(values, target)


def _family(model: str) -> str:
    return "dense" if model in ("sparse", "odd") else model.removeprefix("sparse-")


def _attention(prefix: str, bias: bool, norms: bool) -> Shapes:
    for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
        yield f"{prefix}.{name}_proj.weight", (heads * HEAD_DIM, HIDDEN)
        if bias:
            yield f"{prefix}.{name}_proj.bias", (heads * HEAD_DIM,)
    yield f"{prefix}.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
    for name in ("q", "k") if norms else ():
        yield f"{prefix}.{name}_norm.weight", (HEAD_DIM,)


def _latent_attention(prefix: str) -> Shapes:
    yield f"{prefix}.q_a_proj.weight", (Q_RANK, HIDDEN)
    yield f"{prefix}.q_a_layernorm.weight", (Q_RANK,)
    yield f"{prefix}.q_b_proj.weight", (HEADS * (NOPE + ROPE), Q_RANK)
    yield f"{prefix}.kv_a_proj_with_mqa.weight", (KV_RANK + ROPE, HIDDEN)
    yield f"{prefix}.kv_a_layernorm.weight", (KV_RANK,)
    yield f"{prefix}.kv_b_proj.weight", (HEADS * (NOPE + VALUE), KV_RANK)
    yield f"{prefix}.o_proj.weight", (HIDDEN, HEADS * VALUE)


def _mlp(prefix: str, size: int) -> Shapes:
    yield f"{prefix}.gate_proj.weight", (size, HIDDEN)
    yield f"{prefix}.up_proj.weight", (size, HIDDEN)
    yield f"{prefix}.down_proj.weight", (HIDDEN, size)


def _experts(prefix: str, count: int) -> Shapes:
    yield f"{prefix}.gate.weight", (count, HIDDEN)
    for expert in range(count):
        yield from _mlp(f"{prefix}.experts.{expert}", EXPERT)


def _model(layer: Callable[[int, str], Shapes]) -> Shapes:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for number in range(LAYERS):
        prefix = f"model.layers.{number}"
        yield f"{prefix}.input_layernorm.weight", (HIDDEN,)
        yield f"{prefix}.post_attention_layernorm.weight", (HIDDEN,)
        yield from layer(number, prefix)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def _dense_layer(bias: bool, norms: bool) -> Callable[[int, str], Shapes]:
    def layer(number: int, prefix: str) -> Shapes:
        yield from _attention(f"{prefix}.self_attn", bias, norms)
        yield from _mlp(f"{prefix}.mlp", HIDDEN)

    return layer


def _moe_layer(number: int, prefix: str) -> Shapes:
    yield from _attention(f"{prefix}.self_attn", bias=False, norms=True)
    yield from _experts(f"{prefix}.mlp", EXPERTS)


def _mla_layer(number: int, prefix: str) -> Shapes:
    yield from _latent_attention(f"{prefix}.self_attn")
    if number == 0:
        yield from _mlp(f"{prefix}.mlp", HIDDEN)
    else:
        yield from _experts(f"{prefix}.mlp", EXPERTS // 2)
        yield f"{prefix}.mlp.gate.e_score_correction_bias", (EXPERTS // 2,)
        yield from _mlp(f"{prefix}.mlp.shared_experts", EXPERT)


_LAYERS: dict[str, Callable[[int, str], Shapes]] = {
    "dense": _dense_layer(bias=True, norms=False),
    "qwen3": _dense_layer(bias=False, norms=True),
    "llama": _dense_layer(bias=False, norms=False),
    "moe": _moe_layer,
    "mla": _mla_layer,
}

_COMMON: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCABULARY,
}
_CONFIGS: dict[str, dict[str, Any]] = {
    "dense": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "num_key_value_heads": KV_HEADS,
        **_COMMON,
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": HEAD_DIM,
        "num_key_value_heads": KV_HEADS,
        **_COMMON,
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_key_value_heads": KV_HEADS,
        **_COMMON,
    },
    "moe": {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "head_dim": HEAD_DIM,
        "moe_intermediate_size": EXPERT,
        "num_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "num_key_value_heads": KV_HEADS,
        **_COMMON,
    },
    "mla": {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 1,
        "kv_lora_rank": KV_RANK,
        "moe_intermediate_size": EXPERT,
        "n_routed_experts": EXPERTS // 2,
        "n_shared_experts": 1,
        "num_experts_per_tok": 1,
        "num_key_value_heads": HEADS,
        "num_nextn_predict_layers": 0,
        "q_lora_rank": Q_RANK,
        "qk_nope_head_dim": NOPE,
        "qk_rope_head_dim": ROPE,
        "v_head_dim": VALUE,
        **_COMMON,
    },
}
