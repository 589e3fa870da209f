"""GPTQ: quantize column by column and push each column's error into the columns to its right.

    H = 2/N Σ xᵀx + damping;  U = upper Cholesky factor of H⁻¹
    e = (w_i - ŵ_i) / U_ii;   w_j -= e·U_ij  for j >= i

H and U are computed in float64 and rounded to the dtype of the weight; the sweep runs in that
dtype. The producers factor H in float32 with the library of their CPU, whose pivots are no IEEE
roots: with its factors every integer of the recorded runs comes out from their inputs, with ours a
few do not; a float32 factor in a plain order is no nearer.

Two producers differ in the Hessian, in what happens to the scales afterwards, and in dtypes
(math.md 3.3):

v0  only the first calibration batch counts (D-7); per-channel and per-tensor scales are computed
    again, by min-max, from the compensated weight; any model dtype.
v1  all batches count, as the linear reads them: quantized and brought back where its type quantizes
    inputs; scales are those of the original weight; float32 only.
In both, a group's scale comes from the weight as it was when the group's block began.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, div, mul, sub, to_dtype

from .affine import Variant, codes, dequantize, group_view, qparams, quantize, require_finite
from .inverse_factor import inverse_root
from .minmax import Granularity, IntegerWeight

PERCDAMP = 0.01
BLOCK = 128
Params = tuple[NDArray, NDArray]
Hessian = NDArray[np.float64]


def hessian_first_batch(x: NDArray) -> Hessian:
    """Return H = 2/B Σ xᵀx of one batch (v0). Args: x [B, t, k] or [t, k] (B = 1)."""
    rows = _scaled_rows(x, 2 / x.shape[0] if x.ndim == 3 else 2.0)
    return rows.T @ rows


class RunningHessian:
    """H = 2/N Σ xᵀx over the N tokens of all batches so far (v1), as a running mean.

    Attributes: h: float64 [k, k]; tokens: N.
    Source: msmodelslim core/quantizer/impl/gptq.py:53-68.
    """

    def __init__(self, k: int) -> None:
        self.h: Hessian = np.zeros((k, k), np.float64)
        self.tokens = 0

    def add(self, x: NDArray) -> None:
        """Add a batch [t, k] or [B, t, k]; one without tokens changes nothing."""
        new = x.size // len(self.h)
        if not new:
            return
        self.h *= self.tokens / (self.tokens + new)
        self.tokens += new
        rows = _scaled_rows(x, 2 / self.tokens)
        self.h += rows.T @ rows


def hessian_all_batches(batches: Sequence[NDArray]) -> Hessian:
    """Return the running mean of all batches (v1). Args: batches [t, k] or [B, t, k]."""
    running = RunningHessian(batches[0].shape[-1])
    for x in batches:
        running.add(x)
    return running.h


def _scaled_rows(x: NDArray, square: float) -> NDArray[np.float64]:
    """Return sqrt(square)·x as rows [t, k]: rounded to float32, held in float64."""
    require_finite(x, "calibration input")
    rows = as_float32(x).reshape(-1, x.shape[-1]) * np.float32(np.sqrt(square))
    return rows.astype(np.float64)


def inverse_factor(h: Hessian, percdamp: float = PERCDAMP) -> Hessian:
    """Return U, upper triangular, with UᵀU = (H + percdamp·mean(diag H)·I)⁻¹.

    Columns that no input reaches (H_ii = 0) get H_ii = 1 first. No column is permuted.
    Raises: ValueError if the damped H is not positive definite.
    """
    h = h.copy()
    diagonal = np.einsum("ii->i", h)
    diagonal[diagonal == 0] = 1
    diagonal += percdamp * diagonal.mean()
    return inverse_root(h)


@dataclass(frozen=True)
class GptqOptions:
    """How a weight is quantized, apart from its Hessian; see `quantize_gptq`."""

    variant: Variant
    bits: int = 8
    symmetric: bool = True
    granularity: Granularity = "channel"
    group_size: int = 0
    percdamp: float = PERCDAMP
    block_size: int = BLOCK


def quantize_gptq(
    w: NDArray,
    batches: Sequence[NDArray],
    *,
    bits: int = 8,
    symmetric: bool = True,
    variant: Variant,
    granularity: Granularity = "channel",
    group_size: int = 0,
    percdamp: float = PERCDAMP,
    block_size: int = BLOCK,
    name: str = "weight",
) -> IntegerWeight:
    """Quantize `w` so that the outputs on the calibration inputs change little.

    Args: w [n, k] float32, float16 or bfloat16 ("v1": float32); batches of inputs [t, k] or
    [B, t, k]; granularity and group_size as in `quantize_minmax`.
    Returns: q int8 [n, k] in [-2^(bits-1), 2^(bits-1) - 1]; scale, offset [n, 1], [1] or [n, k/g].
    Raises: ValueError for NaN, Inf, no batch, a bad group size or a Hessian that cannot be
    factored; TypeError for a 16-bit weight in "v1", which the producer refuses too.
    Source: math.md 3.3; msmodelslim core/quantizer/impl/gptq.py:53-245, 370-460.
    """
    if not len(batches):
        raise ValueError(f"{name}: GPTQ needs at least one calibration batch")
    h = hessian_first_batch(batches[0]) if variant == "v0" else hessian_all_batches(batches)
    options = GptqOptions(variant, bits, symmetric, granularity, group_size, percdamp, block_size)
    return solve_gptq(w, h, options, name)


def solve_gptq(w: NDArray, h: Hessian, how: GptqOptions, name: str = "weight") -> IntegerWeight:
    """As `quantize_gptq`, from the Hessian [k, k] of the inputs."""
    require_finite(w, name)
    if how.variant == "v1" and w.dtype != np.float32:
        raise TypeError(f"{name}: v1 GPTQ takes float32 weights, found {w.dtype}")
    u = to_dtype(inverse_factor(h, how.percdamp).astype(np.float32), w.dtype)
    start = np.where(np.diag(h) == 0, np.zeros_like(w), w)

    def parameters(x: NDArray) -> Params:
        """Return scale and offset over the last axis of x, or over all of it."""
        lo, hi = x.min(axis=-1), x.max(axis=-1)
        if how.granularity == "tensor":
            lo, hi = lo.min(keepdims=True), hi.max(keepdims=True)
        return qparams(
            lo, hi, bits=how.bits, symmetric=how.symmetric, variant=how.variant, name=name
        )

    if how.granularity == "group":
        groups = group_view(w, how.group_size).shape[1]
        moved, scale, offset = _sweep_groups(start, u, parameters, how, groups)
        view = moved.reshape(w.shape[0], groups, -1)  # (n, k // g, g)
        q = quantize(view, scale[..., None], offset[..., None], bits=how.bits, name=name)
        return IntegerWeight(q.reshape(w.shape), scale, offset)

    fixed = parameters(w)
    moved = _sweep(start, u, lambda column, outer: fixed, how)
    scale, offset = parameters(moved) if how.variant == "v0" else fixed
    if how.granularity == "channel":
        scale, offset = scale[:, None], offset[:, None]
    q = quantize(moved, scale, offset, bits=how.bits, name=name)
    return IntegerWeight(q, scale, offset)


def _sweep_groups(
    w: NDArray,
    u: NDArray,
    parameters: Callable[[NDArray], Params],
    how: GptqOptions,
    groups: int,
) -> tuple[NDArray, NDArray, NDArray]:
    """Sweep with fresh parameters at the first column of every group.

    Returns: the compensated, dequantized weight [n, k], scale and offset [n, k/g].
    """
    size = w.shape[1] // groups
    found: list[Params] = []

    def of_column(column: int, outer: NDArray) -> Params:
        if column % size == 0:
            found.append(parameters(outer[:, column : column + size]))
        return found[-1]

    moved = _sweep(w, u, of_column, how)
    scales, offsets = zip(*found, strict=True)
    return moved, np.stack(scales, axis=1), np.stack(offsets, axis=1)


def _sweep(
    w: NDArray,
    u: NDArray,
    parameters: Callable[[int, NDArray], Params],
    how: GptqOptions,
) -> NDArray:
    """Return ŵ [n, k] in the dtype of `w`, column by column, in blocks.

    Within a block an error reaches the block's columns at once; the columns behind it are updated
    when the block is done, and `parameters(column, outer)` sees only that outer state.
    Args: w [n, k]; u [k, k], same dtype.
    """
    outer, dtype = w.copy(), w.dtype
    k, block, bits = w.shape[1], how.block_size, how.bits
    for start in range(0, k, block):
        stop = min(start + block, k)
        inner = outer[:, start:stop].copy()  # (n, block)
        errors = np.zeros_like(inner)
        done = np.zeros_like(inner)
        for i in range(stop - start):
            scale, offset = parameters(start + i, outer)
            done[:, i] = dequantize(codes(inner[:, i], scale, offset, bits=bits), scale, offset)
            row = u[start + i, start + i : stop]
            errors[:, i] = div(sub(inner[:, i], done[:, i], dtype), row[0], dtype)
            push = mul(errors[:, i, None], row, dtype)  # (n, block - i)
            inner[:, i:] = sub(inner[:, i:], push, dtype)
        outer[:, start:stop] = done
        push = as_float32(errors) @ as_float32(u[start:stop, stop:])  # (n, k - stop)
        outer[:, stop:] = sub(outer[:, stop:], to_dtype(push, dtype), dtype)
    return outer
