"""What the MX types share: elements on a small float grid, one power of two per 32 columns."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric.arithmetic import mul
from slimspec.numeric.e8m0 import e8m0_to_float32
from slimspec.quantize.mx_blocks import MxWeight, dequantize_mx, join_blocks, split_blocks

from .base import Scheme
from .forward import float_product
from .records import Linear, Options, QuantizedLinear


class MxScheme(Scheme):
    """Elements [n, k] and one E8M0 byte per block of 32 columns, its value 2^(byte - 127).

        ŵ = element · weight_scale of its block
        y = T(Σ x̂ ŵ + bias),  x̂ the activation quantized and dequantized in blocks of 32

    The sum is that of `float_product`. The last block of a row may be short.
    """

    takes = frozenset({"method"})

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Quantize the weight. Raises: ValueError for an unknown method, NaN or infinity."""
        return self.assemble(linear, self.solve(linear, options), options)

    @abstractmethod
    def solve(self, linear: Linear, options: Options) -> MxWeight:
        """Return elements and exponents of the weight."""

    @abstractmethod
    def quantize_input(self, x: NDArray) -> MxWeight:
        """Return elements and exponents of an activation [m, k]."""

    @abstractmethod
    def encode_blocks(self, weight: MxWeight) -> tuple[NDArray, NDArray[np.uint8]]:
        """Return element codes [n, k] and E8M0 bytes [n, ceil(k/32)]."""

    @abstractmethod
    def element_values(self, weight: NDArray) -> NDArray[np.float32]:
        """Return the elements as float32, without loss."""

    def assemble(self, linear: Linear, weight: Any, options: Options) -> QuantizedLinear:
        """Return the record for the `MxWeight` of any solver."""
        elements, scale = self.encode_blocks(weight)
        return QuantizedLinear(
            self.label, elements, weight_scale=scale, bias=linear.bias, name=linear.name
        )

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return ŵ [n, k] float32; exact, but for products outside of float32 (infinite, or 0).

        Raises: ValueError for a scale that is no uint8 or does not cover the columns.
        """
        blocks = split_blocks(self.element_values(q.weight))  # (n, ceil(k / 32), 32)
        scale, expected = q.need("weight_scale"), blocks.shape[:2]
        if scale.dtype != np.uint8 or scale.shape != expected:
            raise ValueError(
                f"{q.name}: weight_scale is {scale.dtype} {scale.shape}, expected uint8 {expected}"
            )
        wide = mul(blocks, e8m0_to_float32(scale)[..., None], np.float32)
        return join_blocks(wide, q.weight.shape[-1])

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        wide = dequantize_mx(self.quantize_input(x))
        return float_product(wide, self.dequantize(q), q.bias, x.dtype)
