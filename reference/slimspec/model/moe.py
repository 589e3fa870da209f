"""Mixture of experts: a router sends each token to a few experts and adds what they return.

    y = Σ_e weight_e · expert_e(x) + shared(x)

Choice: the `chosen` largest scores (plus a correction that only steers the choice) among the best
groups. Weight: the score itself, normalised and scaled.

Source: transformers models/qwen3_moe/modeling_qwen3_moe.py; DeepSeek-V2 and -V3 repositories,
modeling_deepseek.py (MoEGate, DeepseekV3MoE); arXiv 2412.19437 section 2.1.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, mul, to_dtype

from .config import Experts
from .mlp import gated_mlp
from .numerics import Numerics
from .scope import Scope
from .topk import largest

Array = NDArray[np.float32]
F32 = np.float32


def route(experts: Experts, scores: Array, correction: Array | None) -> tuple[NDArray, Array]:
    """Choose experts and their weights.

    Args:
        experts: the rules.
        scores: (t, e) float32, one per token and expert.
        correction: (e,) float32 added for the choice only, or None.

    Returns:
        indices (t, chosen) and weights (t, chosen) float32, best first.
    """
    ranked = scores if correction is None else scores + correction
    ranked = np.where(_in_best_groups(experts, ranked), ranked, F32(-np.inf))
    indices = largest(ranked, experts.chosen)
    weights = np.take_along_axis(scores, indices, axis=1)
    if experts.normalise:
        weights = weights / (weights.sum(axis=1, keepdims=True) + F32(1e-20))
    if not experts.normalise or experts.score == "sigmoid":  # V2 scales instead of normalising
        weights = weights * F32(experts.scaling)
    return indices, weights


def mixture(scope: Scope, prefix: str, x: NDArray) -> NDArray:
    """The feed-forward of a layer with experts. Args: x (t, hidden) of T. Returns: same."""
    experts = scope.architecture.experts
    assert experts is not None
    indices, weights = route(experts, *_scores(scope, prefix, x))
    kind = np.dtype(F32) if experts.sum_in_float32 else x.dtype
    total = np.zeros(x.shape, kind)
    for e in range(experts.count):
        rows, place = _chosen(experts, indices == e)
        if rows.size:
            if scope.routed is not None:
                scope.routed(f"{prefix}.experts.{e}", rows)
            y = gated_mlp(scope, f"{prefix}.experts.{e}", x[rows])
            factor = to_dtype(weights[rows, place, None], kind)
            total[rows] = add(total[rows], mul(y, factor, kind), kind)
    out = to_dtype(total, x.dtype)
    if experts.shared:
        out = add(out, gated_mlp(scope, f"{prefix}.shared_experts", x), x.dtype)
    return out


def _chosen(experts: Experts, hits: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Tokens of an expert and at which place they chose it, in the order the expert sees them.

    DeepSeek goes by token; Qwen by place, then token. Args: hits (t, chosen).
    """
    if experts.by_token:
        rows, place = np.nonzero(hits)
    else:
        place, rows = np.nonzero(hits.T)
    return rows, place


def _scores(scope: Scope, prefix: str, x: NDArray) -> tuple[Array, Array | None]:
    """Scores (t, e) and the correction (e,): Qwen's router is a linear, DeepSeek's is float32."""
    experts = scope.architecture.experts
    assert experts is not None
    name = f"{prefix}.gate"
    if not scope.architecture.latent:
        logits = scope.linear(name, x, experts.count)
    else:
        weight = scope.parameter(f"{name}.weight", (experts.count, x.shape[1]))
        exact = Numerics(F32)
        logits = exact.product(x, exact.prepared(weight))
    wide = as_float32(logits)
    scores = Numerics().softmax(wide) if experts.score == "softmax" else Numerics().sigmoid(wide)
    if not experts.corrected:
        return scores, None
    bias = scope.weights.float(f"{name}.e_score_correction_bias", (experts.count,))
    return scores, as_float32(bias)


def _in_best_groups(experts: Experts, ranked: Array) -> NDArray[np.bool_]:
    """(t, e): True for the experts of the best groups, ranked by their best one or two experts."""
    if experts.groups == 1:
        return np.ones(ranked.shape, bool)
    grouped = ranked.reshape(len(ranked), experts.groups, -1)  # (t, groups, e / groups)
    best = 2 if experts.group_score == "top2" else 1
    group_score = np.sort(grouped, axis=2)[:, :, -best:].sum(axis=2)  # (t, groups)
    allowed = np.zeros(group_score.shape, bool)
    np.put_along_axis(allowed, largest(group_score, experts.chosen_groups), True, axis=1)
    return np.repeat(allowed, grouped.shape[2], axis=1)
