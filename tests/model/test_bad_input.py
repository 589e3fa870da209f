"""One clear line for every model that cannot run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointError
from slimspec.model import Decoder, Encoder, open_tokenizer

Build = Callable[..., Path]


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, ["model_type", "mamba", "qwen3_moe"]),
        ({"model_type": None}, ["model_type"]),
        ({"hidden_act": "relu"}, ["hidden_act", "relu", "silu"]),
        ({"hidden_size": "32"}, ["hidden_size", "32"]),
        ({"hidden_size": None}, ["hidden_size", "no such member"]),
        ({"hidden_size": True}, ["hidden_size", "True"]),
        ({"num_hidden_layers": 10**30}, ["num_hidden_layers"]),
        ({"num_key_value_heads": 3}, ["num_key_value_heads", "4 attention heads"]),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, ["hidden_size", "multiple of 5"]),
        ({"rms_norm_eps": -1}, ["rms_norm_eps", "-1"]),
        ({"rope_theta": 0}, ["rope_theta"]),
        ({"rope_scaling": {"rope_type": "longrope"}}, ["rope_type", "longrope", "yarn"]),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, ["type", "dynamic"]),
        ({"rope_scaling": {"type": "linear"}}, ["rope_scaling", "factor"]),
        ({"rope_scaling": [1]}, ["rope_scaling", "an object"]),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "beta_slow": 64}}, ["beta_fast"]),
    ],
)
def test_a_config_that_cannot_run_is_named(
    build: Build, changes: dict[str, Any], words: list[str]
) -> None:
    folder = build("llama")
    import json

    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(config), encoding="utf-8")
    text = refused(lambda: Decoder.open(folder))
    assert all(word in text for word in ["config.json", *words]), text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n_group": 3}, "n_routed_experts"),
        ({"topk_group": 9}, "topk_group"),
        ({"num_experts_per_tok": 8}, "num_experts_per_tok"),
        ({"scoring_func": "tanh"}, "scoring_func"),
        ({"topk_method": "random"}, "topk_method"),
    ],
)
def test_routing_that_cannot_work_is_named(
    build: Build, changes: dict[str, Any], word: str
) -> None:
    folder = build("deepseek_v3")
    import json

    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(config), encoding="utf-8")
    assert word in refused(lambda: Decoder.open(folder))


def test_a_missing_config_is_named(build: Build) -> None:
    folder = build("llama")
    (folder / "config.json").unlink()
    assert "config.json is missing" in refused(lambda: Decoder.open(folder))


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.1.self_attn.k_proj.bias",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.norm.weight",
    ],
)
def test_a_missing_tensor_is_named(build: Build, name: str) -> None:
    decoder = Decoder.open(build("qwen2", {name: None}))
    assert name in refused(lambda: decoder.forward(np.arange(4)))


@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight"]
)
def test_a_tensor_of_another_shape_is_named(build: Build, name: str) -> None:
    decoder = Decoder.open(build("llama", {name: np.zeros((3, 5), np.float32)}))
    text = refused(lambda: decoder.forward(np.arange(4)))
    assert name in text
    assert "[3, 5]" in text


def test_an_integer_weight_without_a_quantized_linear_is_named(build: Build) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    decoder = Decoder.open(build("llama", {name: np.zeros((32, 32), np.int8)}))
    text = refused(lambda: decoder.forward(np.arange(4)))
    assert name in text
    assert "int8" in text


def test_tokens_outside_the_table_are_refused(build: Build) -> None:
    decoder = Decoder.open(build("llama"))
    assert "0 to 39" in refused(lambda: decoder.forward(np.array([3, 40])))
    assert "0 to 39" in refused(lambda: decoder.forward(np.array([-1])))
    for tokens in (np.array([1.0]), np.zeros((1, 2), int), np.array([], int)):
        with pytest.raises(ValueError, match="tokens"):
            decoder.forward(tokens)


def test_encoders_and_decoders_are_not_mixed_up(build: Build) -> None:
    assert "is a decoder" in refused(lambda: Encoder.open(build("llama")))


def test_a_checkpoint_without_its_mtp_layer_is_refused(build: Build) -> None:
    folder = build("deepseek_v3", {"model.layers.2.eh_proj.weight": None})
    text = refused(lambda: list(Decoder.open(folder).mtp_layers()))
    assert "eh_proj" in text


def test_a_missing_or_broken_tokenizer_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    assert "tokenizer.json" in refused(lambda: open_tokenizer(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    assert "no tokenizer" in refused(lambda: open_tokenizer(tmp_path))
