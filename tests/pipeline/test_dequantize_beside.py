"""Dequantizing linears with what may stand beside them: KV scales, copies of norms, shards."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.pipeline.dequantize import dequantize_directory

N, K, RANKS = 6, 8, 2
K_PROJ, DOWN = "model.layers.0.self_attn.k_proj", "model.layers.0.mlp.down_proj"
NORM = "model.layers.0.input_layernorm"
Tensors = dict[str, tuple[NDArray, str]]


def linear(seed: int, columns: int = K) -> tuple[NDArray, Tensors]:
    """The float weight of a W8A8_DYNAMIC linear, and its tensors."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (N, columns)).astype(np.int8)
    scale = rng.uniform(0.5, 2, (N, 1)).astype(np.float32)
    made = {
        "weight": codes,
        "weight_scale": scale,
        "weight_offset": np.zeros_like(scale),
    }
    return codes * scale, {suffix: (array, "W8A8_DYNAMIC") for suffix, array in made.items()}


def write(directory: Path, modules: dict[str, Tensors]) -> Path:
    with CheckpointWriter(directory, profile="L0", model_quant_type="W8A8_DYNAMIC") as writer:
        for module, tensors in modules.items():
            for suffix, (array, label) in tensors.items():
                writer.write(f"{module}.{suffix}", array, label)
    (directory / "config.json").write_text(json.dumps({"torch_dtype": "float32"}), "utf-8")
    return directory


def back(directory: Path, out: Path) -> dict[str, NDArray]:
    dequantize_directory(directory, out)
    found = {}
    for file in out.glob("*.safetensors"):
        found.update(load_file(file))
    return found


def test_scales_of_the_cache_are_left_out(tmp_path: Path) -> None:
    weight, tensors = linear(1)
    tensors["kv_cache_scale"] = (np.ones(N, np.float32), "C8")
    tensors["kv_cache_offset"] = (np.zeros(N, np.float32), "C8")
    found = back(write(tmp_path / "q", {K_PROJ: tensors}), tmp_path / "f")
    assert list(found) == [f"{K_PROJ}.weight"]
    assert np.array_equal(found[f"{K_PROJ}.weight"], weight)


def test_copies_of_norms_are_left_out(tmp_path: Path) -> None:
    norm = {"weight": np.arange(K, dtype=np.float32), "bias": np.ones(K, np.float32)}
    modules = {
        K_PROJ: linear(1)[1],
        NORM: {suffix: (array, "FLOAT") for suffix, array in norm.items()},
        f"{NORM}.module": {suffix: (array, "W8A8_DYNAMIC") for suffix, array in norm.items()},
    }
    found = back(write(tmp_path / "q", modules), tmp_path / "f")
    assert set(found) == {f"{K_PROJ}.weight", f"{NORM}.weight", f"{NORM}.bias"}
    assert np.array_equal(found[f"{NORM}.weight"], norm["weight"])


def cut(rows: int = N) -> tuple[NDArray, dict[str, Tensors]]:
    """A linear over two ranks, each with scales of its own."""
    parts = [linear(seed, K // RANKS) for seed in range(RANKS)]
    whole = np.concatenate([tensors["weight"][0] for _, tensors in parts], axis=1)
    sums = (np.ones(N, np.float32), "W8A8_DYNAMIC")
    modules: dict[str, Tensors] = {
        DOWN: {"weight": (whole[:rows], "W8A8_DYNAMIC"), "gather_scale": sums}
    }
    for rank, (_, tensors) in enumerate(parts):
        modules[f"{DOWN}.tp_list.{rank}"] = tensors
        modules[f"{DOWN}.reduce_scale"] = {"0": sums, "1": sums}
    return np.concatenate([weight for weight, _ in parts], axis=1), modules


def test_shards_are_put_together(tmp_path: Path) -> None:
    weight, modules = cut()
    found = back(write(tmp_path / "q", modules), tmp_path / "f")
    assert list(found) == [f"{DOWN}.weight"]
    assert np.array_equal(found[f"{DOWN}.weight"], weight)


def test_bias_of_the_first_shard_is_that_of_the_linear(tmp_path: Path) -> None:
    _, modules = cut()
    modules[f"{DOWN}.tp_list.0"]["bias"] = (np.arange(N, dtype=np.float32), "W8A8_DYNAMIC")
    found = back(write(tmp_path / "q", modules), tmp_path / "f")
    assert set(found) == {f"{DOWN}.weight", f"{DOWN}.bias"}
    assert found[f"{DOWN}.bias"].tolist() == list(range(N))


def test_shards_that_are_not_the_linear_are_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "q", cut(rows=N - 1)[1])
    with pytest.raises(CheckpointError, match=r"down_proj\.weight: found shape \[5, 8\].*\[6, 8\]"):
        dequantize_directory(directory, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_shards_of_different_heights_are_refused(tmp_path: Path) -> None:
    _, modules = cut()
    shard = modules[f"{DOWN}.tp_list.1"]
    modules[f"{DOWN}.tp_list.1"] = {s: (array[:3], label) for s, (array, label) in shard.items()}
    with pytest.raises(CheckpointError, match=r"down_proj\.weight: found shards of 6, 3 rows"):
        dequantize_directory(write(tmp_path / "q", modules), tmp_path / "f")
