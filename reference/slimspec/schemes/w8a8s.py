"""W8A8S: static int8 whose weights were made sparse; stored dense, without a weight scale."""

from __future__ import annotations

from dataclasses import replace

from slimspec.quantize.minmax import IntegerWeight
from slimspec.sparse.lowbit import LowBitOptions, w8a8s_weight

from .base import register
from .records import Linear, Options, QuantizedLinear
from .w8a8 import W8A8


@register
class W8A8S(W8A8):
    """The arithmetic of W8A8 on weights whose bulk lies within ±7.

        q_x = clip(rint(x / input_scale + input_offset)),  acc = Σ q_x q_w
        y   = T((acc + quant_bias) · deq_scale)

    Methods: "minmax", s = max|w| / 7 without outliers (open_outlier=False); "lowbit", outliers past
    3 standard deviations of |w| (use_sigma). Other masks, and the co-sparse solver, give their
    integers to `assemble`.
    Source: formats.md 3.2 W8A8S, 5.12 SP; math.md 7.1, 7.2.
    """

    label = "W8A8S"
    takes = W8A8.takes
    methods = ("minmax", "lowbit")

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Return the record with low-bit weights. Raises: ValueError for an unknown method."""
        if options.method not in self.methods:
            raise ValueError(f"method {options.method!r}: expected minmax or lowbit")
        lowbit = LowBitOptions(
            open_outlier=options.method == "lowbit",
            use_sigma=True,
            per_channel=not options.per_tensor,
        )
        try:
            weight = w8a8s_weight(linear.weight, lowbit)
        except ValueError as error:
            raise ValueError(f"{linear.name}.{error}") from None
        return self.assemble(linear, weight, options)

    def assemble(self, linear: Linear, weight: IntegerWeight, options: Options) -> QuantizedLinear:
        """Return the record without the weight scale, which no writer stores."""
        found = super().assemble(linear, weight, options)
        return replace(found, weight_scale=None, weight_offset=None)
