"""W8A8_MXFP8: MXFP8 weights and MXFP8 activations."""

from __future__ import annotations

from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from slimspec.quantize.mx_blocks import MxWeight
from slimspec.quantize.mxfp8 import Method, mxfp8_tensors, quantize_mxfp8

from .base import register
from .mx import MxScheme
from .records import Linear, Options


@register
class W8A8MxFp8(MxScheme):
    """Methods minmax and mse_round choose the exponent of a block; both write the same tensors.

    Source: math.md 12; formats.md 3.2 MX; msmodelslim save/ascendv1.py:405-421.
    """

    label = "W8A8_MXFP8"
    methods = get_args(Method)

    def solve(self, linear: Linear, options: Options) -> MxWeight:
        """Return MXFP8 of the weight."""
        method = cast(Method, options.method)
        return quantize_mxfp8(linear.weight, method, name=f"{linear.name}.weight")

    def quantize_input(self, x: NDArray) -> MxWeight:
        """Return MXFP8 of an activation."""
        return quantize_mxfp8(x, name="input")

    def encode_blocks(self, weight: MxWeight) -> tuple[NDArray, NDArray[np.uint8]]:
        """Return elements float8_e4m3fn [n, k] and E8M0 bytes."""
        return mxfp8_tensors(weight)

    def element_values(self, weight: NDArray) -> NDArray[np.float32]:
        """Return E4M3 elements as float32."""
        return weight.astype(np.float32)
