"""The loss of m2: how far a candidate scale moves what the linears behind a norm give together.

    y = x·Wᵀ + b;   ŷ = Q(x')·Wqᵀ + (b + shift·Wᵀ),  x' = (x - shift)/s
    one or two linears (gate, up):   mean (y - ŷ)² of the first alone
    three linears (q, k, v):         mean (A(q, k, v) - A(q̂, k̂, v̂))²

    A_g = softmax(q_g·kᵀ / √d)·v,  g = 0, 1, ..;  q_g the g-th d columns of q, d the columns of k

The attention is one of its own: every block of queries is a single head as wide as all keys
together, rows see all rows, nothing is turned by positions, no norm of queries or keys. Q is
asymmetric int8 per tensor; Wq clips W·s/s0, s0 = max|W·s|/127, to the int8 range and does not round
it (math.md 15, D-14). x is the first batch. Each operation rounds to the model's dtype; only the
errors of A, and their mean, are float32.

Source: the torch operations of the compiled `os_ln_fcs` of msmodelslim
(pytorch/llm_ptq/anti_outlier/anti_utils, snapshot 3de0a3c), traced in runs on a CPU with one to six
linears, with and without biases, in float32 and bfloat16. It refuses more than three. math.md 8.1
(m2) knows the first linear alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, div, mul, sub, to_dtype
from slimspec.numeric.power import power
from slimspec.numeric.reduction import cascade_mean
from slimspec.quantize.affine import code_range, codes, dequantize, qparams

from .fold import Affine
from .outlier_suppression import Statistics

MOST = 3  # linears behind one norm


class Products(Protocol):
    """Products and softmax of a forward pass in one dtype T, as `slimspec.model.Numerics` has."""

    def prepared(self, w: NDArray) -> NDArray[np.float32]:
        """A weight [n, k] as `product` reads it."""

    def product(self, x: NDArray, w: NDArray[np.float32], bias: NDArray | None = None) -> NDArray:
        """T(x·wᵀ + bias), [t, n]."""

    def batched(self, a: NDArray, b: NDArray) -> NDArray:
        """T(a·b), [t, n]."""

    def softmax(self, scores: NDArray) -> NDArray:
        """T(softmax) over the last axis."""


class OutputLoss:
    """The loss of a scale for one norm and its linears."""

    def __init__(self, seen: Statistics, linears: Sequence[Affine], products: Products) -> None:
        """Args: linears: weight [n_i, k], bias [n_i] or None, one dtype.

        Raises: ValueError for more than three linears, or three whose columns do not fit.
        """
        if not 1 <= len(linears) <= MOST:
            raise ValueError(
                f"m2: expected one to {MOST} linears behind a norm, {len(linears)} found"
            )
        if len(linears) == MOST:
            q, k, v = (len(linear.weight) for linear in linears)
            if q % k or v != k:
                raise ValueError(
                    f"m2: q, k, v have {q}, {k}, {v} rows: expected a multiple of k, k, k"
                )
        first = seen.first
        self._dtype, self._products = first.dtype, products
        self._compared = linears if len(linears) == MOST else linears[:1]
        self._texts = len(first.reshape(-1, *first.shape[-2:]))
        self._x = first.reshape(-1, first.shape[-1])
        self._moved = sub(self._x, seen.shift, self._dtype)
        self._biases = [self._with_shift(linear, seen.shift) for linear in self._compared]
        self._golden = self._joined([self._plain(linear) for linear in self._compared])

    def __call__(self, scale: NDArray) -> float:
        """Return the loss of a scale [k]."""
        x = self._fake_input(scale)
        outputs = []
        for linear, bias in zip(self._compared, self._biases, strict=True):
            w = clipped(mul(linear.weight, scale, self._dtype))
            outputs.append(self._products.product(x, self._products.prepared(w), bias))
        found = self._joined(outputs)
        error = sub(self._golden, found, found.dtype)
        return float(cascade_mean(mul(error, error, found.dtype).reshape(-1)))

    def _plain(self, linear: Affine) -> NDArray:
        return self._products.product(self._x, self._products.prepared(linear.weight), linear.bias)

    def _fake_input(self, scale: NDArray) -> NDArray:
        moved = div(self._moved, scale, self._dtype)
        step, zero = qparams(moved.min(), moved.max(), bits=8, symmetric=False, variant="v0")
        return dequantize(codes(moved, step, zero), step, zero)

    def _with_shift(self, linear: Affine, shift: NDArray) -> NDArray:
        moved = self._products.product(shift[None], self._products.prepared(linear.weight))[0]
        return moved if linear.bias is None else add(moved, linear.bias, self._dtype)

    def _joined(self, outputs: list[NDArray]) -> NDArray:
        """The output of one or two linears [t, n], or the attention of three."""
        if len(outputs) < MOST:
            return outputs[0]
        texts = zip(*(np.split(y, self._texts) for y in outputs), strict=True)
        return np.concatenate([attend_blocks(q, k, v, self._products) for q, k, v in texts])


def clipped(w: NDArray) -> NDArray:
    """Return clip(W/s0, -128, 127)·s0, s0 = max|W|/127 of the tensor: not rounded to integers.

    Args: w [n, k]. Returns: same shape and dtype. Source: math.md 15 (D-14).
    """
    step, _ = qparams(w.min(), w.max(), bits=8, symmetric=True, variant="v0")
    low, high = map(np.float32, code_range(8))
    ratio = np.clip(as_float32(div(w, step, w.dtype)), low, high)
    return mul(to_dtype(ratio, w.dtype), step, w.dtype)


def attend_blocks(q: NDArray, k: NDArray, v: NDArray, products: Products) -> NDArray[np.float32]:
    """Return softmax(q_g·kᵀ/√d)·v for each block of d columns of q, widened, side by side.

    Args: q [t, g·d], k [t, d], v [t, d], one dtype T; √d is T(√T(d)). Returns: [t, g·d] float32.
    Source: as the module.
    """
    dtype, width = q.dtype, k.shape[1]
    root = power(to_dtype(np.array([width], np.float32), dtype), 0.5)
    out = []
    for block in np.split(q, q.shape[1] // width, axis=1):
        scores = div(products.batched(block, k.T), root, dtype)
        out.append(as_float32(products.batched(products.softmax(scores), v)))
    return np.concatenate(out, axis=1)


__all__ = ["OutputLoss", "Products", "attend_blocks", "clipped"]
