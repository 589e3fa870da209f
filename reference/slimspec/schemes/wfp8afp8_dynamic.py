"""WFP8AFP8_DYNAMIC: E4M3 weights per row, activations rounded to E4M3 per token at run time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, mul, to_dtype
from slimspec.quantize.fp8 import fp8_scale, fp8_values, quantize_fp8, to_e4m3

from .base import Scheme, register
from .records import Linear, Options, QuantizedLinear


@register
class WFp8AFp8Dynamic(Scheme):
    """One float scale per row of the weight; nothing of the activation is stored.

        weight_scale = max(max|w|, 1e-12) / 448 in the dtype of the model, weight_offset = 0
        weight = e4m3(clip(w / weight_scale, ±448))
        y = T((Σ x_8 w_8 · weight_scale) · s_x + bias),  s_x = max(max|x|, 1e-12) / 448 per token

    Products of E4M3 values are multiples of 2^-18 below 2^18: their sum is exact in float64 for up
    to 2^17 columns. The producer's own simulation takes s_x over the tokens of a batch instead
    (defect D-5), the label means tokens.
    Source: math.md 12; formats.md 3.2 FP8; msmodelslim ir/w8a8_fp_dynamic.py:63-76.
    """

    label = "WFP8AFP8_DYNAMIC"

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Quantize the weight row by row."""
        weight = quantize_fp8(linear.weight, f"{linear.name}.weight")
        return self.assemble(linear, weight, options)

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return ŵ = weight · weight_scale in float32, [n, k]."""
        return mul(q.weight.astype(np.float32), q.need("weight_scale"), np.float32)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        wide = as_float32(x)
        token = fp8_scale(np.abs(wide).max(axis=1, keepdims=True))  # (m, 1) float32
        x8 = to_e4m3(fp8_values(wide, token)).astype(np.float64)
        acc = (x8 @ q.weight.astype(np.float64).T).astype(np.float32)
        y = mul(mul(acc, q.need("weight_scale").reshape(-1), np.float32), token, np.float32)
        return to_dtype(y if q.bias is None else y + as_float32(q.bias), x.dtype)
