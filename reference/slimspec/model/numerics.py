"""Which dtype each step of a forward pass is rounded to.

Every operation computes in float32 and rounds its result once to the model dtype, which is what
torch does on a CPU; with float32 nothing is rounded again. The inner sums of products run in
`accumulate`: float32 as kernels do (the order of summation is that of the BLAS), or float64, where
the order all but disappears.

Source: math.md 1.8 (elementwise operations); pytorch aten/src/ATen/native/cpu/BlasKernel.cpp
(16-bit products accumulate in float32 and round once).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.swiglu import exp_float32
from slimspec.numeric import as_float32, div, model_dtype, mul, to_dtype

F32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Numerics:
    """The dtype policy of a forward pass.

    Attributes:
        dtype: of activations: float32, float16 or bfloat16.
        accumulate: of sums of products: float32 or float64.
    """

    dtype: np.dtype = F32
    accumulate: np.dtype = F32

    def __init__(self, dtype: DTypeLike = F32, accumulate: DTypeLike = F32) -> None:
        wide = np.dtype(accumulate)
        if wide not in (np.float32, np.float64):
            raise TypeError(f"accumulate: found {wide}, expected float32 or float64")
        object.__setattr__(self, "dtype", model_dtype(dtype))
        object.__setattr__(self, "accumulate", wide)

    def round(self, x: NDArray) -> NDArray:
        """Round once to the model dtype. Args: x (...) float. Returns: same shape, `dtype`."""
        return to_dtype(x, self.dtype)

    def product(self, x: NDArray, w: NDArray, bias: NDArray | None = None) -> NDArray:
        """T(x·wᵀ + bias): one rounding after the sum and the bias.

        Args:
            x: (..., t, k) float.
            w: (..., n, k) float.
            bias: (n,) float or None.

        Returns:
            (..., t, n) of `dtype`.
        """
        wide = self._wide(x) @ np.swapaxes(self._wide(w), -1, -2)
        if bias is not None:
            wide = wide + self._wide(bias)
        return self.round(wide.astype(F32, copy=False))

    def softmax(self, scores: NDArray) -> NDArray:
        """T(e^(s − max s) / Σ e^(s − max s)) over the last axis, inside in float32.

        Args: scores (..., s) float. Returns: same shape, `dtype`.
        """
        wide = as_float32(scores)
        e = exp_float32(wide - wide.max(axis=-1, keepdims=True))
        total = e.sum(axis=-1, keepdims=True, dtype=np.float64).astype(F32)
        return div(e, total, self.dtype)

    def silu(self, x: NDArray) -> NDArray:
        """T(x / (1 + e^−x)), inside in float32. Args: x (...) float. Returns: `dtype`.

        Source: pytorch aten/src/ATen/native/cpu/Activation.cpp (silu_kernel).
        """
        wide = as_float32(x)
        return div(wide, np.float32(1) + exp_float32(-wide), self.dtype)

    def swiglu(self, gate: NDArray, up: NDArray) -> NDArray:
        """T(silu(gate)·up) with silu rounded first. Args: (..., c) each. Returns: `dtype`."""
        return mul(self.silu(gate), up, self.dtype)

    def gelu(self, x: NDArray) -> NDArray:
        """T(x/2·(1 + erf(x/√2))), inside in float32. Args: x (...) float. Returns: `dtype`.

        Source: pytorch aten/src/ATen/native/cpu/Activation.cpp (GeluKernel, no approximation).
        """
        wide = as_float32(x)
        half = mul(wide, np.float32(0.5), F32)
        return mul(half, np.float32(1) + erf(mul(wide, np.float32(2**-0.5), F32)), self.dtype)

    def _wide(self, x: NDArray) -> NDArray:
        return as_float32(x).astype(self.accumulate, copy=False)


def erf(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """erf(x) = 2/√π · e^(−x²) · Σ_n 2^n·x^(2n+1) / (1·3·5···(2n+1)), rounded to float32.

    All terms have one sign, so nothing cancels; float64 inside. Past |x| = 4 the value is within
    2^-25 of ±1, which is ±1 in float32.

    Args: x (...) float32. Returns: float32, same shape.
    """
    wide = np.clip(x.astype(np.float64), -4.0, 4.0)
    square = 2.0 * wide * wide  # at most 32: 90 terms leave less than 1e-12 of the sum
    total = term = wide
    for n in range(1, 90):
        term = term * square / (2 * n + 1)
        total = total + term
    series = (2.0 / np.sqrt(np.pi)) * np.exp(-wide * wide) * total
    return np.where(np.abs(x) >= 4, np.sign(x), series).astype(F32)
