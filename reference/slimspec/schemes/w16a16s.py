"""W16A16S: float weights and activations, the weights made sparse; stored dense."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32
from slimspec.quantize.affine import require_finite

from .base import Scheme, register
from .forward import float_product
from .records import Linear, Options, QuantizedLinear


@register
class W16A16S(Scheme):
    """The weight as the sparse solver left it, in the dtype of the float model; only parameters.

    Source: formats.md 3.2 W16A16S, 5.12 SP-005; math.md 7.3.
    """

    label = "W16A16S"

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Take a linear whose weight is sparse already."""
        return self.assemble(linear, linear.weight, options)

    def assemble(self, linear: Linear, weight: NDArray, options: Options) -> QuantizedLinear:
        """Return the record of a sparse weight. Raises: ValueError for NaN and infinity."""
        require_finite(weight, f"{linear.name}.weight")
        return QuantizedLinear(self.label, weight, bias=linear.bias, name=linear.name)

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return the weight as float32."""
        return as_float32(q.weight)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y = x · wᵀ + bias, in the dtype of x."""
        return float_product(x, q.weight, q.bias)
