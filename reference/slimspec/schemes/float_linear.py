"""FLOAT: a linear that stays as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32

from .base import Scheme, register
from .forward import float_product
from .records import Linear, Options, QuantizedLinear


@register
class Float(Scheme):
    """Weight and bias keep the dtype of the float model. Source: formats.md 3.2 FLOAT."""

    label = "FLOAT"

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Return the linear unchanged."""
        return QuantizedLinear(self.label, linear.weight, bias=linear.bias, name=linear.name)

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return the weight as float32."""
        return as_float32(q.weight)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y = x · wᵀ + bias, in the dtype of x."""
        return float_product(x, q.weight, q.bias)
