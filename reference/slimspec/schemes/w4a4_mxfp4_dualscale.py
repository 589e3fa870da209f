"""W4A4_MXFP4_DUALSCALE: MXFP4 under a second, float scale per long block of columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32
from slimspec.quantize.mx_blocks import MxWeight, dequantize_mx, join_blocks, split_blocks
from slimspec.quantize.mxfp4 import quantize_mxfp4_dualscale

from .base import register
from .forward import float_product
from .records import Linear, Options, QuantizedLinear
from .w4a4_mxfp4 import W4A4MxFp4


@register
class W4A4MxFp4DualScale(W4A4MxFp4):
    """weight_dual_scale = max|w| / 6 of each long block, then MXFP4 of w / weight_dual_scale.

        ŵ = weight · weight_scale · weight_dual_scale;  the activation likewise, at run time

    The files hold no block size: a reader divides k by the number of dual scales, so that
    `dual_block` must divide k here.
    Source: formats.md 3.2 MX; msmodelslim core/quantizer/impl/dualscale.py:99-119,
    ir/w4a4_mx_dynamic_dualscale.py:31-75.
    """

    label = "W4A4_MXFP4_DUALSCALE"
    takes = frozenset({"dual_block"})

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Quantize on two levels.

        Raises: ValueError for a block that does not divide k or that is all zero.
        """
        k, block = linear.weight.shape[1], options.dual_block
        if block < 1 or k % block:
            raise ValueError(f"{linear.name}: dual_block {block} does not divide {k} columns")
        weight = quantize_mxfp4_dualscale(linear.weight, block, name=f"{linear.name}.weight")
        return self.assemble(linear, weight, options)

    def assemble(self, linear: Linear, weight: Any, options: Options) -> QuantizedLinear:
        """Return the record of a `DualScaleWeight`. Raises: ValueError for a dual scale of 0."""
        if not weight.dual_scale.all():
            at = tuple(int(i) for i in np.argwhere(weight.dual_scale == 0)[0])
            raise ValueError(
                f"{linear.name}.weight: all zero in row {at[0]}, dual block {at[1]}; its dual "
                "scale 0 would make every code NaN"
            )
        single = super().assemble(linear, MxWeight(weight.elements, weight.exponent), options)
        return replace(single, weight_dual_scale=weight.dual_scale[..., None])  # (n, d, 1)

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return ŵ [n, k] float32."""
        return scale_long_blocks(super().dequantize(q), q.need("weight_dual_scale"))

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x; a token block of zeros stays zero."""
        k, count = q.weight.shape[1], q.need("weight_dual_scale").shape[1]
        blocks = split_blocks(as_float32(x), k // count)  # (m, d, k // d)
        alive = np.abs(blocks).max(axis=-1, keepdims=True) > 0
        safe = join_blocks(np.where(alive, blocks, np.float32(1)), k)
        dual = quantize_mxfp4_dualscale(safe, k // count, name="input")
        inner = dequantize_mx(MxWeight(dual.elements, dual.exponent))
        wide = scale_long_blocks(inner, np.where(alive, dual.dual_scale[..., None], np.float32(0)))
        return float_product(wide, self.dequantize(q), q.bias, x.dtype)


def scale_long_blocks(x: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x · scale of its block. Args: x [n, k]; scale [n, d, 1], d divides k. Returns: [n, k].

    Raises: ValueError if the blocks cannot be told.
    """
    n, k = x.shape
    count = scale.shape[1]
    if scale.shape != (n, count, 1) or not count or k % count:
        raise ValueError(f"weight_dual_scale {scale.shape} does not cut {k} columns evenly")
    return (x.reshape(n, count, k // count) * scale).reshape(n, k)  # (n, d, k // d)
