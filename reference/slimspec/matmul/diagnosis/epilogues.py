"""What can differ in the dequantization epilogues."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.matmul.accumulate import narrow
from slimspec.matmul.deq_word import (
    OFFSET_MASK,
    OFFSET_SHIFT,
    SIGN_FLAG,
    parse_quant_param,
)
from slimspec.matmul.dequantize import add_float_bias, add_int32_bias, scaled
from slimspec.numeric import add, mul, round_fp19, round_half_even, truncate_fp19

from .choices import CASTS, NARROWINGS, ROUNDINGS, SCALES
from .engine import Op

F32 = np.float32
Bias = NDArray | None


def _whole(acc: NDArray, bias: Bias, multiply: Any) -> NDArray:
    """Normative: int32 bias in the accumulator (wrapping), float bias after the scale."""
    return add_float_bias(multiply(add_int32_bias(acc, bias).astype(F32)), bias)


def _saturating(acc: NDArray, bias: Bias, multiply: Any) -> NDArray:
    if bias is None or bias.dtype != np.int32:
        return _whole(acc, bias, multiply)
    total = narrow(acc.astype(np.int64) + bias, "saturate").value
    return multiply(total.astype(F32))


def _float_sum(acc: NDArray, bias: Bias, multiply: Any) -> NDArray:
    if bias is None:
        return multiply(acc.astype(F32))
    return multiply(add(acc.astype(F32), bias.astype(F32), F32))


def _after_scale(acc: NDArray, bias: Bias, multiply: Any) -> NDArray:
    y = multiply(acc.astype(F32))
    return y if bias is None else add(y, bias.astype(F32), F32)


BIASES = {
    "bias in its place": _whole,
    "int32 sum saturates instead of wrapping": _saturating,
    "bias added in float32 before the scale": _float_sum,
    "bias added after the scale": _after_scale,
    "bias ignored": lambda acc, bias, multiply: multiply(acc.astype(F32)),
}


def _dequantize(
    c: dict[str, Any], acc: NDArray, deq_scale: NDArray, quant_bias: Bias = None,
    out_dtype: DTypeLike = np.float16,
) -> NDArray:  # fmt: skip
    scale = c["scale"](np.asarray(deq_scale))
    return c["cast"](c["bias"](acc, quant_bias, lambda f: mul(f, scale, F32)), out_dtype)


DEQUANTIZE = Op("dequantize", {"scale": SCALES, "bias": BIASES, "cast": CASTS}, _dequantize)


def _per_token(
    c: dict[str, Any], acc: NDArray, weight_scale: NDArray, pertoken_scale: NDArray,
    bias: Bias = None, out_dtype: DTypeLike = np.float16,
) -> NDArray:  # fmt: skip
    channel, token = c["scale"](np.asarray(weight_scale)), pertoken_scale[:, None]
    return c["cast"](c["bias"](acc, bias, lambda f: c["order"](f, channel, token)), out_dtype)


ORDERS = {
    "scale first": lambda f, s, t: mul(mul(f, s, F32), t, F32),
    "order of scales: (pertoken·scale)·acc": lambda f, s, t: mul(f, mul(t, s, F32), F32),
    "order of scales: (acc·pertoken)·scale": lambda f, s, t: mul(mul(f, t, F32), s, F32),
    "per-token scale ignored": lambda f, s, t: mul(f, s, F32),
}
DEQUANTIZE_PER_TOKEN = Op(
    "dequantize_per_token",
    {"order": ORDERS, "scale": SCALES, "bias": BIASES, "cast": CASTS},
    _per_token,
)


def _requantize(
    c: dict[str, Any], acc: NDArray, scale: NDArray, offset: Any = None, quant_bias: Bias = None
) -> NDArray[np.int8]:
    scale = np.asarray(scale)
    if offset is None:
        words = scale.dtype.kind in "iu"
        offset = parse_quant_param(scale).offset if words else np.zeros(1, np.int32)
    y = scaled(add_int32_bias(acc, quant_bias), c["scale"](scale))
    return c["narrow"](c["steps"](y, np.asarray(offset).astype(F32), c["round"]), -128, 127)


def _nine(y: NDArray) -> NDArray:
    return np.clip(y, F32(-256), F32(255))


REQUANTIZE = Op(
    "requantize",
    {
        "steps": {
            "9-bit intermediate": lambda y, z, r: add(_nine(r(y)), _nine(round_half_even(z)), F32),
            "no 9-bit saturation": lambda y, z, r: add(r(y), _nine(round_half_even(z)), F32),
            "offset added before rounding": lambda y, z, r: r(add(y, z, F32)),
            "offset ignored": lambda y, z, r: _nine(r(y)),
        },
        "round": ROUNDINGS,
        "scale": SCALES,
        "narrow": NARROWINGS,
    },
    _requantize,
)


def _word(c: dict[str, Any], scale: Any, offset: Any = None) -> NDArray[np.uint64]:
    words = c["scale"](np.asarray(scale, F32)).view(np.uint32).astype(np.uint64) | c["flag"]
    if offset is None:
        return words
    rounded = c["round"](np.asarray(offset, F32))
    nine = c["clip"](rounded).astype(np.int64).view(np.uint64) & OFFSET_MASK
    return words | nine << OFFSET_SHIFT


TRANS_QUANT_PARAM = Op(
    "trans_quant_param",
    {
        "scale": {
            "FP19 truncated": truncate_fp19,
            "FP19 not truncated": lambda s: s,
            "FP19 rounded (round_mode 1)": round_fp19,
        },
        "flag": {"bit 46 set": SIGN_FLAG, "bit 46 not set": np.uint64(0)},
        "round": ROUNDINGS,
        "clip": {"saturates to 9 bits": _nine, "offset wraps at 9 bits": lambda z: z},
    },
    _word,
    {frozenset({"FP19 not truncated", "bit 46 not set"}): "bare float32 bits (checkpoint form)"},
)
