"""W4A4_MXFP4: MXFP4 weights and MXFP4 activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from slimspec.layout import TensorRule
from slimspec.numeric.e8m0 import exponent_to_e8m0
from slimspec.numeric.fp4 import fp4_to_float32, nearest_fp4
from slimspec.pack.fp4 import pack_fp4, unpack_fp4
from slimspec.quantize.mx_blocks import MxWeight
from slimspec.quantize.mxfp4 import Method, quantize_mxfp4

from .base import register
from .mx import MxScheme
from .records import Linear, Options, QuantizedLinear


@register
class W4A4MxFp4(MxScheme):
    """Methods minmax, ceil_x and fouroversix choose the exponent; all write the same tensors.

    Activations always take minmax. Another divisor than the default of ceil_x goes through
    `quantize_mxfp4` and `assemble`.
    Source: math.md 12; formats.md 3.2 MX; msmodelslim save/ascendv1.py:463-479.
    """

    label = "W4A4_MXFP4"
    bits = 4
    methods = get_args(Method)

    def solve(self, linear: Linear, options: Options) -> MxWeight:
        """Return MXFP4 of the weight."""
        method = cast(Method, options.method)
        return quantize_mxfp4(linear.weight, method, name=f"{linear.name}.weight")

    def quantize_input(self, x: NDArray) -> MxWeight:
        """Return MXFP4 of an activation."""
        return quantize_mxfp4(x, name="input")

    def encode_blocks(self, weight: MxWeight) -> tuple[NDArray, NDArray[np.uint8]]:
        """Return E2M1 codes uint8 [n, k], one per byte, and E8M0 bytes."""
        return nearest_fp4(weight.elements), exponent_to_e8m0(weight.exponent)

    def element_values(self, weight: NDArray) -> NDArray[np.float32]:
        """Return E2M1 codes as float32."""
        return fp4_to_float32(weight)

    def pack(self, q: QuantizedLinear, suffix: str, rule: TensorRule) -> NDArray:
        """Return the array of one suffix, two codes of the weight in a byte."""
        array = q.need(suffix)
        return pack_fp4(array, f"{q.name}.weight") if suffix == "weight" else array

    def unpack(self, weight: NDArray, tensors: Mapping[str, NDArray], rule: TensorRule) -> NDArray:
        """Undo `pack` for the weight."""
        return unpack_fp4(weight)
