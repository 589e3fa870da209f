"""W8A8_MIX (pdmix): prefill quantizes activations per token, decode uses the static parameters."""

from __future__ import annotations

from numpy.typing import NDArray

from .base import register
from .forward import per_token_product
from .records import QuantizedLinear
from .w8a8 import W8A8


@register
class W8A8Mix(W8A8):
    """The tensors of W8A8 and of W8A8_DYNAMIC together.

    `forward` is the decode path of W8A8, `prefill` the one of W8A8_DYNAMIC.
    Source: math.md 4.3; formats.md 3.2 W8A8_DYNAMIC / W8A8_MIX.
    """

    label = "W8A8_MIX"

    def prefill(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x, with activations per token."""
        return per_token_product(x, q.weight, q.need("weight_scale"), q.bias)
