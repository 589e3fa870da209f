"""Run a part of a layer with other weights, and how far its outputs move (the loss of AWQ).

Source: math.md 3.5; msmodelslim processor/anti_outlier/awq/processor.py (lowest common ancestor),
best_scales_search.py (sum of squares over all texts by the number of outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from slimspec.model.attention import grouped_query_attention
from slimspec.model.decoder import Layer
from slimspec.model.mla import latent_attention
from slimspec.model.mlp import gated_mlp
from slimspec.numeric import as_float32, mul, sub
from slimspec.numeric.reduction import cascade_sum
from slimspec.quantize.awq import fake_scaled

ATTENTION, MLP = ".self_attn", ".mlp"


def inspected(targets: Sequence[str]) -> str:
    """Return the module whose outputs are compared: the lowest one that holds all targets."""
    if len(targets) == 1:
        return targets[0]
    levels = zip(*(target.split(".") for target in targets), strict=False)
    return ".".join(names[0] for names in takewhile(_same, levels))


def run_block(
    layer: Layer, module: str, batches: Sequence[NDArray], weights: Mapping[str, NDArray]
) -> list[NDArray]:
    """Return the outputs of an attention, an MLP or a linear of a layer.

    Args: batches: its inputs (t, k) per text; weights: linears below it by name, others are as the
        layer has them. Returns: (t, n) of T per text.
    """
    tensors = {f"{name}.weight": w for name, w in weights.items()}
    scope = replace(layer.scope, linear_of=None, observe=None, states=None, _tensors=tensors)
    if module.endswith(ATTENTION):
        attention = latent_attention if scope.architecture.latent else grouped_query_attention
        return [attention(scope, layer.index, module, x, np.arange(len(x)), None) for x in batches]
    if module.endswith(MLP):
        return [gated_mlp(scope, module, x) for x in batches]
    rows = scope.weights.rows(f"{module}.weight")
    return [scope.linear(module, x, rows) for x in batches]


def block_loss(
    layer: Layer,
    targets: Sequence[str],
    consumers: Sequence[NDArray],
    batches: Sequence[NDArray],
    bits: int,
) -> Callable[[NDArray], float]:
    """Return the loss of a scale [k]: Σ (y - ŷ)² / number of outputs, ŷ with Q(W·s) / s.

    The first scale meets weights of the model's dtype. What the tool puts back afterwards is a copy
    in float32, so that those of 16 bits are scaled and quantized in float32 from the second on.
    Source: best_scales_search.py:60-121 (search, _apply_candidate_scales); measured on runs.
    """
    module, named = inspected(targets), dict(zip(targets, consumers, strict=True))
    golden = run_block(layer, module, batches, named)
    size = sum(y.size for y in golden)

    def loss(scale: NDArray) -> float:
        fake = {name: fake_scaled(w, scale, bits=bits) for name, w in named.items()}
        named.update({name: as_float32(w) for name, w in named.items()})
        found = run_block(layer, module, batches, fake)
        return sum(map(_squares, found, golden)) / size

    return loss


def _same(names: Sequence[str]) -> bool:
    return len(set(names)) == 1


def _squares(a: NDArray, b: NDArray) -> float:
    error = sub(a, b, a.dtype)
    return float(cascade_sum(mul(error, error, a.dtype).reshape(-1)))
