"""The smoothing scale of one subgraph by anti_method, as each producer finds it.

Source: math.md 8.1 (V0), 8.2 (V1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.model import Architecture
from slimspec.numeric import as_float32, to_dtype
from slimspec.quantize.awq import (
    linear_loss,
    mean_magnitude,
    running_mean_magnitude,
    search_awq,
)
from slimspec.smooth.flex import FlexLoss, search_alpha_beta
from slimspec.smooth.flex_awq import FlexAwqLoss, search_flex_awq
from slimspec.smooth.fold import value_rows_scale
from slimspec.smooth.lowbit import lowbit_scale, search_lowbit_alpha, smoothing_loss
from slimspec.smooth.outlier_mask import mask_scale
from slimspec.smooth.outlier_suppression import Statistics, search_scale
from slimspec.smooth.scales import (
    grouped_max_scale,
    grouped_mean,
    signed_weight_scale,
    smooth_scale,
    weight_scale,
)
from slimspec.sparse.lowbit import LowBitOptions, quantize_lowbit

from .settings import LOWBIT, V1_ALPHA, Settings, SmoothStep

ALPHA = 0.5  # m1, and m4 on models the Calibrator API is told
ITER_ALPHA = 0.9  # m4
TOLD = ("qwen3", "qwen3_moe")
_DECIDING = 3  # linears behind one norm that flex_awq_ssz searches with


class Scales(NamedTuple):
    """Scale of the consumers' columns [k], and of what the source makes: [k], or its rows [n]."""

    columns: NDArray
    source: NDArray


def told(architecture: Architecture) -> bool:
    """True for models whose parts the Calibrator API is told, layer by layer; others it traces.

    Those are smoothed back to front, and m4 takes other values. Source: the calls of `iter_smooth`
    and `flex_smooth` of runs on Qwen3 and Qwen3-MoE; msmodelslim
    pytorch/llm_ptq/model/deepseek_v2/deepseek_v2.py.
    """
    return architecture.latent is not None or architecture.model_type in TOLD


def find_scales(
    kind: str,
    architecture: Architecture,
    settings: Settings,
    seen: Statistics,
    batches: Sequence[NDArray],
    consumers: list[NDArray],
    rows: int,
    loss: Callable[[NDArray], float] | None = None,
) -> Scales:
    """Return the scales of one subgraph.

    Args: kind: norm-linear, ov or up-down; batches: inputs of the consumers; consumers: their
        weights [n_i, k]; rows: of the source's weight; loss: of a scale, for awq and m2.
    """
    if settings.anti_method == "awq":
        assert loss is not None
        points = settings.service.n_grid
        scale = search_awq(running_mean_magnitude(batches), loss, points)[0]
        return Scales(scale, _value_rows(scale, architecture) if kind == "ov" else scale)
    heads, kv_heads = architecture.heads, architecture.kv_heads
    if architecture.latent:
        kv_heads = heads
    if kind != "ov":
        scale = _scale(kind, architecture, settings, seen, batches, consumers, loss)
        return Scales(scale, scale)
    if settings.variant == "v0" and settings.anti_method != "m6":
        scale = _scale(kind, architecture, settings, seen, batches, consumers, loss)
        value_rows = scale.size if architecture.latent else rows
        columns, values = value_rows_scale(scale, value_rows, heads)
    elif settings.anti_method == "flex_awq_ssz":
        mean, alpha = _flex_awq(settings, batches, consumers)
        columns, values = grouped_max_scale(
            mean, weight_scale(consumers), alpha, 0.0, heads, kv_heads
        )
    elif settings.anti_method == "m6":
        alpha, beta = _exponents(settings, batches, consumers)
        joined = weight_scale(consumers)
        columns, values = grouped_max_scale(seen.absmax, joined, alpha, beta, heads, kv_heads)
    else:
        scale = _scale(kind, architecture, settings, seen, batches, consumers, loss)
        columns, values = grouped_mean(scale, heads, kv_heads)
    return Scales(columns, _value_rows(values, architecture))


def _value_rows(values: NDArray, architecture: Architecture) -> NDArray:
    """Rows of the source: in latent attention each head's keys, which stay, before its values."""
    latent = architecture.latent
    if latent is None:
        return values
    per_head = values.reshape(architecture.heads, latent.value)
    keys = np.ones((architecture.heads, latent.nope), values.dtype)
    return np.concatenate([keys, per_head], axis=1).reshape(-1)


