"""W4A8_DYNAMIC: int4 weights, activations quantized to int8 per token at run time."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec import layout
from slimspec.numeric import as_float32, mul, to_dtype
from slimspec.numeric.reduction import cascade_sum
from slimspec.quantize.affine import Variant, group_view
from slimspec.quantize.minmax import IntegerWeight
from slimspec.quantize.weight_lowbit import TwoLevelWeight, quantize_two_level

from .base import register
from .forward import per_token_product
from .int4 import Int4Scheme
from .records import Linear, Options, QuantizedLinear

_PROFILES = {"v0": "A0", "v1": "A1"}  # whose savers know which parts of names, by the layouts


@register
class W4A8Dynamic(Int4Scheme):
    """Two levels with a group size ("v0"), one per row without ("v1").

        two levels  ŵ = (second · q) · weight_scale, second a positive integer, |second · q| <= 119
        one level   ŵ = q · weight_scale
        y = T((Σ q_x q_8 · weight_scale) · s_x + bias),  q_8 = second · q or q

    The device splits q_x into nibbles and adds 8·Σŵ back as `scale_bias`; the exact integers here
    need no such term. Source: math.md 5, 13.4; formats.md 3.2 W4A8_DYNAMIC.
    """

    label = "W4A8_DYNAMIC"
    takes = frozenset({"group_size", "method"})
    from_inputs = ("gptq",)
    row_multiple = 8  # engines view eight codes along n as one int32 (W4A8-017)

    def produce(self, linear: Linear, options: Options) -> QuantizedLinear:
        """Quantize on two levels for "v0", on one for "v1". Raises: ValueError for a mix."""
        if (options.variant == "v0") != (options.group_size > 0):
            raise ValueError(
                f"{linear.name}: {self.label} of {options.variant} with group_size "
                f"{options.group_size}; v0 needs groups, v1 has none"
            )
        if options.variant == "v1":
            return super().produce(linear, options)
        if options.method != "minmax":
            raise ValueError(f"{linear.name}: two levels are made by minmax, not {options.method}")
        weight = quantize_two_level(
            linear.weight, group_size=options.group_size, name=f"{linear.name}.weight"
        )
        return self.assemble_two_level(linear, weight)

    def assemble(self, linear: Linear, weight: IntegerWeight, options: Options) -> QuantizedLinear:
        """Return the record of a one-level weight from any solver."""
        scale = as_float32(weight.scale)
        return QuantizedLinear(
            self.label,
            weight.q,
            weight_scale=scale,
            weight_offset=np.zeros_like(scale),
            scale_bias=scale_bias(bias_terms(weight.q, scale), linear.name, options.variant),
            bias=linear.bias,
            name=linear.name,
        )

    def assemble_two_level(self, linear: Linear, weight: TwoLevelWeight) -> QuantizedLinear:
        """Return the record of a two-level weight; its scale_bias takes the scale in bfloat16."""
        return QuantizedLinear(
            self.label,
            weight.q,
            weight_scale=weight.scale,
            weight_offset=np.zeros_like(weight.scale),
            weight_scale_second=weight.second,
            weight_offset_second=np.zeros(weight.second.shape, np.int64),
            scale_bias=scale_bias(
                bias_terms(weight.q, weight.scale, weight.second), linear.name, "v0"
            ),
            bias=linear.bias,
            name=linear.name,
        )

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return ŵ [n, k] float32."""
        return mul(self._int8(q), as_float32(q.need("weight_scale")), np.float32)

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x, from exact integer sums."""
        return per_token_product(x, self._int8(q), q.need("weight_scale"), q.bias)

    def _int8(self, q: QuantizedLinear) -> NDArray[np.int8]:
        if q.weight_scale_second is None:
            return q.weight
        return level_one(q.weight, q.weight_scale_second)


def level_one(q: NDArray[np.int8], second: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return second · q as int8 [n, k]; |second · q| <= 119 by construction.

    Raises:
        ValueError: a product that int8 does not hold, of a damaged scale.
    """
    groups = group_view(q, q.shape[1] // second.shape[1])  # (n, k // g, g)
    wide = mul(groups, second[..., None], np.float32)
    if not (wide.min(initial=0) > -129 and wide.max(initial=0) < 128):  # NaN is neither
        row, group, _ = np.argwhere(~((wide > -129) & (wide < 128)))[0]
        found = f"{float(second[row, group])!r} at [{row}, {group}]"
        raise ValueError(f"weight_scale_second: found {found}; expected its products within int8")
    return wide.astype(np.int8).reshape(q.shape)


def bias_terms(
    q: NDArray[np.int8], scale: NDArray[np.float32], second: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return what scale_bias sums: q · scale, or on two levels second · q · bfloat16(scale).

    Args: q [n, k]; scale [n, 1]; second [n, k/g]. Returns: float32 [n, k].
    Source: complex_quantifier.py:338-344; ascendv1.py:428-430.
    """
    if second is None:
        return mul(q, scale, np.float32)
    rounded = as_float32(to_dtype(scale, ml_dtypes.bfloat16))
    return mul(level_one(q, second), rounded, np.float32)


def scale_bias_chunks(name: str, variant: Variant) -> int | None:
    """Return how many sums a row of scale_bias has, by the name of the linear; None: no sum.

    16 chunks of k serve up to 16 ranks. Source: math.md 5; msmodelslim save/utils/pack.py:68-91.
    """
    shape = layout.rules(W4A8Dynamic.label, _PROFILES[variant])["scale_bias"].shape_of(name)
    return None if shape is None else int(shape[1])


def scale_bias(w: NDArray, name: str, variant: Variant) -> NDArray:
    """Return 8 · Σ_k ŵ, summed as the name of the linear asks.

    [n, 1] for up, gate, q, k, v ("v1" also w1, w3); [n, 16] over 16 chunks of k for down and o
    ("v1" also w2); any other name keeps ŵ [n, k] unsummed and without the 8 (defect D-15).
    Args: w the dequantized weight [n, k], float32 or bfloat16. Returns: its dtype.
    Raises: ValueError if 16 does not divide k of a row-parallel linear.
    Source: math.md 5; msmodelslim save/utils/pack.py:68-91, complex_quantifier.py:192-211.
    """
    n, k = w.shape
    chunks = scale_bias_chunks(name, variant)
    if chunks is None:
        return w
    if k % chunks:
        raise ValueError(f"{name}: {k} columns do not make {chunks} chunks for scale_bias")
    return mul(cascade_sum(w.reshape(n, chunks, k // chunks)), 8, w.dtype)
