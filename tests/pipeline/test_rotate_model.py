"""A rotated model computes what the model does, in other coordinates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointError
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


def test_tied_embedding_is_refused_with_what_to_do(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "tied"
    shutil.copytree(build("llama"), folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"tie_word_embeddings": True}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match="set tie_word_embeddings false"):
        decoder(folder, -1)


def test_size_without_a_hadamard_matrix_is_named(build: Build) -> None:
    with pytest.raises(CheckpointError, match="rotate: head_dim 16: block size 32"):
        decoder(build("llama"), 32)
