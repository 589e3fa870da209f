"""Latent attention on the latent itself equals the one that expands keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimspec.model import Decoder
from slimspec.numeric import as_float32

Build = Callable[..., Path]
TOKENS = np.array([3, 1, 4, 1, 5, 9, 2, 6])


def run(model: Decoder, absorb: Callable[[str], bool] | None, seen: list | None = None):
    def states(name, q, k, v):
        if seen is not None:
            seen.append((name, q, k, v))
        return q, k, v

    h = model.embed(TOKENS)
    for layer in model.layers():
        scope = replace(layer.scope, absorb=absorb, states=states, _tensors={})
        h = replace(layer, scope=scope)(h)
    return as_float32(h)


@pytest.mark.parametrize("family", ["deepseek_v2", "deepseek_v3"])
def test_outputs_are_those_of_expanded_keys_and_values(build: Build, family: str) -> None:
    model = Decoder.open(build(family))
    plain = run(model, None)
    absorbed = run(model, lambda name: True)
    # float32: products of three matrices in another order, sums of at most 32 terms, two layers
    assert np.abs(absorbed - plain).max() <= 2**-16 * np.abs(plain).max()
    assert not np.array_equal(absorbed, plain)


def test_only_the_chosen_attentions_are_absorbed(build: Build) -> None:
    model, seen = Decoder.open(build("deepseek_v3")), []
    run(model, lambda name: ".1." in name, seen)
    sizes = {name: (q.shape, k.shape, v.shape) for name, q, k, v in seen}
    t, rank = len(TOKENS), 8
    assert sizes["model.layers.1.self_attn"] == ((4, t, rank), (1, t, rank), (1, t, rank))
    assert sizes["model.layers.0.self_attn"] == ((4, t, 12), (4, t, 12), (4, t, 6))