def _scale(
    kind: str,
    architecture: Architecture,
    settings: Settings,
    seen: Statistics,
    batches: Sequence[NDArray],
    consumers: list[NDArray],
    loss: Callable[[NDArray], float] | None,
) -> NDArray:
    method, a = settings.anti_method, seen.absmax
    if settings.variant == "v1":
        own = kind == "norm-linear"
        if method == "flex_awq_ssz":
            mean, alpha = _flex_awq(settings, batches, consumers)
            return smooth_scale(mean, weight_scale(consumers), alpha, 0.0)
        if method == "m6":
            alpha, beta = _exponents(settings, batches, consumers)
            return smooth_scale(a, weight_scale(consumers), alpha, beta)
        w = weight_scale(consumers) if own else signed_weight_scale(consumers[0])
        if own:  # its norms give float32
            a = as_float32(a) if settings.service.symmetric else shifted_peaks(batches)
        return _by_alpha(settings.service, a, w)
    if method == "m1":
        return smooth_scale(a, weight_scale(consumers), ALPHA)
    if method == "m2":
        assert loss is not None
        return search_scale(seen, consumers, loss)
    if method == "m3":
        rows = seen.first.reshape(-1, seen.first.shape[-1])
        loss = linear_loss(rows, consumers, bits=settings.w_bit, symmetric=settings.w_sym)
        return search_awq(mean_magnitude(rows), loss)[0]
    if method == "m4":
        alpha = ALPHA if told(architecture) else ITER_ALPHA
        return smooth_scale(a, weight_scale(consumers), alpha)
    if method == "m5":
        low, high = _extremes(batches)
        return to_dtype(mask_scale(low, high), a.dtype)
    if method == LOWBIT:
        return _lowbit(seen, batches, consumers, settings.lowbit)
    if method == "m6":
        alpha, beta = _exponents(settings, batches, consumers)
        return smooth_scale(a, weight_scale(consumers), alpha, beta)
    raise CheckpointError(f"anti_method {method!r}: expected m1, m2, m3, m4, m5 or m6")


def _by_alpha(step: SmoothStep, a: NDArray, w: NDArray) -> NDArray:
    """The scale of smooth_quant and iter_smooth, in the dtype of the weights.

    Source: math.md 8.2; msmodelslim processor/anti_outlier/common/scale_computation.py:203-230.
    """
    alpha = V1_ALPHA[step.method] if step.alpha is None else step.alpha
    return to_dtype(smooth_scale(a, w, alpha, smallest=step.scale_min), w.dtype)


def shifted_peaks(batches: Sequence[NDArray]) -> NDArray[np.float32]:
    """Largest distance of each channel from its middle in what was seen so far, batch by batch.

    A batch belongs to what was seen when its own distances are taken. Source: math.md 8.2;
    msmodelslim processor/anti_outlier/iter_smooth/processor.py (IterStatsCollector).
    """
    peaks = []
    for seen in range(1, len(batches) + 1):
        x = as_float32(batches[seen - 1])
        peaks.append(np.abs(x - channel_middle(batches[:seen])).max(axis=0))
    return np.max(peaks, axis=0)


def channel_middle(batches: Sequence[NDArray]) -> NDArray[np.float32]:
    """(max + min) / 2 of each channel over all batches, in float32."""
    low, high = _extremes(batches)
    return (high + low) / np.float32(2)


def _lowbit(
    seen: Statistics,
    batches: Sequence[NDArray],
    consumers: list[NDArray],
    options: LowBitOptions,
) -> NDArray:
    """The scale of do_smooth, searched with the low-bit quantizer itself (math.md 7.1)."""
    shift = as_float32(seen.shift)
    x = np.concatenate([as_float32(batch) - shift for batch in batches])
    w = np.concatenate([as_float32(consumer) for consumer in consumers])
    a, peak = np.abs(x).max(axis=0), np.abs(w).max(axis=0)

    def fake(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        return quantize_lowbit(scaled, options).approximate

    def loss(alpha: float) -> float:
        return smoothing_loss(x, w, lowbit_scale(a, peak, alpha), fake)

    return to_dtype(lowbit_scale(a, peak, search_lowbit_alpha(loss)), seen.absmax.dtype)


def _flex_awq(
    settings: Settings, batches: Sequence[NDArray], consumers: list[NDArray]
) -> tuple[NDArray, float]:
    """mean|x| of all texts, and the alpha that suits; of many linears the first two decide."""
    rows = np.concatenate(list(batches))
    deciding = consumers if len(consumers) <= _DECIDING else consumers[:2]
    bits = settings.smoothing.w_bit if settings.smoothing else 4
    alpha = settings.service.alpha
    if alpha is None:
        alpha = search_flex_awq(FlexAwqLoss(rows, np.concatenate(deciding), bits=bits))
    return mean_magnitude(rows), alpha


def _extremes(batches: Sequence[NDArray]) -> tuple[NDArray, NDArray]:
    low = np.min([as_float32(x).min(axis=0) for x in batches], axis=0)
    high = np.max([as_float32(x).max(axis=0) for x in batches], axis=0)
    return low, high


def _exponents(
    settings: Settings, batches: Sequence[NDArray], consumers: list[NDArray]
) -> tuple[float, float]:
    """alpha and beta of m6: those given, those of the step, or the best ones."""
    if settings.exponents is not None:
        return settings.exponents
    step = settings.service if settings.variant == "v1" else None
    if step is not None and step.alpha is not None and step.beta is not None:
        return step.alpha, step.beta
    rows, joined = np.concatenate(list(batches)), np.concatenate(consumers)
    best = search_alpha_beta(FlexLoss(rows, joined, act_symmetric=step is not None))
    return best.alpha, best.beta
