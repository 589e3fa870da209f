"""Which dtype each step of a forward pass is rounded to.

Every operation computes in float32 and rounds its result once to the model dtype, which is what
torch does on a CPU; with float32 nothing is rounded again. Sums of products run in the orders of
`sums`, so that results do not depend on the machine or on threads; those of bfloat16 are the ones
of a CPU that is named.

Source: math.md 1.8 (elementwise operations); pytorch aten/src/ATen/native/cpu/BlasKernel.cpp
(16-bit products accumulate in float32 and round once, after the bias).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.numeric import add, as_float32, div, model_dtype, mul, to_dtype

from .exponential import LANES, exp_sleef, exp_vectors, lane_sum
from .sums import blocked, chained, dot, paired, single, tiled

F32 = np.dtype(np.float32)
Cpu = Literal["amx", "avx512"]
CPUS: tuple[Cpu, ...] = ("amx", "avx512")


@dataclass(frozen=True, init=False)
class Numerics:
    """The dtype policy of a forward pass.

    Attributes:
        dtype: T, of weights and activations: float32, float16 or bfloat16.
        cpu: whose sums of bfloat16 products: one with AMX, or with AVX-512 alone.
    """

    dtype: np.dtype
    cpu: Cpu

    def __init__(self, dtype: DTypeLike = F32, cpu: Cpu = "amx") -> None:
        object.__setattr__(self, "dtype", model_dtype(dtype))
        object.__setattr__(self, "cpu", cpu)

    def round(self, x: NDArray) -> NDArray:
        """Round once to T. Args: x (...) float. Returns: same shape, of T."""
        return to_dtype(x, self.dtype)

    def prepared(self, w: NDArray) -> NDArray[np.float32]:
        """A weight (n, k) as `product` reads it: rounded to T, widened, (k, n)."""
        return np.ascontiguousarray(as_float32(self.round(w)).T)

    def product(self, x: NDArray, w: NDArray[np.float32], bias: NDArray | None = None) -> NDArray:
        """T(x·wᵀ + bias): one rounding after the sum and the bias.

        Args: x (t, k) of T; w as `prepared`; bias (n,) float or None. Returns: (t, n) of T.
        """
        b = None if bias is None else as_float32(self.round(bias))
        if self.dtype == F32:
            return single(as_float32(x), w, b)
        y = dot(as_float32(x), w.T) if len(x) == 1 else self._sums(x, w)
        return self.round(y) if b is None else add(y, b, self.dtype)

    def batched(self, a: NDArray, b: NDArray) -> NDArray:
        """T(a·b), the product of one head. Args: a (t, k), b (k, n) of T. Returns: (t, n) of T."""
        if self.dtype == F32:
            return blocked(a, b)
        return self.round(self._sums(a, as_float32(b)))

    def _sums(self, a: NDArray, b: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.dtype == np.float16:
            return chained(as_float32(a), b)
        return (tiled if self.cpu == "amx" else paired)(as_float32(a), b)

    def softmax(self, scores: NDArray) -> NDArray:
        """T(e^(s − max s) · (1 / Σ e^(s − max s))) over the last axis, inside in float32.

        Args: scores (..., s) float. Returns: same shape, `dtype`.
        Source: pytorch aten/src/ATen/native/cpu/SoftMaxKernel.cpp (vec_host_softmax_lastdim).
        """
        wide = as_float32(scores)
        e = exp_sleef(wide - wide.max(axis=-1, keepdims=True))
        total = lane_sum(e.reshape(-1, e.shape[-1]), tail_in_lanes=True)
        inverse = np.float32(1) / total.reshape(*e.shape[:-1], 1)
        return mul(e, inverse, self.dtype)

    def silu(self, x: NDArray) -> NDArray:
        """T(x / (1 + e^−x)), inside in float32. Args: x (...) float. Returns: `dtype`.

        Source: pytorch aten/src/ATen/native/cpu/Activation.cpp (silu_kernel).
        """
        wide = as_float32(x)
        lanes = LANES if x.dtype == F32 else 2 * LANES
        return div(wide, np.float32(1) + exp_vectors(-wide, lanes), self.dtype)

    def sigmoid(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """1 / (1 + e^−x) in float32, whatever T. Args: x (...). Returns: same shape.

        Source: pytorch aten/src/ATen/native/cpu/UnaryOpsKernel.cpp (sigmoid_kernel).
        """
        return np.float32(1) / (np.float32(1) + exp_vectors(-x, LANES))

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
