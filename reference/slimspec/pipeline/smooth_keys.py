"""Smaller keys for an int8 cache (kv_smooth): a scale goes from what makes keys to the queries.

    a = max |k| over all texts, after rotation, per channel;   s = max(a_i, a_{i + d/2})^factor
    k / s,  q · s     so that q·k stays; both halves of a rotated pair share a scale

With norms behind the projections (Qwen3) the norms take one scale for all heads, the largest;
without (Qwen2) the rows of k_proj and q_proj take those of their head, and so do the biases.

Source: msmodelslim processor/kv_smooth/processor.py; get_kvcache_smooth_fused_subgraph of
model/qwen2, model/qwen2_5 and model/qwen3/model_adapter.py, the only ones that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.model import Architecture
from slimspec.numeric import as_float32, div, mul, to_dtype
from slimspec.numeric.power import power

from .calibration.source import FoldedWeights

BY_NORM = {"qwen2": False, "qwen3": True}  # model_type -> its norms take the scale


def check_keys(a: Architecture) -> None:
    """Raises: CheckpointError: a model whose cache the service does not smooth."""
    if a.model_type not in BY_NORM:
        known = " and ".join(BY_NORM)
        raise CheckpointError(
            f"{a.where}: kv_smooth: found {a.model_type}, the service has it for {known} only"
        )


def key_scale(keys: Sequence[NDArray], factor: float, *, shared: bool) -> NDArray:
    """Return the scale of keys, in their dtype: [kv, d], or [1, d] if `shared` by all heads.

    Args: keys: (kv, t, d) per text, after rotation. A channel without keys gets scale 1.
    """
    peak = np.max([np.abs(as_float32(k)).max(axis=1) for k in keys], axis=0)  # (kv, d)
    pairs = peak.reshape(len(peak), 2, -1).max(axis=1)  # (kv, d / 2)
    if shared:
        pairs = pairs.max(axis=0, keepdims=True)
    scale = as_float32(power(to_dtype(pairs, keys[0].dtype), factor))
    scale = np.where(scale > 0, scale, np.float32(1))
    return to_dtype(np.concatenate([scale, scale], axis=1), keys[0].dtype)


def smooth_keys(
    weights: FoldedWeights, a: Architecture, module: str, keys: Sequence[NDArray], factor: float
) -> None:
    """Fold the scale of one attention into `weights`. Args: as `key_scale`."""
    by_norm = BY_NORM[a.model_type]
    scale = key_scale(keys, factor, shared=by_norm)
    if by_norm:
        queries, names = scale, ("k_norm", "q_norm")
    else:
        queries, names = np.repeat(scale, a.heads // a.kv_heads, axis=0), ("k_proj", "q_proj")
    for name, rows, fold in zip(names, (scale, queries), (div, mul), strict=True):
        for part in ("weight", "bias"):
            tensor = f"{module}.{name}.{part}"
            if tensor in weights:
                weights.folds[tensor].append(partial(_rows, fold=fold, scale=rows.reshape(-1)))


def _rows(x: NDArray, fold: object, scale: NDArray) -> NDArray:
    assert callable(fold)
    return fold(x, scale.reshape(-1, *[1] * (x.ndim - 1)), x.dtype)


__all__ = ["check_keys", "key_scale", "smooth_keys"]
