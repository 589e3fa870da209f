"""SVD: a float branch of low rank beside a quantized linear (*_SVD labels)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import add, as_float32, sub

from .base import register_wrapper
from .forward import float_product
from .records import QuantizedLinear
from .wrapper import Wrapper


@register_wrapper("SVD")
class Svd(Wrapper):
    """svd_lowrank_l1 [r, k] and svd_lowrank_l2 [n, r] beside the tensors of `inner`.

        inner quantizes w - T(l2 · l1), rounded to the dtype T of the model
        y = inner.forward(x) + T(T(x · l1ᵀ) · l2ᵀ)

    The producer subtracts the product of the factors before it rounds them to T, and finds them by
    a random projection: its weights come out of the stored factors up to that rounding.
    Source: formats.md 3.2 SVD; msmodelslim processor/svd_residual/processor.py:131-160,206-226.
    """

    required: ClassVar[tuple[str, ...]] = ("svd_lowrank_l1", "svd_lowrank_l2")

    def change_weight(self, w: NDArray, parts: Mapping[str, NDArray]) -> NDArray:
        """Return w - T(l2 · l1) in T."""
        l1, l2 = (parts[suffix] for suffix in self.required)
        if l1.ndim != 2 or l2.ndim != 2 or (l2.shape[0], l1.shape[1]) != w.shape:
            raise ValueError(f"svd_lowrank_l2 {l2.shape} · l1 {l1.shape} is not {w.shape}")
        return sub(w, float_product(l2, l1.T, dtype=w.dtype), w.dtype)

    def restore_weight(self, w: NDArray[np.float32], q: QuantizedLinear) -> NDArray[np.float32]:
        """Return w + l2 · l1 in float32."""
        return w + as_float32(q.need("svd_lowrank_l2")) @ as_float32(q.need("svd_lowrank_l1"))

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        low = float_product(x, q.need("svd_lowrank_l1"))
        branch = float_product(low, q.need("svd_lowrank_l2"))
        return add(self.inner.forward(self.unwrap(q), x), branch, x.dtype)
