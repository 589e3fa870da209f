"""W4A8_MXFP: MXFP4 weights, MXFP8 activations."""

from __future__ import annotations

from numpy.typing import NDArray

from slimspec.quantize.mx_blocks import MxWeight
from slimspec.quantize.mxfp8 import quantize_mxfp8

from .base import register
from .w4a4_mxfp4 import W4A4MxFp4


@register
class W4A8MxFp(W4A4MxFp4):
    """The tensors of W4A4_MXFP4 under another label; the activation keeps 8 bits.

    Source: formats.md 3.2 MX; msmodelslim save/ascendv1.py:503-519, ir/w4a8_mx_dynamic.py:66-96.
    """

    label = "W4A8_MXFP"

    def quantize_input(self, x: NDArray) -> MxWeight:
        """Return MXFP8 of an activation."""
        return quantize_mxfp8(x, name="input")
