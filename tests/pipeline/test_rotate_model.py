"""A rotated model computes what the model does, in other coordinates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.model import Decoder, following_tokens, read_architecture
from slimspec.model.dtype import model_numerics
from slimspec.pipeline.calibration.source import FoldedWeights
from slimspec.pipeline.quantize import open_float
from slimspec.pipeline.rotate_model import rotate_model

Build = Callable[..., Path]
TOKENS = np.arange(3, 40, 3)


def decoder(folder: Path, block_size: int = 0) -> Decoder:
    checkpoint = open_float(folder)
    weights = FoldedWeights(checkpoint)
    architecture = read_architecture(checkpoint.config, str(folder))
    if block_size:
        rotate_model(weights, architecture, block_size)
    return Decoder(architecture, weights, model_numerics(checkpoint, None))


def logits(model: Decoder) -> np.ndarray:
    h = model.embed(TOKENS)
    for layer in model.layers():
        h = layer(h)
    made = [model.head(h)]
    for parts, layer in model.mtp_layers() if model.architecture.mtp else ():
        h = layer(parts.enter(h, following_tokens(TOKENS, 7)))
        made.append(parts.head(h))
    return np.concatenate(made)


@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "deepseek_v3", "deepseek_mtp"])
@pytest.mark.parametrize("block_size", [-1, 16])
def test_logits_stay_the_same(build: Build, family: str, block_size: int) -> None:
    folder = build(family, "float32")
    plain, turned = logits(decoder(folder)), logits(decoder(folder, block_size))
    # float32 with sums of at most 128 terms in another order, through two layers
    assert np.abs(turned - plain).max() <= 2**-14 * np.abs(plain).max()
    assert not np.array_equal(turned, plain)


def test_stream_is_turned_and_norms_become_ones(build: Build) -> None:
    folder = build("llama", "float32")
    checkpoint = open_float(folder)
    weights = FoldedWeights(checkpoint)
    architecture = read_architecture(checkpoint.config, str(folder))
    r = rotate_model(weights, architecture, -1)
    embedding = checkpoint.tensor("model.embed_tokens.weight")
    assert np.array_equal(weights.stored("model.embed_tokens.weight"), embedding @ r)
    for name in checkpoint.table.names:
        if name.endswith("norm.weight"):
            assert (weights.stored(name) == 1).all()


@pytest.fixture
def tied(build: Build, tmp_path: Path) -> Path:
    """A float32 model whose head is the embedding."""
    folder = tmp_path / "tied"
    shutil.copytree(build("llama", "float32"), folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"tie_word_embeddings": True}
    path.write_text(json.dumps(config), encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_tied_head_becomes_a_tensor_of_its_own(tied: Path) -> None:
    plain, turned = logits(decoder(tied)), logits(decoder(tied, -1))
    assert np.abs(turned - plain).max() <= 2**-14 * np.abs(plain).max()  # as above


def test_tied_head_of_the_tool_takes_the_folds_of_both_and_breaks_the_model(tied: Path) -> None:
    checkpoint = open_float(tied)
    weights = FoldedWeights(checkpoint)
    architecture = read_architecture(checkpoint.config, str(tied))
    r = rotate_model(weights, architecture, -1, defects=True)
    embedding, gain = (
        checkpoint.tensor(f"model.{name}.weight") for name in ("embed_tokens", "norm")
    )
    expected = ((embedding.astype(np.float64) @ r) * gain) @ r
    found = weights.stored("model.embed_tokens.weight")
    assert np.abs(found - expected).max() <= 2**-18 * np.abs(expected).max()  # 128 terms, twice
    assert "lm_head.weight" not in weights
    broken = logits(Decoder(architecture, weights, model_numerics(checkpoint, None)))
    plain = logits(decoder(tied))
    assert np.abs(broken - plain).max() > 0.1 * np.abs(plain).max()


@pytest.mark.parametrize("texts", [False, True])
def test_directory_of_a_tied_model_says_that_the_head_is_its_own(
    tied: Path, calib_file: Path, tmp_path: Path, texts: bool
) -> None:
    steps = [{"step": "rotate"}, {"step": "quantize", "type": "W8A8" if texts else "W8A16"}]
    config = tmp_path / "config.yaml"
    more = {"calib_file": str(calib_file)} if texts else {}
    config.write_text(json.dumps({"steps": steps, **more}), encoding="utf-8")
    assert main(["quantize", str(tied), str(tmp_path / "q"), "--config", str(config)]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    made = open_checkpoint(tmp_path / "q")
    assert made.config is not None
    assert made.config.value["tie_word_embeddings"] is False
    assert made.description is not None
    assert made.description.labels["lm_head.weight"] == "FLOAT"
    head, table = (made.tensor(f"{n}.weight") for n in ("lm_head", "model.embed_tokens"))
    assert head.shape == table.shape
    assert not np.array_equal(head, table)


def test_size_without_a_hadamard_matrix_is_named(build: Build) -> None:
    with pytest.raises(CheckpointError, match="rotate: head_dim 16: block size 32"):
        decoder(build("llama"), 32)
