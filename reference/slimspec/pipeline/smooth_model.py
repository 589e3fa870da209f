"""Anti-outlier methods on a whole model: which tensors belong together, their scale, the folds.

    norm-linear   norm.weight / s, norm.bias / s;  every linear behind it: W·s
    ov            rows of the value projection / s;  o_proj: W·s
    up-down       rows of up_proj / s;  down_proj: W·s

The Calibrator API ("v0") smooths norm-linear first. The one-click service ("v1"), and "v0" on
models it is told, go back to front: up-down, ov, norm-linear, each on weights that the one before
has already scaled.

Source: math.md 8.1, 8.2; seeds 002 (back-to-front smoothing); msmodelslim
pytorch/llm_ptq/model/deepseek_v2/deepseek_v2.py, model/deepseek_v3/model_adapter.py:259-330,
processor/anti_outlier/smooth_base.py:56-61. Multi-token prediction layers are not smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.model import Architecture
from slimspec.model.bert import EncoderLayer
from slimspec.model.decoder import Layer
from slimspec.model.numerics import Numerics
from slimspec.numeric import as_float32, div, sub, to_dtype
from slimspec.quantize.affine import Variant
from slimspec.smooth.fold import Affine, shift_consumer
from slimspec.smooth.outlier_suppression import Statistics, collect
from slimspec.smooth.suppression_loss import OutputLoss

from .calibration.blocks import block_loss
from .calibration.scales import Scales, channel_middle, find_scales, told
from .calibration.settings import LOWBIT, V1_KINDS, V1_METHODS, Settings, SmoothStep
from .calibration.source import Fold, FoldedWeights, Where
from .steps import matches

Kind = Literal["norm-linear", "ov", "up-down"]
V0_LINEAR_METHODS = ("m4", "m6")  # those that also smooth what follows another linear
OWN_NORMS = ("m1", "m4")  # methods of the one-click service that replace the norms they scale
NORMS_ONLY = ("norm-linear",)
UNTOLD = ("llama", "qwen2")  # models whose parts the one-click service is not told


@dataclass(frozen=True)
class Subgraph:
    """Tensors that one scale goes through: a source, and the linears that read what it makes."""

    kind: Kind
    source: str
    targets: tuple[str, ...]


def subgraphs(
    architecture: Architecture, layer: str, weights: FoldedWeights, settings: Settings
) -> list[Subgraph]:
    """Return what is smoothed in a layer, in the producer's order; parts that are missing drop out.

    Raises: CheckpointError: a method that the producer does not have.
    """
    encoder = architecture.model_type == "bert"
    kinds = ("ov",) if encoder else _kinds(architecture.model_type, settings)
    found = [g for g in _known(architecture, layer, settings.variant) if g.kind in kinds]
    if _tears(architecture, settings) and not (settings.smoothing and settings.smoothing.defects):
        found = [g for g in found if g.kind != "ov"]
    if settings.smoothing:
        globs = settings.smoothing.include, settings.smoothing.exclude
        found = [g for g in found if matches(g.source, *globs)]
    present = [g for g in found if all(f"{m}.weight" in weights for m in (g.source, *g.targets))]
    back_to_front = settings.variant == "v1" or told(architecture)
    order: tuple[Kind, ...] = ("norm-linear", "ov", "up-down")
    order = ("up-down", "ov", "norm-linear") if back_to_front else order
    return sorted(present, key=lambda g: order.index(g.kind))


def own_norms(
    architecture: Architecture, layer: str, weights: FoldedWeights, settings: Settings
) -> set[str]:
    """Return the norms of a layer that the one-click service replaces before it smooths.

    Source: msmodelslim processor/anti_outlier/{iter_smooth,smooth_quant}/processor.py
    (_replace_norm_modules).
    """
    if settings.anti_method not in OWN_NORMS:
        return set()
    found = subgraphs(architecture, layer, weights, settings)
    return {graph.source for graph in found if graph.kind == "norm-linear"}


def _service_kinds(model_type: str, step: SmoothStep) -> tuple[str, ...]:
    """What the one-click service smooths: its smooth_quant knows norms alone.

    A model whose parts it was not told is searched for linears that read a norm, and no others are
    found. Source: msmodelslim processor/anti_outlier/smooth_quant/processor.py
    (ENABLE_SUBGRAPH_TYPE), processor/anti_outlier/default/model_adapter.py,
    model/{default,qwen2_5}/model_adapter.py (no interfaces of these steps).
    """
    untold = model_type in UNTOLD and step.method != "awq"
    own = NORMS_ONLY if untold or step.method == "smooth_quant" else V1_KINDS
    return tuple(kind for kind in step.subgraphs if kind in own)


def _kinds(model_type: str, settings: Settings) -> tuple[str, ...]:
    method = settings.anti_method
    if settings.variant == "v1":
        if method not in V1_METHODS:
            known = ", ".join(V1_METHODS)
            raise CheckpointError(
                f"anti_method {method}: the one-click service has {known}; choose one of them, or "
                "producer A0 or L0 for the methods of the Calibrator API"
            )
        return _service_kinds(model_type, settings.service)
    return ("norm-linear", "ov", "up-down") if method in V0_LINEAR_METHODS else ("norm-linear",)


def _known(a: Architecture, layer: str, variant: Variant) -> list[Subgraph]:
    """Subgraphs of a layer by architecture, those of experts and parts left out as producers do."""
    if a.model_type == "bert":  # post-norm: a norm also feeds the sum, so only values can be scaled
        inner = f"{layer}.attention"
        return [Subgraph("ov", f"{inner}.self.value", (f"{inner}.output.dense",))]
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    parts: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    found = []
    if a.latent:
        parts = ("q_a_proj" if a.latent.q_rank else "q_proj", "kv_a_proj_with_mqa")
        found.append(Subgraph("ov", f"{attention}.kv_b_proj", (f"{attention}.o_proj",)))
        norm, linear = ("q_a_layernorm", "q_b_proj")
        if not a.latent.q_rank:
            norm, linear = ("kv_a_layernorm", "kv_b_proj")
        found.append(Subgraph("norm-linear", f"{attention}.{norm}", (f"{attention}.{linear}",)))
        parents = (mlp, f"{mlp}.shared_experts", *_experts(a, mlp)) if variant == "v1" else ()
        found += map(_up_down, parents)
    else:
        found.append(Subgraph("ov", f"{attention}.v_proj", (f"{attention}.o_proj",)))
        found += map(_up_down, (mlp, *_experts(a, mlp)) if variant == "v1" else (mlp,))
        gates = (f"{mlp}.gate_proj", f"{mlp}.up_proj")
        found.append(Subgraph("norm-linear", f"{layer}.post_attention_layernorm", gates))
    first = tuple(f"{attention}.{part}" for part in parts)
    found.insert(1, Subgraph("norm-linear", f"{layer}.input_layernorm", first))
    return found


def _experts(a: Architecture, mlp: str) -> list[str]:
    """Every routed expert of a layer, as the service's adapters list them.

    Source: msmodelslim model/{qwen3_moe,deepseek_v3}/model_adapter.py
    (get_adapter_config_for_subgraph).
    """
    return [f"{mlp}.experts.{e}" for e in range(a.experts.count if a.experts else 0)]


def _up_down(parent: str) -> Subgraph:
    return Subgraph("up-down", f"{parent}.up_proj", (f"{parent}.down_proj",))


def smooth_layer(
    architecture: Architecture,
    layer: Layer | EncoderLayer,
    weights: FoldedWeights,
    seen: dict[str, list[NDArray]],
    settings: Settings,
) -> list[Subgraph]:
    """Fold the scales of one layer into `weights`; return what was smoothed.

    Args: seen: inputs of its linears, (t, k) per text, before folding.
    """
    done = []
    for graph in subgraphs(architecture, layer.name, weights, settings):
        batches = seen.get(graph.targets[0])
        if not batches:
            continue
        consumers = [weights.stored(f"{target}.weight") for target in graph.targets]
        statistics = collect(batches)
        # float32 behind deployed linears: only statistics are taken before they are narrowed
        batches = [to_dtype(x, consumers[0].dtype) for x in batches]
        rows = weights.stored(f"{graph.source}.weight").shape[0]
        loss: Callable[[NDArray], float] | None = None
        if settings.anti_method == "awq" and isinstance(layer, Layer):
            bits = settings.smoothing.w_bit if settings.smoothing else 8
            loss = block_loss(layer, graph.targets, consumers, batches, bits)
        elif settings.anti_method == "m2":
            linears = [
                Affine(w, _bias(weights, t)) for t, w in zip(graph.targets, consumers, strict=True)
            ]
            loss = OutputLoss(statistics, linears, Numerics(consumers[0].dtype, settings.cpu))
        scales = find_scales(
            graph.kind, architecture, settings, statistics, batches, consumers, rows, loss
        )
        if _shifts(architecture, graph, settings):
            _shift(weights, graph, statistics, scales)
        step = settings.service if settings.variant == "v1" else None
        norm = step is not None and graph.kind == "norm-linear"
        moves = norm and step is not None and not step.symmetric
        middle = channel_middle(batches) if moves else None
        if middle is not None:
            _shift_consumers(weights, graph, middle)
        torn = graph.kind == "ov" and _tears(architecture, settings)
        _fold(weights, graph, scales, settings, source=not torn)
        if middle is not None or (norm and step is not None and step.method == "smooth_quant"):
            _add_norm_bias(weights, graph, scales, middle)
        done.append(graph)
    return done


def _shifts(a: Architecture, graph: Subgraph, settings: Settings) -> bool:
    """do_smooth shifts every norm, m4 those of models it is told, but not the one of kv_b."""
    if settings.anti_method == LOWBIT:
        return graph.kind == "norm-linear"
    asked = settings.variant == "v0" and settings.anti_method == "m4" and told(a)
    return asked and graph.kind == "norm-linear" and "kv_b" not in graph.targets[0]


def _tears(architecture: Architecture, settings: Settings) -> bool:
    """True where awq scales o_proj and then fails at the values that several heads share (D-21).

    What it leaves computes something else, so the subgraph is left out unless defects are asked
    for. Source: math.md 15; measured on a recorded run.
    """
    return settings.anti_method == "awq" and architecture.heads != architecture.kv_heads


def _fold(
    weights: FoldedWeights,
    graph: Subgraph,
    scales: Scales,
    settings: Settings,
    *,
    source: bool = True,
) -> None:
    variant = settings.variant
    where: Where = "vector" if graph.kind == "norm-linear" else "rows"
    if source:
        weights.folds[f"{graph.source}.weight"].append(Fold(where, scales.source, variant))
    if source and f"{graph.source}.bias" in weights:
        weights.folds[f"{graph.source}.bias"].append(Fold("vector", scales.source, variant))
    for target in graph.targets:
        if settings.anti_method == "awq":  # its search left a copy in float32 (`block_loss`)
            weights.folds[f"{target}.weight"].append(as_float32)
        weights.folds[f"{target}.weight"].append(Fold("columns", scales.columns, variant))


def _shift(weights: FoldedWeights, graph: Subgraph, statistics: Statistics, scales: Scales) -> None:
    """Move the middle of every channel into biases: norm.bias - shift, consumer + shift·Wᵀ.

    The scale is divided out of the norm's bias afterwards, with that of the weight.
    """
    bias, shift = f"{graph.source}.bias", as_float32(statistics.shift)
    old = as_float32(weights.stored(bias)) if bias in weights else np.zeros_like(shift)
    weights.add(bias, sub(old, shift, np.float32))
    _shift_consumers(weights, graph, statistics.shift)


def _bias(weights: FoldedWeights, module: str) -> NDArray | None:
    return weights.stored(f"{module}.bias") if f"{module}.bias" in weights else None


def _shift_consumers(weights: FoldedWeights, graph: Subgraph, shift: NDArray) -> None:
    """Give the linears behind a norm what a shift of their inputs takes away: bias + shift·Wᵀ."""
    for target in graph.targets:
        w = weights.stored(f"{target}.weight")
        moved = shift_consumer(Affine(w, _bias(weights, target)), shift).bias
        assert moved is not None
        weights.add(f"{target}.bias", moved)


def _add_norm_bias(
    weights: FoldedWeights, graph: Subgraph, scales: Scales, middle: NDArray | None
) -> None:
    """Give an RMSNorm of "v1" its float32 bias: -shift · (1/s), or zeros without a shift.

    Source: math.md 8.2; msmodelslim ir/norm_bias.py, processor/anti_outlier/iter_smooth/api.py.
    """
    inverse = as_float32(div(1.0, scales.source, scales.source.dtype))
    bias = np.zeros_like(inverse) if middle is None else -as_float32(middle) * inverse
    weights.add(f"{graph.source}.bias", bias)


def add_norm_biases(weights: FoldedWeights, settings: Settings) -> list[str]:
    """Give every RMSNorm the float32 bias that the Calibrator API adds; return the norms.

    m6 and the one-click service add none. Source: math.md 8.3; formats.md 3.0 (norms).
    """
    if settings.variant != "v0" or settings.anti_method in ("", "m6"):
        return []
    norms = rms_norms(weights.checkpoint.table.names)
    for norm in norms:
        if f"{norm}.bias" not in weights:
            size = weights.stored(f"{norm}.weight").shape[0]
            weights.add(f"{norm}.bias", np.zeros(size, np.float32))
    return norms


def rms_norms(names: Sequence[str]) -> list[str]:
    """Return the modules that are RMSNorms of a decoder, by name."""
    modules = (name.removesuffix(".weight") for name in names if name.endswith("norm.weight"))
    return [m for m in modules if m.startswith("model.") and "shared_head" not in m]


__all__ = ["Subgraph", "add_norm_biases", "own_norms", "rms_norms", "smooth_layer", "subgraphs"]
