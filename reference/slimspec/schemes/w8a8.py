"""W8A8: int8 weights, int8 activations with static per-tensor parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul import dequantize as dequantize_accumulator
from slimspec.matmul import matmul_int8
from slimspec.matmul.quantize_static import quantize_static
from slimspec.numeric import as_float32, div, mul, round_half_even, sub, to_dtype
from slimspec.numeric.arithmetic import BFLOAT16
from slimspec.quantize.activation import activation_qparams
from slimspec.quantize.affine import Variant, common_dtype, dequantize_rows
from slimspec.quantize.minmax import IntegerWeight

from .base import Scheme, register
from .records import InputParams, Linear, Options, QuantizedLinear

_INT32_MIN = np.int32(-(2**31))


@register
class W8A8(Scheme):
    """Static activations; the matmul's epilogue is folded into deq_scale and quant_bias.

        q_x = clip(rint(x / input_scale + input_offset)),  acc = Σ q_x q_w
        y   = T((acc + quant_bias) · deq_scale)

    Source: math.md 4.1, 13.1; formats.md 3.0 (3, 4), 3.2 W8A8.
    """

    label = "W8A8"
    takes = frozenset(
        {"per_tensor", "activation_range", "activation_symmetric", "input_params", "method"}
    )
    from_inputs = ("gptq",)

    def assemble(self, linear: Linear, weight: IntegerWeight, options: Options) -> QuantizedLinear:
        """Add the static parameters and the epilogue. Raises: ValueError without a range."""
        given = _input_params(linear, options)
        deq_scale, quant_bias = epilogue(weight, given, linear.bias, options.variant)
        return QuantizedLinear(
            self.label,
            weight.q,
            weight_scale=weight.scale,
            weight_offset=weight.offset,
            input_scale=given.scale,
            input_offset=given.offset,
            deq_scale=deq_scale,
            quant_bias=quant_bias,
            bias=linear.bias,
            name=linear.name,
        )

    def dequantize(self, q: QuantizedLinear) -> NDArray[np.float32]:
        """Return ŵ; where no weight_scale is stored it is deq_scale / input_scale in float32."""
        if q.weight_scale is not None:
            return super().dequantize(q)
        scale = div(q.need("deq_scale"), as_float32(q.need("input_scale")), np.float32)
        scale = scale.reshape(-1, 1)  # (n, 1)
        return dequantize_rows(q.weight, scale, np.zeros_like(scale))

    def forward(self, q: QuantizedLinear, x: NDArray) -> NDArray:
        """Return y [m, n] for x [m, k], in the dtype of x."""
        codes = quantize_static(x, q.need("input_scale"), q.need("input_offset"))
        acc = matmul_int8(codes, q.weight)
        return dequantize_accumulator(acc, q.need("deq_scale"), q.need("quant_bias"), x.dtype)


def _input_params(linear: Linear, options: Options) -> InputParams:
    """Return what was given, or make it from the range; "v0" narrows it for a bfloat16 model.

    A range from a histogram is float32 also in 16-bit models. Source: math.md 2.1.
    """
    if (options.input_params is None) == (options.activation_range is None):
        raise ValueError(f"{linear.name}: give either activation_range or input_params")
    if options.input_params is not None:
        return options.input_params
    assert options.activation_range is not None
    lo, hi = options.activation_range
    scale, offset = activation_qparams(
        lo,
        hi,
        symmetric=options.activation_symmetric,
        variant=options.variant,
        name=f"{linear.name} input",
    )
    if options.variant == "v0" and linear.weight.dtype == BFLOAT16:
        scale, offset = to_dtype(scale, BFLOAT16), to_dtype(offset, BFLOAT16)
    return InputParams(scale, offset)


def epilogue(
    weight: IntegerWeight, given: InputParams, bias: NDArray | None, variant: Variant
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return deq_scale float32 [n] (or [1]) and quant_bias int32 [n].

        d          = input_scale · weight_scale in their dtype;   deq_scale = float32(d)
        quant_bias = int32(round_half_even(bias / d - Σ_k q_w · input_offset))

    `bias / d` is rounded to float32 ("v0") or to the dtype of bias and d ("v1"); no bias counts as
    0. Two different dtypes meet in float32. In float16 d is mostly subnormal, and bias / d may pass
    the largest float16: the integer is then garbage, as in the files (defect D-31). The sum over k
    is exact, its conversion to float32 rounds past 2^24.
    Source: math.md 4.1; formats.md 3.0 (3, 4).
    """
    d = mul(given.scale, weight.scale.reshape(-1), common_dtype(given.scale, weight.scale))
    row_sums = weight.q.sum(axis=1, dtype=np.int64)
    ratio_dtype = np.float32 if variant == "v0" or bias is None else common_dtype(bias, d)
    return as_float32(d), folded_bias(row_sums, given.offset, bias, d, ratio_dtype)


def folded_bias(
    row_sums: NDArray[np.int64],
    offset: NDArray,
    bias: NDArray | None,
    d: NDArray,
    ratio_dtype: DTypeLike,
) -> NDArray[np.int32]:
    """Return quant_bias int32 [n] = int32(round_half_even(bias / d - row_sums · offset)).

    `bias / d` is rounded to `ratio_dtype`, everything else to float32; no bias counts as 0, and
    where d is 0 too (an all-zero row in "v0", underflow in float16) the result is -2^31.

    Args: row_sums int64 [n]; offset float [1]; bias float [n] or None; d float [n] or [1].
    Source: math.md 4.1.
    """
    correction = mul(row_sums.astype(np.float32), as_float32(offset), np.float32)
    ratio = div(np.zeros(1, np.float32) if bias is None else bias, d, ratio_dtype)
    return to_int32(round_half_even(sub(ratio, correction, np.float32)))


def to_int32(x: NDArray[np.float32]) -> NDArray[np.int32]:
    """Convert as the producers' CPU does: NaN, infinity and overflow give -2^31.

    Args: x float32 integers. Source: math.md 4.1 (D-31); recorded saver outputs.
    """
    limit = np.float32(2**31)
    fits = (x >= -limit) & (x < limit)  # False for NaN
    return np.where(fits, np.where(fits, x, np.float32(0)).astype(np.int32), _INT32_MIN)
