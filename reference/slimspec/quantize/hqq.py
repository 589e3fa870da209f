"""HQQ (V0): scales by half-quadratic splitting under an l_p norm of the error, p < 1.

    Ŵ = (q - z)·s;  e = W - Ŵ;  T = W - shrink(e);  s = Σ q·T / Σ q²;  beta *= kappa;  repeat

    shrink(e) = sign(e)·max(|e| - |e|^(p-1) / beta, 0)

All in float32; the result is stored as float16 (math.md 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, round_half_even
from slimspec.numeric.power import power
from slimspec.numeric.reduction import cascade_mean, cascade_sum, fused_dot

from .affine import Variant, code_range, dequantize, group_view, quantize, require_finite
from .minmax import Granularity, IntegerWeight, quantize_minmax
from .weight_lowbit import group_params

Array = NDArray[np.float32]


@dataclass(frozen=True)
class HqqOptions:
    """What is solved for and how: `scale` (the tool's only use) and `zero`."""

    scale: bool = True
    zero: bool = False
    p: float = 0.7
    beta: float = 10.0
    kappa: float = 1.01
    rounds: int = 20


GROUPS = HqqOptions(rounds=10)


def optimize_hqq(
    w: NDArray,
    scale: NDArray,
    offset: NDArray,
    *,
    bits: int,
    per_tensor: bool = False,
    options: HqqOptions | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Improve scale and offset until the mean absolute error grows.

    scale:  s = Σ q·T / ‖q‖² per row (per tensor: over all). The offset is ignored here.
    offset: z = round_half_even(mean(q - T·s)) per row: the producer multiplies by s where the
            algebra wants a division (math.md 15, D-11).
    Args: w [n, k] float32/float16/bfloat16; scale, offset [n, 1] or [1].
    Returns: scale and offset, float16, shape as given ([n, 1] from rows). With a row of zeros no
    round is better than the start. Raises: ValueError for NaN or Inf in w.
    Source: math.md 3.4 (legacy optimize_weights_proximal).
    """
    options = options or HqqOptions()
    require_finite(w, "weight")
    wide, s, z = as_float32(w), as_float32(scale), as_float32(offset)
    best, beta = (s, z), options.beta
    with np.errstate(all="ignore"):
        q, approximate, smallest = _quantized(wide, s, z, bits)
        for _ in range(options.rounds):
            target = wide - _shrink(wide - approximate, beta, options.p)
            if options.scale:
                s = _best_scale(q, target, per_tensor)
            if options.zero:
                z = _best_offset(q - target * s, per_tensor)
            beta *= options.kappa
            q, approximate, error = _quantized(wide, s, z, bits)
            if not error < smallest:
                break
            best, smallest = (s, z), error
        return best[0].astype(np.float16), best[1].astype(np.float16)


def quantize_hqq(
    w: NDArray,
    *,
    bits: int,
    symmetric: bool = True,
    per_tensor: bool = False,
    variant: Variant = "v0",
    name: str = "weight",
) -> IntegerWeight:
    """Quantize the rows of `w`, or all of it, with HQQ scales, started from min-max.

    Args: w [n, k]. Returns: q int8 [n, k] in [-2^(bits-1), 2^(bits-1) - 1], from the float16 scale
    and offset [n, 1] or [1]: a float16 weight is divided in float16, any other in float32.
    Raises: ValueError for NaN or Inf, with `name` and index. Source: math.md 3.4.
    """
    granularity: Granularity = "tensor" if per_tensor else "channel"
    start = quantize_minmax(
        w, bits=bits, symmetric=symmetric, variant=variant, granularity=granularity, name=name
    )
    scale, offset = optimize_hqq(w, start.scale, start.offset, bits=bits, per_tensor=per_tensor)
    q = quantize(w, scale, offset, bits=bits)
    return IntegerWeight(q, scale, offset)


def quantize_hqq_groups(
    w: NDArray, *, bits: int, group_size: int, symmetric: bool = True, name: str = "weight"
) -> IntegerWeight:
    """Quantize low-bit groups with HQQ scales, started from those of `group_params`.

    The g columns of one group are solved for all rows together, with one stop, in 10 rounds.
    Args: w [n, k]. Returns: as `quantize_hqq`; scale and offset float16 [n, k/g].
    Raises: ValueError for NaN, Inf or a group size that does not divide k.
    Source: measured: tensors and torch operations of the tool's runs (is_lowbit with w_method HQQ).
    """
    require_finite(w, name)
    groups = group_view(w, group_size)  # (n, k // g, g)
    found = []
    for j in range(groups.shape[1]):
        columns = np.ascontiguousarray(as_float32(groups[:, j]))
        scale, offset = group_params(columns, bits, symmetric=symmetric)
        found.append(optimize_hqq(columns, scale, offset, bits=bits, options=GROUPS))
    scale, offset = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    q = quantize(groups, scale[..., None], offset[..., None], bits=bits, name=name)
    return IntegerWeight(q.reshape(w.shape), scale, offset)


def _quantized(w: Array, s: Array, z: Array, bits: int) -> tuple[Array, Array, np.float32]:
    """Return codes, their values and the mean absolute error.

    A row whose scale became 0 or NaN makes the error NaN (0 / 0), which ends the search for all.
    """
    low, high = code_range(bits)
    q = np.clip(round_half_even(w / s + z), np.float32(low), np.float32(high))
    approximate = dequantize(q, s, z)
    return q, approximate, np.float32(cascade_mean(np.abs(w - approximate).reshape(-1)))


def _shrink(e: Array, beta: float, p: float) -> Array:
    size = np.abs(e)
    shrunk = size - np.float32(1.0 / beta) * power(size, p - 1)
    return np.sign(e) * np.maximum(shrunk, np.float32(0))


def _best_scale(q: Array, target: Array, per_tensor: bool) -> Array:
    """The products of rows are the diagonal of q·Tᵀ; per tensor its trace, summed in float64."""
    product = fused_dot(q, target)
    if per_tensor:
        product = product.sum(keepdims=True, dtype=np.float64).astype(np.float32)
        q = q.reshape(1, -1)
    norm = np.sqrt(cascade_sum(q * q))
    scale = product / (norm * norm)
    return scale if per_tensor else scale[:, None]


def _best_offset(difference: Array, per_tensor: bool) -> Array:
    mean = cascade_mean(difference)
    if per_tensor:
        mean = cascade_mean(mean)[None]
    offset = round_half_even(mean)
    return offset if per_tensor else offset[:, None]
